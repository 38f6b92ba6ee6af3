#include "proxy/net/loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <mutex>
#include <system_error>
#include <vector>

#include "proxy/net/timer_wheel.h"

namespace sallyport::net {

namespace {

constexpr std::uint32_t kRead = EPOLLIN | EPOLLRDHUP;
constexpr std::uint32_t kWrite = EPOLLOUT;
constexpr std::uint32_t kFailed = EPOLLERR | EPOLLHUP;
constexpr int kEventsPerBatch = 128;

struct InTasks;

UniqueFd checked(int fd, const char* what) {
  // tidy:allow(throws): a loop is made at start, and a guard that can't have one has nothing to fall back to
  if (fd < 0) throw std::system_error(errno, std::generic_category(), what);
  return UniqueFd(fd);
}

}  // namespace

// What epoll holds a pointer to. It outlives its socket until the batch of events is over, in which it may still be
// named.
struct detail::Registration {
  Socket* socket = nullptr;
};

struct Loop::Impl {
  explicit Impl(Deadline now) : timers(now) {}

  UniqueFd epoll = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  UniqueFd wake = checked(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
  detail::TimerWheel timers;
  detail::QueueLink ready;    // to be resumed in the next batch
  detail::QueueLink running;  // to be resumed in this one
  detail::Link<InTasks> tasks;
  std::vector<std::unique_ptr<detail::Registration>> graveyard;

  std::atomic<bool> stop = false;
  std::mutex posted_mutex;
  std::vector<std::function<void()>> posted;

  void make_ready(detail::Waiter& waiter, Wait outcome) {
    waiter.timer().unlink();
    waiter.outcome = outcome;
    ready.push_back(waiter);
  }

  void make_all_ready(detail::QueueLink& waiters, Wait outcome) {
    while (waiters.linked()) make_ready(detail::Waiter::of(waiters.next()), outcome);
  }

  void expire(Deadline now) {
    detail::TimerLink expired;
    timers.advance(now, expired);
    while (expired.linked()) make_ready(detail::Waiter::of(expired.next()), Wait::timeout);
  }

  // Each coroutine that was ready when the batch began gets one turn; what becomes ready meanwhile waits for the next
  // batch, so that two coroutines that wake each other can't keep the rest from the loop.
  void resume_ready() {
    running.splice_back(ready);
    while (running.linked()) {
      detail::Waiter& waiter = detail::Waiter::of(running.next());
      waiter.queue().unlink();
      waiter.coroutine.resume();
    }
  }

  int timeout_ms() const {
    if (ready.linked()) return 0;
    const auto next = timers.next();
    if (!next) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - Clock::now()).count();
    return static_cast<int>(std::clamp<long>(left, 0, INT_MAX));
  }

  void notify() {
    const std::uint64_t one = 1;
    // A full counter means that the loop is woken already.
    [[maybe_unused]] const auto written = ::write(wake.get(), &one, sizeof one);
  }

  void run_posted(const Loop& loop) {
    std::uint64_t count;
    [[maybe_unused]] const auto got = ::read(wake.get(), &count, sizeof count);
    std::vector<std::function<void()>> functions;
    {
      const std::lock_guard lock(posted_mutex);
      functions.swap(posted);
    }
    for (auto& function : functions) guarded(loop, function);
  }

  static void guarded(const Loop& loop, const std::function<void()>& function) {
    try {
      function();
    } catch (...) {
      if (loop.on_exception) loop.on_exception(std::current_exception());
    }
  }
};

// The outermost coroutine of a spawned task: owned by the loop, ends itself.
struct Loop::Root {
  struct promise_type : detail::Link<InTasks>, PooledFrame {
    promise_type(Loop& owner, const Task<void>&) : loop(owner) {
      loop.impl_->tasks.push_back(*this);
      loop.tasks_.store(loop.tasks() + 1, std::memory_order_relaxed);  // one writer: no locked instruction
    }
    ~promise_type() { loop.tasks_.store(loop.tasks() - 1, std::memory_order_relaxed); }
    Root get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept {
      if (loop.on_exception) loop.on_exception(std::current_exception());
    }
    Loop& loop;
  };
};

Loop::Loop() : impl_(std::make_unique<Impl>(Clock::now())), now_(Clock::now()) {
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_ADD, impl_->wake.get(), &event) != 0) {
    // tidy:allow(throws): a loop that nothing can wake is no loop; it is made at start
    throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  }
}

Loop::~Loop() {
  drop_tasks();
  std::vector<std::function<void()>> functions;
  {
    const std::lock_guard lock(impl_->posted_mutex);
    functions.swap(impl_->posted);
  }
}

void Loop::drop_tasks() {
  using Handle = std::coroutine_handle<Root::promise_type>;
  // What a task owns may spawn another as it goes.
  while (impl_->tasks.linked()) {
    Handle::from_promise(static_cast<Root::promise_type&>(*impl_->tasks.next())).destroy();
  }
}

Loop::Root Loop::own([[maybe_unused]] Loop& loop, Task<void> task) { co_await std::move(task); }

void Loop::spawn(Task<void> task) { own(*this, std::move(task)); }

void Loop::post(std::function<void()> function) {
  bool first;
  {
    const std::lock_guard lock(impl_->posted_mutex);
    first = impl_->posted.empty();
    impl_->posted.push_back(std::move(function));
  }
  if (first) impl_->notify();
}

