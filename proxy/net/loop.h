#pragma once
// One worker's event loop: level-triggered epoll, each descriptor registered once (docs/decisions/0002). Everything
// here is single-threaded but for post() and stop(). The data path touches it through a seam of four calls: attach (the
// Socket's constructor), wait_readable, wait_writable, and the destructor.

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>

#include "base/unique_fd.h"
#include "proxy/net/task.h"
#include "proxy/net/waiter.h"

namespace sallyport::net {

class Loop;
class Socket;

namespace detail {
struct Registration;
}

// A descriptor in the loop. Not movable: waiters point to it. The descriptor is made non-blocking. If the kernel does
// not take it into the loop (out of memory or of epoll watches) the socket is born cancelled.
class Socket {
 public:
  Socket(Loop& loop, UniqueFd fd);
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket();  // wakes nobody: whoever waits must be gone, or be destroyed with it. Must go before its Loop

  int fd() const { return fd_.get(); }
  Loop& loop() const { return loop_; }

  class WaitAwaiter {
   public:
    WaitAwaiter(Socket& socket, bool readable, Deadline deadline);
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> coroutine);
    Wait await_resume() const noexcept { return waiter_.outcome; }

   private:
    Socket& socket_;
    bool readable_;
    detail::Waiter waiter_;
  };

  // Suspends until the descriptor is readable (or hung up), the deadline has passed, or cancel(). Several coroutines
  // may wait at once. Deadlines are kept to within 20 ms.
  WaitAwaiter wait_readable(Deadline deadline) { return {*this, true, deadline}; }
  WaitAwaiter wait_writable(Deadline deadline) { return {*this, false, deadline}; }

  // Every present and later wait ends with Wait::cancelled.
  void cancel();
  bool cancelled() const { return cancelled_; }

  // Called, from the loop, when the descriptor becomes readable or hangs up while nobody waits to read; nullptr: the
  // event is masked until the next wait. A pooled connection uses it to notice that its peer went away. The callback
  // may destroy the Socket. It is called once; to hear of the next event it calls on_idle_event again.
  void on_idle_event(std::function<void()> callback);

 private:
  friend class Loop;
  bool interest(std::uint32_t events);
  void dispatch(std::uint32_t events);
  void idle_event();
  Loop& loop_;
  UniqueFd fd_;
  std::unique_ptr<detail::Registration> registration_;
  std::uint32_t armed_ = 0;  // what epoll reports; 0: not in epoll at all, as hang-ups can't be masked
  bool cancelled_ = false;
  detail::QueueLink readers_;
  detail::QueueLink writers_;
  std::function<void()> idle_callback_;
};

class Loop {
 public:
  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop();  // destroys what is still suspended: spawned tasks first

  // Runs until stop(). Calls itself back from nowhere: not reentrant.
  void run();
  void stop();                                // any thread
  void post(std::function<void()> function);  // any thread; runs on the loop's thread, in order

  // Starts a coroutine now and owns it until it ends. An exception that reaches its end, or leaves a posted function or
  // an idle callback, is handed to `on_exception` (log it; the session is over); without one it is dropped.
  void spawn(Task<void> task);
  std::function<void(std::exception_ptr)> on_exception;
  // Spawned and not ended: what a leak test counts. Any thread.
  std::size_t tasks() const { return tasks_.load(std::memory_order_relaxed); }

  // Destroys every spawned task that has not ended, where it is suspended: for an owner whose other parts must outlive
  // what the tasks hold. Not from within a task.
  void drop_tasks();

  // The time at the start of this batch of events: cheap, and good enough for deadlines.
  Deadline now() const { return now_; }
  Deadline in(Clock::duration duration) const { return now_ + duration; }

  class SleepAwaiter {
   public:
    SleepAwaiter(Loop& loop, Deadline until);
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> coroutine);
    void await_resume() const noexcept {}

   private:
    Loop& loop_;
    detail::Waiter waiter_;
  };
  SleepAwaiter sleep_until(Deadline until) { return {*this, until}; }

  // Lets every other coroutine that is ready have its turn, and new events come in.
  class YieldAwaiter {
   public:
    explicit YieldAwaiter(Loop& loop) : loop_(loop) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> coroutine);
    void await_resume() const noexcept {}

   private:
    Loop& loop_;
    detail::Waiter waiter_;
  };
  YieldAwaiter yield() { return YieldAwaiter(*this); }

 private:
  friend class Socket;
  friend class Event;
  struct Impl;
  struct Root;
  static Root own(Loop& loop, Task<void> task);
  std::unique_ptr<Impl> impl_;
  Deadline now_;
  std::atomic<std::size_t> tasks_ = 0;  // only the loop's thread writes
};

// Something that one coroutine waits for and another announces, on one thread. set() wakes the waiter from the loop,
// not from inside set(); stays set until reset().
class Event {
 public:
  explicit Event(Loop& loop) : loop_(loop) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void set();
  void reset() { set_ = false; }
  bool is_set() const { return set_; }

  class Awaiter;
  // Ends with Wait::ready or Wait::timeout. Several coroutines may wait at once.
  Awaiter wait(Deadline deadline);

 private:
  friend class Awaiter;
  Loop& loop_;
  bool set_ = false;
  detail::QueueLink waiters_;
};

class Event::Awaiter {
 public:
  Awaiter(Event& event, Deadline deadline);
  bool await_ready() const noexcept { return event_.set_; }
  void await_suspend(std::coroutine_handle<> coroutine);
  Wait await_resume() const noexcept { return waiter_.outcome; }

 private:
  Event& event_;
  detail::Waiter waiter_;
};

inline Event::Awaiter Event::wait(Deadline deadline) { return {*this, deadline}; }

}  // namespace sallyport::net
