#include "controller/state/token_bucket.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <utility>
#include <vector>

namespace sallyport::controller {
namespace {

using namespace std::chrono_literals;

constexpr Time kStart{std::chrono::hours(480'000)};

TEST(TokenBucket, HoldsABurstAndIsFilledAtItsRate) {
  TokenBucket bucket(2, 5, kStart);
  EXPECT_TRUE(bucket.take(5, kStart));
  EXPECT_FALSE(bucket.take(1, kStart));
  EXPECT_EQ(bucket.until(1, kStart), 500ms);
  EXPECT_FALSE(bucket.take(1, kStart + 499ms));
  EXPECT_TRUE(bucket.take(1, kStart + 500ms));
  EXPECT_FALSE(bucket.full(kStart + 2'900ms));
  EXPECT_TRUE(bucket.full(kStart + 1h));
  EXPECT_DOUBLE_EQ(bucket.available(kStart + 1h), 5);
}

TEST(TokenBucket, TimeThatGoesBackStandsStill) {
  TokenBucket bucket(1, 1, kStart);
  EXPECT_TRUE(bucket.take(1, kStart));
  EXPECT_FALSE(bucket.take(1, kStart - 1h));
  EXPECT_FALSE(bucket.take(1, kStart + 900ms));
  EXPECT_TRUE(bucket.take(1, kStart + 1s));
}

TEST(TokenBucket, WhatHasHappenedIsADebtThatIsOverSomeTime) {
  TokenBucket bucket(1, 2, kStart);
  bucket.charge(1'000, 10, kStart);
  EXPECT_DOUBLE_EQ(bucket.available(kStart), -10);
  EXPECT_EQ(bucket.until(1, kStart), 11s);
  EXPECT_TRUE(bucket.take(1, kStart + 11s));
}

TEST(TokenBucket, SaysWhereThereWillNeverBeSoMany) {
  TokenBucket none(0, 3, kStart), slow(1e-12, 3, kStart);
  EXPECT_TRUE(none.take(3, kStart));
  EXPECT_EQ(none.until(1, kStart), TokenBucket::kNever);
  EXPECT_EQ(none.until(4, kStart), TokenBucket::kNever);
  EXPECT_TRUE(slow.take(3, kStart));
  EXPECT_EQ(slow.until(1, kStart), TokenBucket::kNever);
}

TEST(TokenBucket, ANewRateKeepsTheTokens) {
  TokenBucket bucket(1, 10, kStart);
  EXPECT_TRUE(bucket.take(4, kStart));
  bucket.change(1, 100, kStart);
  EXPECT_DOUBLE_EQ(bucket.available(kStart), 6);
  bucket.change(1, 3, kStart);
  EXPECT_DOUBLE_EQ(bucket.available(kStart + 1h), 3);
}

TEST(TokenBucket, GivesInNoWindowMoreThanItMay) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    const double rate = std::uniform_real_distribution(0.1, 50.0)(random);
    const double burst = std::uniform_int_distribution(1, 40)(random);
    TokenBucket bucket(rate, burst, kStart);
    std::vector<std::pair<Time, double>> taken;
    Time now = kStart;
    for (int i = 0; i < 200; ++i) {
      now += std::chrono::milliseconds(std::uniform_int_distribution(0, 300)(random));
      const double count = std::uniform_int_distribution(1, 5)(random);
      if (bucket.take(count, now)) taken.emplace_back(now, count);
    }
    for (std::size_t first = 0; first < taken.size(); ++first) {
      double sum = 0;
      for (std::size_t last = first; last < taken.size(); ++last) {
        sum += taken[last].second;
        const double seconds = std::chrono::duration<double>(taken[last].first - taken[first].first).count();
        ASSERT_LE(sum, burst + rate * seconds + 1e-6) << "round " << round;
      }
    }
  }
}

}  // namespace
}  // namespace sallyport::controller
