#include "proxy/guard/recorder.h"

#include "base/limits.h"

namespace sallyport::guard {

Recorder::Recorder(std::vector<RecordSink> sinks, std::function<void()> flush)
    : sinks_(std::move(sinks)), flush_(std::move(flush)), thread_([this] { run(); }) {}

Recorder::~Recorder() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Recorder::submit(std::vector<Record>& batch) {
  if (batch.empty()) return;
  {
    std::unique_lock lock(mutex_);
    drained_.wait(lock, [this] { return queue_.size() < limits::kRecordsQueuedMax; });
    if (queue_.empty()) {
      queue_.swap(batch);
    } else {
      std::move(batch.begin(), batch.end(), std::back_inserter(queue_));
    }
  }
  batch.clear();
  changed_.notify_one();
}

void Recorder::run() {
  std::vector<Record> batch;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      batch.swap(queue_);
    }
    drained_.notify_all();
    for (const Record& record : batch) {
      for (const RecordSink& sink : sinks_) sink(record);
    }
    batch.clear();
    if (flush_) flush_();
  }
}

}  // namespace sallyport::guard
