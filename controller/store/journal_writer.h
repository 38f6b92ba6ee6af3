#pragma once
// Writes what comes in, on a thread of its own: all that has come while the last turn was being written is one turn, so
// that the cost of a commit is shared by whoever comes at once, and one that comes alone does not wait for others.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "controller/store/store.h"

namespace sallyport::controller {

class JournalWriter {
 public:
  // Called on the writer's thread when the entry is durable.
  using Done = std::function<void()>;
  // Why a decided ask could not be stored: it must not be answered with what was decided.
  using Failed = std::function<void(const Error&)>;
  // `on_trouble` says what is wrong when writing fails, and says an empty text when it works again.
  JournalWriter(Store& store, std::function<void(const std::string&)> on_trouble);
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;
  ~JournalWriter();  // writes what is left, once

  // Any thread. Events that cannot be written stay and are tried again each limits::kStoreRetryDelay: nobody is told
  // that they are stored until they are.
  void append(EventBatch&& batch, Done done);
  // While the store cannot be written, or too much waits, it fails at once, on the caller's thread: fails closed.
  void append(DecidedAsk&& ask, Done done, Failed failed);
  // The same: it is not told its id before that is stored.
  void append(GuardRow&& guard, Done done, Failed failed);
  // Waits until all that was appended is stored. False: it could not be, or took longer than `at_most`.
  bool drain(std::chrono::milliseconds at_most);
  // So much waits (limits::kStoreQueuedBytesMax) that no more events may be taken from guards until some of it is
  // written. Asks fail meanwhile.
  bool full() const;
  // Whether the last turn could be written.
  bool working() const;

 private:
  struct Waiting {
    Store::Entry entry;
    std::size_t bytes = 0;
    Done done;
    Failed failed;
  };
  void run();
  void write(std::vector<Waiting>& turn);
  void append_asked(Store::Entry&& entry, std::size_t bytes, Done done, Failed failed);
  bool takes_asks() const;
  void fail_asks(std::vector<Waiting>& turn, const Error& error);

  Store& store_;
  const std::function<void(const std::string&)> on_trouble_;
  mutable std::mutex mutex_;
  std::condition_variable changed_, written_;
  std::vector<Waiting> queue_;
  std::size_t bytes_ = 0;  // of what waits
  bool asked_ = false;     // somebody waits for an answer to it
  bool writing_ = false;   // what was in the queue
  bool stopping_ = false;
  std::string trouble_;  // why the last turn could not be written; empty: it could
  std::chrono::steady_clock::time_point try_again_{};
  std::thread thread_;
};

}  // namespace sallyport::controller
