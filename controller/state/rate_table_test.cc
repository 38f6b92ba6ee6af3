#include "controller/state/rate_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/limits.h"
#include "controller/state/test_support.h"

namespace sallyport::controller {
namespace {

using namespace std::chrono_literals;

v1alpha1::Limit limit_of(const std::string& name, double per_second, double burst, v1alpha1::LimitScope scope) {
  v1alpha1::Limit limit;
  limit.set_name(name);
  limit.set_per_second(per_second);
  limit.set_burst(burst);
  limit.set_scope(scope);
  return limit;
}

class RateTableTest : public testing::Test {
 protected:
  void set(const std::vector<v1alpha1::Limit>& limits) {
    std::vector<RateTable::Rule> rules;
    for (const v1alpha1::Limit& limit : limits) rules.push_back({limit, {}});
    table_.set(rules, now_);
  }
  std::uint32_t lease(const std::string& limit, std::uint32_t wanted, std::uint64_t guard = 1,
                      std::uint32_t function = 0) {
    return table_.lease(limit, source(guard, function), wanted, now_).granted;
  }
  // All that can be had.
  std::uint32_t drain(const std::string& limit, std::uint64_t guard = 1, std::uint32_t function = 0) {
    std::uint32_t sum = 0;
    while (const std::uint32_t granted = lease(limit, 1'000'000, guard, function)) sum += granted;
    return sum;
  }
  void send(std::uint32_t times, std::uint64_t guard = 1, std::uint32_t function = 0,
            const std::string& operation = "POST api.example.com/charges",
            v1alpha1::Decision decision = v1alpha1::DECISION_ALLOW) {
    v1alpha1::Exchange exchange;
    exchange.set_kind(v1alpha1::EXCHANGE_KIND_OUTBOUND);
    exchange.set_decision(decision);
    exchange.set_endpoint("api");
    set_operation(*exchange.mutable_operation(), operation);
    for (std::uint32_t i = 0; i < times; ++i) table_.count(source(guard, function), exchange, now_, halts_);
  }
  void pass(std::chrono::milliseconds time) {
    now_ += time;
    table_.advance(now_, halts_);
  }
  // "stop"s and "resume"s since the last time.
  std::string halts() {
    std::string out;
    for (const RateTable::Halt& halt : halts_) out += halt.limit + (halt.halted ? ":stop " : ":resume ");
    halts_.clear();
    return out;
  }
  static Source source(std::uint64_t guard, std::uint32_t function) { return {id_of<GuardId>(guard, 'g'), function}; }

