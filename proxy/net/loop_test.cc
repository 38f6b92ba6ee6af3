#include "proxy/net/loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <random>
#include <stdexcept>
#include <thread>

#include "proxy/net/timer_wheel.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;

struct Pair {
  UniqueFd a, b;
};

Pair socket_pair() {
  std::array<int, 2> fds;
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Task<> wait_and_note(Socket& socket, Deadline deadline, std::vector<Wait>& outcomes) {
  const Wait outcome = co_await socket.wait_readable(deadline);
  outcomes.push_back(outcome);
}

Task<> stop_at(Loop& loop, Clock::duration after) {
  co_await loop.sleep_until(loop.in(after));
  loop.stop();
}

void run_for(Loop& loop, Clock::duration duration) {
  loop.spawn(stop_at(loop, duration));
  loop.run();
}

// System calls and sleeps of the loop are invisible; what it burns is not.
Clock::duration cpu_of_run(Loop& loop, Clock::duration duration) {
  const auto used = [] {
    timespec time;
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  };
  const auto before = used();
  run_for(loop, duration);
  return used() - before;
}

TEST(Loop, ResumesAReaderWhenBytesArrive) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  std::vector<Wait> outcomes;
  loop.spawn(wait_and_note(socket, kNoDeadline, outcomes));
  EXPECT_TRUE(outcomes.empty());
  ASSERT_EQ(::write(b.get(), "x", 1), 1);
  run_for(loop, 10ms);
  EXPECT_EQ(outcomes, std::vector{Wait::ready});
  EXPECT_EQ(loop.tasks(), 0U);
}

TEST(Loop, MakesTheDescriptorNonBlocking) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  EXPECT_NE(::fcntl(socket.fd(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(Loop, ResumesEveryWaiterOfOneDescriptor) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  std::vector<Wait> outcomes;
  for (int i = 0; i < 3; ++i) loop.spawn(wait_and_note(socket, kNoDeadline, outcomes));
  b.reset();
  run_for(loop, 10ms);
  EXPECT_EQ(outcomes.size(), 3U);
}

TEST(Loop, KeepsDeadlinesWithinTwentyMilliseconds) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  struct Probe {
    static Task<> wait(Loop& loop, Socket& socket, Clock::duration after, std::vector<Clock::duration>& late) {
      const Deadline deadline = Clock::now() + after;
      const Wait outcome = co_await socket.wait_readable(deadline);
      EXPECT_EQ(outcome, Wait::timeout);
      late.push_back(Clock::now() - deadline);
      if (late.size() == 20) loop.stop();
    }
  };
  std::vector<Clock::duration> late;
  for (int i = 0; i < 20; ++i) loop.spawn(Probe::wait(loop, socket, i * 7ms, late));
  loop.run();
  std::sort(late.begin(), late.end());
  EXPECT_GE(late.front(), 0ms);
  EXPECT_LE(late[late.size() / 2], 20ms);
  EXPECT_LE(late.back(), 200ms);  // the machine may be busy; the median may not lie
}

TEST(Loop, DoesNotSpinOnInputThatNobodyWaitsFor) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  ASSERT_EQ(::write(b.get(), "x", 1), 1);
  EXPECT_LT(cpu_of_run(loop, 200ms), 50ms);
  std::vector<Wait> outcomes;
  loop.spawn(wait_and_note(socket, kNoDeadline, outcomes));
  run_for(loop, 10ms);
  EXPECT_EQ(outcomes, std::vector{Wait::ready}) << "the masked event must come back with the next wait";
}

TEST(Loop, DoesNotSpinOnAHangUpThatNobodyWaitsFor) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  ::shutdown(socket.fd(), SHUT_RDWR);
  b.reset();
  EXPECT_LT(cpu_of_run(loop, 200ms), 50ms);
  std::vector<Wait> outcomes;
  loop.spawn(wait_and_note(socket, kNoDeadline, outcomes));
  run_for(loop, 10ms);
  EXPECT_EQ(outcomes, std::vector{Wait::ready});
}

TEST(Loop, DoesNotWakeWhenNothingIsDue) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  std::vector<Wait> outcomes;
  for (int i = 0; i < 1000; ++i) loop.spawn(wait_and_note(socket, loop.in(1h), outcomes));
  rusage before, after;
  ::getrusage(RUSAGE_THREAD, &before);
  run_for(loop, 300ms);
  ::getrusage(RUSAGE_THREAD, &after);
  EXPECT_LE(after.ru_nvcsw - before.ru_nvcsw, 5);
  EXPECT_TRUE(outcomes.empty());
}