void Loop::stop() {
  impl_->stop.store(true);
  impl_->notify();
}

void Loop::run() {
  std::array<epoll_event, kEventsPerBatch> events;
  now_ = Clock::now();
  while (!impl_->stop.load(std::memory_order_relaxed)) {
    const int count = ::epoll_wait(impl_->epoll.get(), events.data(), kEventsPerBatch, impl_->timeout_ms());
    now_ = Clock::now();
    for (int i = 0; i < count; ++i) {
      const auto& event = events[static_cast<std::size_t>(i)];
      auto* registration = static_cast<detail::Registration*>(event.data.ptr);
      if (registration == nullptr) {
        impl_->run_posted(*this);
      } else if (registration->socket != nullptr) {
        registration->socket->dispatch(event.events);
      }
    }
    impl_->expire(now_);
    impl_->resume_ready();
    impl_->graveyard.clear();
  }
  impl_->stop.store(false);
}

Socket::Socket(Loop& loop, UniqueFd fd)
    : loop_(loop), fd_(std::move(fd)), registration_(std::make_unique<detail::Registration>(this)) {
  int on = 1;
  ::ioctl(fd_.get(), FIONBIO, &on);
  // Fails closed: nothing can be waited for, so nothing is ever relayed.
  if (!interest(kRead)) cancelled_ = true;
}

Socket::~Socket() {
  // Not left to close(): a child that is being forked may hold a copy of the descriptor, and epoll would go on
  // reporting it.
  interest(0);
  registration_->socket = nullptr;
  loop_.impl_->graveyard.push_back(std::move(registration_));
}

// Tells the kernel only what changes.
bool Socket::interest(std::uint32_t events) {
  if (events == armed_) return true;
  const int operation = armed_ == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
  epoll_event event{.events = events, .data = {.ptr = registration_.get()}};
  if (::epoll_ctl(loop_.impl_->epoll.get(), operation, fd_.get(), &event) != 0) return false;
  armed_ = events;
  return true;
}

void Socket::dispatch(std::uint32_t events) {
  auto& impl = *loop_.impl_;
  const bool failed = (events & kFailed) != 0;
  if (failed || (events & kWrite) != 0) {
    if (writers_.linked()) {
      impl.make_all_ready(writers_, Wait::ready);
    } else {
      interest(armed_ & ~kWrite);
    }
  }
  if (failed || (events & kRead) != 0) {
    if (readers_.linked()) {
      impl.make_all_ready(readers_, Wait::ready);
    } else {
      idle_event();
    }
  }
}

void Socket::idle_event() {
  if (idle_callback_) {
    const detail::Registration* registration = registration_.get();
    const auto callback = std::exchange(idle_callback_, nullptr);
    Loop::Impl::guarded(loop_, callback);
    if (registration->socket == nullptr) return;      // the callback has destroyed this socket
    if (idle_callback_ || readers_.linked()) return;  // it has asked for more
  }
  interest(armed_ & ~kRead);
}

void Socket::cancel() {
  cancelled_ = true;
  loop_.impl_->make_all_ready(readers_, Wait::cancelled);
  loop_.impl_->make_all_ready(writers_, Wait::cancelled);
}

void Socket::on_idle_event(std::function<void()> callback) {
  idle_callback_ = std::move(callback);
  if (idle_callback_ && !interest(armed_ | kRead)) cancelled_ = true;
}

Socket::WaitAwaiter::WaitAwaiter(Socket& socket, bool readable, Deadline deadline)
    : socket_(socket), readable_(readable) {
  waiter_.deadline = deadline;
}

bool Socket::WaitAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  if (!socket_.cancelled_ && !socket_.interest(socket_.armed_ | (readable_ ? kRead : kWrite)))
    socket_.cancelled_ = true;
  if (socket_.cancelled_) {
    waiter_.outcome = Wait::cancelled;
    return false;
  }
  waiter_.coroutine = coroutine;
  (readable_ ? socket_.readers_ : socket_.writers_).push_back(waiter_);
  socket_.loop_.impl_->timers.insert(waiter_);
  return true;
}

Loop::SleepAwaiter::SleepAwaiter(Loop& loop, Deadline until) : loop_(loop) { waiter_.deadline = until; }

void Loop::SleepAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  waiter_.coroutine = coroutine;
  if (waiter_.deadline <= loop_.now_) {
    loop_.impl_->make_ready(waiter_, Wait::timeout);
  } else {
    loop_.impl_->timers.insert(waiter_);
  }
}

void Loop::YieldAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  waiter_.coroutine = coroutine;
  loop_.impl_->make_ready(waiter_, Wait::ready);
}

void Event::set() {
  set_ = true;
  loop_.impl_->make_all_ready(waiters_, Wait::ready);
}

Event::Awaiter::Awaiter(Event& event, Deadline deadline) : event_(event) { waiter_.deadline = deadline; }

void Event::Awaiter::await_suspend(std::coroutine_handle<> coroutine) {
  waiter_.coroutine = coroutine;
  event_.waiters_.push_back(waiter_);
  event_.loop_.impl_->timers.insert(waiter_);
}

}  // namespace sallyport::net
