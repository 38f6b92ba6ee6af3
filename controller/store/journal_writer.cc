#include "controller/store/journal_writer.h"

#include <iterator>
#include <utility>

#include "base/limits.h"

namespace sallyport::controller {

JournalWriter::JournalWriter(Store& store, std::function<void(const std::string&)> on_trouble)
    : store_(store), on_trouble_(std::move(on_trouble)), thread_([this] { run(); }) {}

JournalWriter::~JournalWriter() {
  {
    const std::scoped_lock guarded(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void JournalWriter::append(EventBatch&& batch, Done done) {
  {
    const std::scoped_lock guarded(mutex_);
    const std::size_t bytes = batch.events.size();
    bytes_ += bytes;
    queue_.push_back({{.events = std::move(batch)}, bytes, std::move(done), nullptr});
  }
  changed_.notify_one();
}

void JournalWriter::append(DecidedAsk&& ask, Done done, Failed failed) {
  const std::size_t bytes = ask.decided.size();
  append_asked({.decided = std::move(ask)}, bytes, std::move(done), std::move(failed));
}

void JournalWriter::append(GuardRow&& guard, Done done, Failed failed) {
  const std::size_t bytes = guard.instance.size();
  append_asked({.guard = std::move(guard)}, bytes, std::move(done), std::move(failed));
}

// While the store cannot be written, one each limits::kStoreRetryDelay finds out whether that is still so.
bool JournalWriter::takes_asks() const {
  if (bytes_ > limits::kStoreQueuedBytesMax) return false;
  return trouble_.empty() || (!asked_ && std::chrono::steady_clock::now() >= try_again_);
}

void JournalWriter::append_asked(Store::Entry&& entry, std::size_t bytes, Done done, Failed failed) {
  std::string why;
  {
    const std::scoped_lock guarded(mutex_);
    if (takes_asks()) {
      bytes += sizeof(Waiting);
      bytes_ += bytes;
      queue_.push_back({std::move(entry), bytes, std::move(done), std::move(failed)});
      asked_ = true;
    } else {
      why = trouble_.empty() ? "too much waits to be stored" : trouble_;
    }
  }
  if (why.empty()) return changed_.notify_one();
  failed({ErrorSource::controller, ErrorKind::unavailable, std::move(why)});
}

bool JournalWriter::drain(std::chrono::milliseconds at_most) {
  std::unique_lock guarded(mutex_);
  return written_.wait_for(guarded, at_most, [this] { return queue_.empty() && !writing_; });
}

bool JournalWriter::full() const {
  const std::scoped_lock guarded(mutex_);
  return bytes_ > limits::kStoreQueuedBytesMax;
}

bool JournalWriter::working() const {
  const std::scoped_lock guarded(mutex_);
  return trouble_.empty();
}

void JournalWriter::run() {
  std::unique_lock guarded(mutex_);
  while (true) {
    if (trouble_.empty()) {
      changed_.wait(guarded, [this] { return stopping_ || !queue_.empty(); });
    } else {
      changed_.wait_until(guarded, try_again_, [this] { return stopping_ || asked_; });
    }
    if (queue_.empty()) {
      if (stopping_) return;
      continue;
    }
    const bool last = stopping_;
    std::vector<Waiting> turn = std::exchange(queue_, {});
    asked_ = false;
    writing_ = true;
    guarded.unlock();
    write(turn);
    guarded.lock();
    writing_ = false;
    // What could not be written comes before what has come since.
    queue_.insert(queue_.begin(), std::make_move_iterator(turn.begin()), std::make_move_iterator(turn.end()));
    if (queue_.empty()) written_.notify_all();
    if (last) return;
  }
}

// Leaves in `turn` what has to be tried again.
void JournalWriter::write(std::vector<Waiting>& turn) {
  std::vector<Store::Entry> entries;
  entries.reserve(turn.size());
  std::size_t bytes = 0;
  for (Waiting& waiting : turn) {
    bytes += waiting.bytes;
    entries.push_back(std::move(waiting.entry));
  }
  const auto written = store_.append(entries);
  if (written) {
    for (Waiting& waiting : turn) waiting.done();
    turn.clear();
  } else {
    for (std::size_t i = 0; i < turn.size(); ++i) turn[i].entry = std::move(entries[i]);
    fail_asks(turn, written.error());
    for (const Waiting& kept : turn) bytes -= kept.bytes;
  }
  bool changed = false;
  {
    const std::scoped_lock guarded(mutex_);
    changed = trouble_.empty() != written.has_value();
    trouble_ = written ? std::string() : written.error().text;
    try_again_ = std::chrono::steady_clock::now() + limits::kStoreRetryDelay;
    bytes_ -= bytes;
  }
  if (changed) on_trouble_(written ? std::string() : written.error().text);
}

void JournalWriter::fail_asks(std::vector<Waiting>& turn, const Error& error) {
  std::erase_if(turn, [&](Waiting& waiting) {
    if (!waiting.failed) return false;
    waiting.failed(error);
    return true;
  });
}

}  // namespace sallyport::controller