Task<> fill(Socket& socket, std::vector<Wait>& outcomes) {
  const std::string block(1 << 16, 'x');
  while (::send(socket.fd(), block.data(), block.size(), MSG_DONTWAIT) > 0) {
  }
  const Wait outcome = co_await socket.wait_writable(kNoDeadline);
  outcomes.push_back(outcome);
}

TEST(Loop, ResumesAWriterOnceThereIsRoomAndThenLetsGoOfTheEvent) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  std::vector<Wait> outcomes;
  loop.spawn(fill(socket, outcomes));
  run_for(loop, 20ms);
  EXPECT_TRUE(outcomes.empty());
  std::string sink(1 << 20, '\0');
  while (::recv(b.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_LT(cpu_of_run(loop, 200ms), 50ms) << "a writable socket must not keep the loop awake";
  EXPECT_EQ(outcomes, std::vector{Wait::ready});
}

TEST(Loop, CancelEndsPresentAndLaterWaits) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  std::vector<Wait> outcomes;
  loop.spawn(wait_and_note(socket, kNoDeadline, outcomes));
  socket.cancel();
  EXPECT_TRUE(outcomes.empty()) << "nobody is resumed from inside cancel()";
  run_for(loop, 1ms);
  loop.spawn(wait_and_note(socket, kNoDeadline, outcomes));
  EXPECT_EQ(outcomes, (std::vector{Wait::cancelled, Wait::cancelled}));
}

TEST(Loop, ADescriptorThatEpollRefusesIsBornCancelled) {
  Loop loop;
  UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  Socket socket(loop, std::move(file));
  std::vector<Wait> outcomes;
  loop.spawn(wait_and_note(socket, kNoDeadline, outcomes));
  EXPECT_EQ(outcomes, std::vector{Wait::cancelled});
}

TEST(Loop, TellsAnIdleSocketsOwnerThatThePeerWentAway) {
  Loop loop;
  auto [a, b] = socket_pair();
  auto socket = std::make_unique<Socket>(loop, std::move(a));
  int calls = 0;
  socket->on_idle_event([&] {
    ++calls;
    socket.reset();  // destroys the callback's own socket
  });
  b.reset();
  run_for(loop, 10ms);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(socket, nullptr);
}

TEST(Loop, AnIdleCallbackThatKeepsItsSocketIsNotCalledAgainUntilTheNextWait) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  int calls = 0;
  socket.on_idle_event([&] { ++calls; });
  ASSERT_EQ(::write(b.get(), "x", 1), 1);
  EXPECT_LT(cpu_of_run(loop, 100ms), 50ms);
  EXPECT_EQ(calls, 1);
}

TEST(Loop, AnIdleCallbackThatAsksForMoreIsCalledForTheNextEvent) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  int calls = 0;
  std::function<void()> drain = [&] {
    std::array<char, 16> sink;
    while (::read(socket.fd(), sink.data(), sink.size()) > 0) ++calls;
    socket.on_idle_event(drain);
  };
  socket.on_idle_event(drain);
  ASSERT_EQ(::write(b.get(), "x", 1), 1);
  run_for(loop, 5ms);
  ASSERT_EQ(::write(b.get(), "x", 1), 1);
  run_for(loop, 5ms);
  EXPECT_EQ(calls, 2);
}

TEST(Loop, ASocketDestroyedWithinABatchIsNotTouchedByItsLaterEvents) {
  Loop loop;
  std::vector<std::unique_ptr<Socket>> sockets;
  std::vector<UniqueFd> peers;
  int calls = 0;
  for (int i = 0; i < 64; ++i) {
    auto [a, b] = socket_pair();
    sockets.push_back(std::make_unique<Socket>(loop, std::move(a)));
    peers.push_back(std::move(b));
    sockets.back()->on_idle_event([&] {
      ++calls;
      sockets.clear();
    });
  }
  peers.clear();  // all hang up at once
  run_for(loop, 10ms);
  EXPECT_EQ(calls, 1);
}

TEST(Loop, ADescriptorThatAChildStillHoldsIsForgotten) {
  Loop loop;
  auto [a, b] = socket_pair();
  UniqueFd copy(::dup(a.get()));
  {
    Socket socket(loop, std::move(a));
  }
  ASSERT_EQ(::write(b.get(), "x", 1), 1);
  EXPECT_LT(cpu_of_run(loop, 100ms), 50ms);
}

