#include "controller/core/alarm_book.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"

namespace sallyport::controller {

namespace {

// At the beginning of a character: it stays UTF-8.
void cut(std::string& text) {
  if (text.size() <= limits::kAlarmTextBytesMax) return;
  std::size_t size = limits::kAlarmTextBytesMax;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
  text.resize(size);
}

}  // namespace

AlarmBook::AlarmBook(Store& store, std::function<void(const AlarmRow&)> say)
    : store_(store), say_(std::move(say)), thread_([this] { run(); }) {}

AlarmBook::~AlarmBook() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

AlarmBook::Key AlarmBook::key_of(const AlarmRow& alarm) {
  return {alarm.application, alarm.kind, alarm.function, alarm.about};
}

void AlarmBook::raise(AlarmRow alarm) {
  const std::lock_guard lock(mutex_);
  counts_[{alarm.application, alarm.kind}] += alarm.count;
  cut(alarm.text);
  cut(alarm.about);
  Different& different = different_[{alarm.application, alarm.kind, alarm.function}];
  if (alarm.last >= different.since + limits::kAlarmsApart) different = {alarm.last, {}};
  if (different.abouts.size() < limits::kAlarmsDifferentMax) different.abouts.insert(alarm.about);
  if (!different.abouts.contains(alarm.about)) alarm.about = "others";
  if (waiting_.size() >= limits::kAlarmsWaitingMax && !waiting_.contains(key_of(alarm))) {
    alarm.function.clear();
    alarm.about = "many";
  }
  const bool first = waiting_.empty();
  const auto [at, is_new] = waiting_.try_emplace(key_of(alarm), alarm);
  if (!is_new) {
    at->second.count += alarm.count;
    at->second.last = std::max(at->second.last, alarm.last);
    at->second.text = std::move(alarm.text);
  }
  if (first) changed_.notify_all();
}

AlarmBook::Counts AlarmBook::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void AlarmBook::run() {
  std::unique_lock lock(mutex_);
  for (bool last = false; !last;) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    last = stopping_;
    std::map<Key, AlarmRow> waiting = std::exchange(waiting_, {});
    lock.unlock();
    write(waiting);
    lock.lock();
    // What could not be stored stays: nothing is lost while the disk is full.
    for (auto& [key, alarm] : waiting) {
      const auto [at, is_new] = waiting_.try_emplace(key, alarm);
      if (!is_new) at->second.count += alarm.count;
    }
    if (!last) changed_.wait_for(lock, limits::kAlarmsTogether, [this] { return stopping_; });
  }
}

// Leaves what could not be stored.
void AlarmBook::write(std::map<Key, AlarmRow>& waiting) {
  for (auto at = waiting.begin(); at != waiting.end();) {
    const auto& [key, alarm] = *at;
    Time& said = said_[key];
    if (alarm.last >= said + limits::kAlarmsApart) say_(alarm);
    said = alarm.last;
    at = store_.raise(alarm, limits::kAlarmsApart) ? waiting.erase(at) : std::next(at);
  }
  if (said_.size() > limits::kAlarmsWaitingMax) said_.clear();  // some are said again
}

}  // namespace sallyport::controller