  RateTable table_;
  Time now_{std::chrono::hours(480'000)};
  std::vector<RateTable::Halt> halts_;
};

TEST_F(RateTableTest, LeasesComeOutOfOneBucketForAllOfAScope) {
  set({limit_of("app", 10, 100, v1alpha1::LIMIT_SCOPE_APPLICATION),
       limit_of("function", 10, 100, v1alpha1::LIMIT_SCOPE_FUNCTION)});
  EXPECT_EQ(lease("app", 3, 1, 0), 3U);
  EXPECT_EQ(lease("app", 97, 2, 1), 49U);  // half: the others get some, too
  EXPECT_EQ(drain("app", 3, 2), 48U);
  EXPECT_EQ(drain("function", 1, 0), 100U);
  EXPECT_EQ(drain("function", 2, 0), 0U);
  EXPECT_EQ(drain("function", 3, 1), 100U);
  const auto refused = table_.lease("app", source(1, 0), 5, now_);
  EXPECT_EQ(refused.granted, 0U);
  EXPECT_EQ(refused.retry_after, 100ms);
  pass(99ms);
  EXPECT_EQ(drain("app"), 0U);
  pass(1ms);
  EXPECT_EQ(drain("app"), 1U);
  EXPECT_EQ(lease("nothing", 1), 0U);
}

TEST_F(RateTableTest, ScalingToZeroKeepsTheBucket) {
  set({limit_of("slow", 0.1, 10, v1alpha1::LIMIT_SCOPE_FUNCTION)});
  EXPECT_EQ(drain("slow", 1), 10U);
  for (std::uint64_t guard = 2; guard < 50; ++guard) {
    pass(100ms);
    EXPECT_EQ(drain("slow", guard), 0U);  // each a new instance
  }
  pass(15s);
  EXPECT_EQ(drain("slow", 99), 1U);
  // It is forgotten when it is as good as new.
  pass(2h);
  EXPECT_EQ(table_.buckets(), 0U);
  EXPECT_EQ(drain("slow", 100), 10U);
}

TEST_F(RateTableTest, WhatIsSentOnLeasesIsNoDebt) {
  set({limit_of("charges", 10, 20, v1alpha1::LIMIT_SCOPE_APPLICATION)});
  for (int i = 0; i < 100; ++i) {
    send(drain("charges"));
    pass(500ms);
  }
  EXPECT_EQ(halts(), "");
}

TEST_F(RateTableTest, WhatIsSentWithoutALeaseStopsUntilTheBucketIsHalfFull) {
  set({limit_of("charges", 10, 20, v1alpha1::LIMIT_SCOPE_FUNCTION)});
  send(20);
  EXPECT_EQ(halts(), "");
  send(5);
  ASSERT_EQ(halts_.size(), 1U);
  EXPECT_EQ(halts_[0].scope, v1alpha1::LIMIT_SCOPE_FUNCTION);
  EXPECT_EQ(halts_[0].retry_after, 1'100ms);  // from one below nothing to half of the burst
  EXPECT_EQ(halts(), "charges:stop ");
  EXPECT_EQ(drain("charges"), 0U);
  EXPECT_EQ(table_.lease("charges", source(1, 0), 1, now_).retry_after, 1'500ms);
  EXPECT_EQ(drain("charges", 1, 1), 20U);  // another function's is another
  pass(1'499ms);
  EXPECT_EQ(halts(), "");
  EXPECT_EQ(drain("charges"), 0U);
  pass(1ms);
  EXPECT_EQ(halts(), "charges:resume ");
  EXPECT_EQ(drain("charges"), 10U);
}

TEST_F(RateTableTest, ADebtIsAMinuteAtMost) {
  set({limit_of("charges", 2, 4, v1alpha1::LIMIT_SCOPE_APPLICATION)});
  send(100'000);
  EXPECT_EQ(halts(), "charges:stop ");
  pass(61s);
  EXPECT_EQ(halts(), "charges:resume ");
}

TEST_F(RateTableTest, LeasesThatNobodyReportsOnAreForgotten) {
  set({limit_of("charges", 10, 20, v1alpha1::LIMIT_SCOPE_APPLICATION)});
  EXPECT_EQ(drain("charges"), 20U);
  pass(limits::kLeaseReportTime + 1s);
  send(20);
  EXPECT_EQ(halts(), "");
  send(1);
  EXPECT_EQ(halts(), "charges:stop ");
}

TEST_F(RateTableTest, OnlyWhatTheLimitIsAboutAndWhatWasSentCounts) {
  v1alpha1::Limit limit = limit_of("charges", 1, 1, v1alpha1::LIMIT_SCOPE_FUNCTION);
  limit.set_endpoint("api");
  limit.add_operations()->set_request("POST api.example.com/charges");
  v1alpha1::Limit other = limit;
  other.set_name("other");
  other.set_endpoint("elsewhere");
  // An instance's own limit is its guard's business: what is reported late would look like too much.
  set({limit, other, limit_of("own", 1, 1, v1alpha1::LIMIT_SCOPE_INSTANCE)});
  send(50, 1, 0, "GET api.example.com/charges");
  send(50, 1, 0, "POST api.example.com/charges", v1alpha1::DECISION_DENY);
  EXPECT_EQ(halts(), "");
  send(1, 1, 0), send(1, 2, 1);
  EXPECT_EQ(halts(), "");
  send(1, 3, 1);
  ASSERT_EQ(halts_.size(), 1U);
  EXPECT_EQ(halts_[0].function, 1U);
  EXPECT_EQ(halts(), "charges:stop ");
}

TEST_F(RateTableTest, LimitsThatSayNothingGoodGrantNothing) {
  v1alpha1::Limit pattern = limit_of("pattern", 1, 1, v1alpha1::LIMIT_SCOPE_APPLICATION);
  pattern.add_operations()->set_request("nothing");
  set({limit_of("nan", std::numeric_limits<double>::quiet_NaN(), 1, v1alpha1::LIMIT_SCOPE_APPLICATION),
       limit_of("endless", 1, std::numeric_limits<double>::infinity(), v1alpha1::LIMIT_SCOPE_APPLICATION),
       limit_of("below", -1, 1, v1alpha1::LIMIT_SCOPE_APPLICATION),
       limit_of("scopeless", 1, 1, v1alpha1::LIMIT_SCOPE_UNSPECIFIED), pattern});
  for (const char* const name : {"nan", "endless", "below", "scopeless", "pattern"}) EXPECT_EQ(drain(name), 0U) << name;
  send(5);
  EXPECT_EQ(halts(), "");
  EXPECT_EQ(table_.buckets(), 0U);
}

TEST_F(RateTableTest, NewLimitsKeepTheTokensOfTheirNames) {
  set({limit_of("a", 1, 10, v1alpha1::LIMIT_SCOPE_APPLICATION),
       limit_of("b", 1, 10, v1alpha1::LIMIT_SCOPE_APPLICATION)});
  EXPECT_EQ(drain("a"), 10U);
  EXPECT_EQ(drain("b"), 10U);
  set({limit_of("a", 5, 100, v1alpha1::LIMIT_SCOPE_APPLICATION)});
  EXPECT_EQ(drain("a"), 0U);
  EXPECT_EQ(drain("b"), 0U);
  pass(1s);
  EXPECT_EQ(drain("a"), 5U);
  set({limit_of("a", 5, 100, v1alpha1::LIMIT_SCOPE_FUNCTION), limit_of("b", 1, 3, v1alpha1::LIMIT_SCOPE_APPLICATION)});
  EXPECT_EQ(drain("a"), 100U);
  EXPECT_EQ(drain("b"), 3U);
}

TEST_F(RateTableTest, ThereIsABoundOfBuckets) {
  set({limit_of("a", 1, 10, v1alpha1::LIMIT_SCOPE_INSTANCE)});
  for (std::uint64_t guard = 0; guard < limits::kRatesTrackedMax; ++guard) EXPECT_EQ(lease("a", 1, guard), 1U);
  EXPECT_EQ(lease("a", 1, 999'999'999), 0U);
  pass(1h);
  EXPECT_EQ(table_.buckets(), 0U);
}

TEST_F(RateTableTest, TheSumOfLeasesNeverExceedsTheRateHoweverGuardsComeAndGo) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 100; ++round) {
    SCOPED_TRACE(round);
    const double rate = std::uniform_real_distribution(0.5, 40.0)(random);
    const double burst = std::uniform_int_distribution(1, 60)(random);
    table_ = {};
    set({limit_of("a", rate, burst, v1alpha1::LIMIT_SCOPE_FUNCTION)});
    std::vector<std::pair<Time, double>> granted;
    for (int i = 0; i < 300; ++i) {
      pass(std::chrono::milliseconds(std::uniform_int_distribution(0, 200)(random)));
      const auto guard = static_cast<std::uint64_t>(std::uniform_int_distribution(0, i)(random));
      const std::uint32_t count =
          lease("a", static_cast<std::uint32_t>(std::uniform_int_distribution(1, 30)(random)), guard);
      if (count > 0) granted.emplace_back(now_, count);
    }
    for (std::size_t first = 0; first < granted.size(); ++first) {
      double sum = 0;
      for (std::size_t last = first; last < granted.size(); ++last) {
        sum += granted[last].second;
        const double seconds = std::chrono::duration<double>(granted[last].first - granted[first].first).count();
        ASSERT_LE(sum, burst + rate * seconds + 1e-6);
      }
    }
  }
}

TEST_F(RateTableTest, ALimitOfSomeFunctionsIsNothingToTheOthers) {
  const RateTable::Rule rule{limit_of("some", 1, 4, v1alpha1::LIMIT_SCOPE_APPLICATION), {0, 2}};
  table_.set(std::span(&rule, 1), now_);
  send(100, 1, 1);
  EXPECT_GT(drain("some", 1, 0), 0U);
  EXPECT_EQ(lease("some", 1, 1, 1), 0U);
}

TEST_F(RateTableTest, WhoComesLaterIsToldWhatIsHalted) {
  set({limit_of("all", 1, 4, v1alpha1::LIMIT_SCOPE_APPLICATION)});
  std::vector<RateTable::Halt> halts;
  table_.tell_halted(source(2, 0), now_, halts);
  EXPECT_TRUE(halts.empty());
  send(10);
  table_.tell_halted(source(2, 0), now_, halts);
  ASSERT_EQ(halts.size(), 1U);
  EXPECT_TRUE(halts[0].halted);
  EXPECT_GT(halts[0].retry_after.count(), 0);
}

}  // namespace
}  // namespace sallyport::controller