Task<> echo_forever(Socket& socket, std::size_t& turns) {
  for (;;) {
    co_await socket.wait_readable(kNoDeadline);
    ++turns;  // never reads, so it is always ready
  }
}

TEST(Loop, AHandleThatIsAlwaysReadyDoesNotStarveOthers) {
  Loop loop;
  std::vector<std::unique_ptr<Socket>> sockets;
  std::vector<UniqueFd> peers;
  std::array<std::size_t, 8> turns{};
  for (std::size_t i = 0; i < turns.size(); ++i) {
    auto [a, b] = socket_pair();
    ASSERT_EQ(::write(b.get(), "x", 1), 1);
    sockets.push_back(std::make_unique<Socket>(loop, std::move(a)));
    peers.push_back(std::move(b));
    loop.spawn(echo_forever(*sockets.back(), turns[i]));
  }
  run_for(loop, 50ms);
  const auto [least, most] = std::minmax_element(turns.begin(), turns.end());
  EXPECT_GT(*least, 10U);
  EXPECT_LE(*most - *least, 1U);
}

Task<> yield_forever(Loop& loop, std::size_t& turns) {
  for (;;) {
    co_await loop.yield();
    ++turns;
  }
}

TEST(Loop, YieldingCoroutinesLetEventsAndDeadlinesIn) {
  Loop loop;
  auto [a, b] = socket_pair();
  Socket socket(loop, std::move(a));
  std::size_t turns = 0;
  std::vector<Wait> outcomes;
  loop.spawn(yield_forever(loop, turns));
  loop.spawn(yield_forever(loop, turns));
  loop.spawn(wait_and_note(socket, kNoDeadline, outcomes));
  ASSERT_EQ(::write(b.get(), "x", 1), 1);
  run_for(loop, 20ms);
  EXPECT_EQ(outcomes.size(), 1U);
  EXPECT_GT(turns, 2U);
}

