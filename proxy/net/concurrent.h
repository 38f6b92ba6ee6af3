#pragma once
// A coroutine that runs beside the one that owns it: the second direction of an exchange or a tunnel. Its frame ends
// with its owner's at the latest, so it may refer to its owner's locals.

#include <coroutine>
#include <exception>

#include "proxy/net/loop.h"
#include "proxy/net/task.h"

namespace sallyport::net {

class Concurrent {
 public:
  explicit Concurrent(Loop& loop) : done_(loop) {}
  Concurrent(const Concurrent&) = delete;
  Concurrent& operator=(const Concurrent&) = delete;
  ~Concurrent() {
    if (frame_) frame_.destroy();
  }

  // Once per object. Runs the task to its first wait before it returns.
  void start(Task<void> task) { frame_ = run(*this, std::move(task)).handle; }
  bool running() const { return frame_ && !done_.is_set(); }
  // Wait::ready once the task has ended, at once if it was never started.
  Event::Awaiter join(Deadline deadline) {
    if (!frame_) done_.set();
    return done_.wait(deadline);
  }
  // The exception that the task ended with, if it did: for after join().
  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  struct Frame {
    struct promise_type : PooledFrame {
      Frame get_return_object() noexcept { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
      std::suspend_never initial_suspend() const noexcept { return {}; }
      std::suspend_always final_suspend() const noexcept { return {}; }
      void return_void() const noexcept {}
      void unhandled_exception() const noexcept { std::terminate(); }  // run() catches everything
    };
    std::coroutine_handle<promise_type> handle;
  };

  static Frame run(Concurrent& self, Task<void> task) {
    try {
      co_await std::move(task);
    } catch (...) {
      self.exception_ = std::current_exception();
    }
    self.done_.set();
  }

  Event done_;
  std::coroutine_handle<Frame::promise_type> frame_;
  std::exception_ptr exception_;
};

}  // namespace sallyport::net
