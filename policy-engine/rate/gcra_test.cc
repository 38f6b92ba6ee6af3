#include "policy-engine/rate/gcra.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <vector>

namespace sallyport::rate {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

constexpr auto kNone = 0ns;

TEST(Gcra, LetsABurstThroughAndThenTheRate) {
  Gcra limit({100ms, 3});
  EXPECT_EQ(limit.take(1s), kNone);
  EXPECT_EQ(limit.take(1s), kNone);
  EXPECT_EQ(limit.take(1s), kNone);
  EXPECT_EQ(limit.take(1s), 100ms);
  EXPECT_EQ(limit.take(1s + 99ms), 1ms);
  EXPECT_EQ(limit.take(1s + 100ms), kNone);
  EXPECT_EQ(limit.take(1s + 100ms), 100ms);
  EXPECT_EQ(limit.take(1s + 400ms), kNone);
  EXPECT_EQ(limit.take(1s + 400ms), kNone);
  EXPECT_EQ(limit.take(1s + 400ms), kNone);
  EXPECT_EQ(limit.take(1s + 400ms), 100ms);
}

TEST(Gcra, OfOneAtATimeIsEven) {
  Gcra limit({1s, 1});
  EXPECT_EQ(limit.take(0s), kNone);
  EXPECT_EQ(limit.take(0s), 1s);
  EXPECT_EQ(limit.take(1s), kNone);
}

TEST(Gcra, TakesBackWhatWasNotUsed) {
  Gcra limit({1s, 2});
  EXPECT_EQ(limit.take(5s), kNone);
  EXPECT_EQ(limit.take(5s), kNone);
  limit.put_back();
  EXPECT_EQ(limit.take(5s), kNone);
  EXPECT_EQ(limit.take(5s), 1s);
}

// Against a bucket in which requests are counted in parts of one.
TEST(Gcra, AgreesWithABucket) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 300; ++round) {
    const nanoseconds interval(1 + random() % 1'000'000);
    const auto burst = static_cast<std::uint32_t>(1 + random() % 50);
    Gcra limit({interval, burst});
    // In units of 1 / interval of a request, so that all is exact.
    const std::int64_t full = interval.count() * burst;
    std::int64_t held = full;
    nanoseconds now(random() % 1'000'000'000);
    for (int i = 0; i < 400; ++i) {
      const nanoseconds step(random() % 4 == 0 ? random() % (3 * static_cast<std::uint64_t>(interval.count())) : 0);
      now += step;
      held = std::min(full, held + step.count());
      const bool expected = held >= interval.count();
      const nanoseconds waits = limit.take(now);
      ASSERT_EQ(waits == kNone, expected);
      if (expected) {
        held -= interval.count();
      } else {
        ASSERT_EQ(waits.count(), interval.count() - held);
      }
    }
  }
}

TEST(Gcra, GivesThreadsNoMoreThanOne) {
  Gcra limit({1h, 1'000});
  std::atomic<int> taken = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 2'000; ++n) taken += limit.take(1s) == kNone ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(taken, 1'000);
}

}  // namespace
}  // namespace sallyport::rate
