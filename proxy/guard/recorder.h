#pragma once
// Takes the records from the workers and, on a thread of its own, writes the log, the terminal lines, the metrics, the
// draft.

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "proxy/guard/record.h"

namespace sallyport::guard {

// Receives every record, in order, on the recorder's thread.
using RecordSink = std::function<void(const Record&)>;

class Recorder {
 public:
  explicit Recorder(std::vector<RecordSink> sinks, std::function<void()> flush);
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  ~Recorder();  // writes what is left

  // Any thread. Moves the batch in and empties it. Blocks while limits::kRecordsQueuedMax wait to be written: a slow
  // disk slows the function down rather than losing records. One that fails is the log's to report (Guard::flush_log).
  void submit(std::vector<Record>& batch);

 private:
  void run();
  std::vector<RecordSink> sinks_;
  std::function<void()> flush_;
  std::mutex mutex_;
  std::condition_variable changed_, drained_;
  std::vector<Record> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sallyport::guard