TEST(Loop, RunsPostedFunctionsOfOtherThreadsInOrder) {
  Loop loop;
  std::vector<int> seen;
  std::thread::id ran_on;
  std::thread poster([&] {
    for (int i = 0; i < 1000; ++i) {
      loop.post([&seen, &ran_on, i] {
        seen.push_back(i);
        ran_on = std::this_thread::get_id();
      });
    }
    loop.post([&loop] { loop.stop(); });
  });
  loop.run();
  poster.join();
  ASSERT_EQ(seen.size(), 1000U);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(Loop, AStopThatComesBeforeRunIsNotLost) {
  Loop loop;
  loop.stop();
  loop.run();
  EXPECT_EQ(loop.tasks(), 0U);  // reached at all: a lost stop would wait for ever
}

Task<> fail_after_a_while(Loop& loop) {
  co_await loop.sleep_until(loop.in(1ms));
  throw std::runtime_error("out of something");
}

Task<> fail_deep_inside(Loop& loop) { co_await fail_after_a_while(loop); }

TEST(Loop, HandsAnExceptionToItsHandlerAndGoesOn) {
  Loop loop;
  std::vector<std::string> caught;
  loop.on_exception = [&](std::exception_ptr exception) {
    try {
      std::rethrow_exception(std::move(exception));
    } catch (const std::exception& error) {
      caught.emplace_back(error.what());
    }
  };
  loop.spawn(fail_deep_inside(loop));
  loop.post([] { throw std::runtime_error("posted"); });
  run_for(loop, 50ms);
  EXPECT_EQ(caught, (std::vector<std::string>{"posted", "out of something"}));
  EXPECT_EQ(loop.tasks(), 0U);
}

struct CountsDown {
  int* count;
  explicit CountsDown(int& c) : count(&c) { ++c; }
  CountsDown(const CountsDown&) = delete;
  CountsDown& operator=(const CountsDown&) = delete;
  ~CountsDown() { --*count; }
};

Task<> hold(Loop& loop, UniqueFd fd, int& alive) {
  const CountsDown counted(alive);
  Socket socket(loop, std::move(fd));
  std::vector<Wait> outcomes;
  co_await wait_and_note(socket, loop.in(1h), outcomes);
}

Task<> wait_for_event(Event& event, Deadline deadline, std::vector<Wait>& outcomes) {
  const Wait outcome = co_await event.wait(deadline);
  outcomes.push_back(outcome);
}

TEST(Loop, DestroysSuspendedTasksWithEverythingTheyOwn) {
  int alive = 0;
  auto [a, b] = socket_pair();
  {
    Loop loop;
    loop.spawn(hold(loop, std::move(a), alive));
    loop.post([kept = std::make_shared<CountsDown>(alive)] {});
    EXPECT_EQ(alive, 2);
    EXPECT_EQ(loop.tasks(), 1U);
  }
  EXPECT_EQ(alive, 0);
  char byte;
  EXPECT_EQ(::read(b.get(), &byte, 1), 0) << "the socket must be closed";
}

TEST(Loop, DroppedTasksAreGoneAndTheLoopGoesOn) {
  int alive = 0;
  Loop loop;
  auto [a, b] = socket_pair();
  loop.spawn(hold(loop, std::move(a), alive));
  EXPECT_EQ(alive, 1);
  loop.drop_tasks();
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(loop.tasks(), 0U);
  run_for(loop, 5ms);  // the registration of the destroyed socket is let go here
}

TEST(Loop, AnEventDestroyedBeforeItsWaiterLeavesNothingBehind) {
  Loop loop;
  std::vector<Wait> outcomes;
  auto event = std::make_unique<Event>(loop);
  loop.spawn(wait_for_event(*event, loop.in(5ms), outcomes));
  event.reset();
  run_for(loop, 50ms);
  EXPECT_EQ(outcomes, std::vector{Wait::timeout});
}

TEST(Event, WakesEveryWaiterFromTheLoopAndStaysSet) {
  Loop loop;
  Event event(loop);
  std::vector<Wait> outcomes;
  loop.spawn(wait_for_event(event, kNoDeadline, outcomes));
  loop.spawn(wait_for_event(event, kNoDeadline, outcomes));
  event.set();
  EXPECT_TRUE(outcomes.empty());
  run_for(loop, 1ms);
  EXPECT_EQ(outcomes.size(), 2U);
  loop.spawn(wait_for_event(event, kNoDeadline, outcomes));
  EXPECT_EQ(outcomes.size(), 3U) << "a set event does not suspend";
  event.reset();
  loop.spawn(wait_for_event(event, loop.in(5ms), outcomes));
  run_for(loop, 50ms);
  EXPECT_EQ(outcomes.back(), Wait::timeout);
}

TEST(TimerWheel, FiresEveryDeadlineInItsTickAndNoneEarly) {
  const auto seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto tick = Clock::duration(1 << 24);
  const Deadline start(Clock::duration(static_cast<Clock::rep>(random() >> 4)));
  detail::TimerWheel wheel(start);
  std::vector<std::unique_ptr<detail::Waiter>> waiters;
  for (int i = 0; i < 2000; ++i) {
    auto& waiter = *waiters.emplace_back(std::make_unique<detail::Waiter>());
    // Spread over every level and past the horizon of three days.
    waiter.deadline = start + Clock::duration(static_cast<Clock::rep>(random() >> (15 + random() % 40)));
    wheel.insert(waiter);
  }
  for (int i = 0; i < 200; ++i) waiters[random() % waiters.size()]->timer().unlink();

  Deadline now = start;
  int steps = 0;
  while (const auto next = wheel.next()) {
    ASSERT_GT(*next, now - tick);
    now = std::max(now, *next) + Clock::duration(static_cast<Clock::rep>(random() % 3 == 0 ? random() >> 30 : 0));
    detail::TimerLink expired;
    wheel.advance(now, expired);
    while (expired.linked()) {
      auto& waiter = detail::Waiter::of(expired.next());
      EXPECT_LE(waiter.deadline, now);
      waiter.timer().unlink();
      waiter.deadline = kNoDeadline;
    }
    for (const auto& waiter : waiters) {
      if (waiter->timer().linked()) ASSERT_GT(waiter->deadline, now - tick);
    }
    ASSERT_LT(++steps, 20000);
  }
  for (const auto& waiter : waiters) EXPECT_FALSE(waiter->timer().linked());
}

TEST(TimerWheel, AnEmptyWheelIsNeverDue) {
  detail::TimerWheel wheel(Clock::now());
  EXPECT_FALSE(wheel.next());
  detail::Waiter waiter;
  wheel.insert(waiter);  // no deadline
  EXPECT_FALSE(wheel.next());
}

}  // namespace
}  // namespace sallyport::net
