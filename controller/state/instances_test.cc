#include "controller/state/instances.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "base/limits.h"
#include "controller/state/test_support.h"

namespace sallyport::controller {
namespace {

using namespace std::chrono_literals;
using testing::IsEmpty;

class InstancesTest : public testing::Test {
 protected:
  Instances::Registration enter(const std::string& instance, std::optional<GuardId> claimed = {},
                                std::uint32_t function = 0) {
    return instances_.enter(function, instance, claimed, id_of<GuardId>(++numbers_, 'g'), now_, out_);
  }
  void pass(std::chrono::milliseconds time) {
    now_ += time;
    instances_.advance(now_, out_);
  }
  // Their kinds, since the last time.
  std::string alarms() {
    std::string out;
    for (const Alarm& alarm : out_.alarms) out += std::string(to_string(alarm.kind)) + " ";
    out_.clear();
    return out;
  }

  Instances instances_{graph_of("  - {name: a, entry: true, instancesMax: 2}\n  - {name: b, entry: true}\n")};
  Time now_{std::chrono::hours(480'000)};
  Outcome out_;
  std::uint64_t numbers_ = 0;
};

TEST_F(InstancesTest, NoMoreRunThanMay) {
  EXPECT_TRUE(enter("one").guard);
  EXPECT_TRUE(enter("two").guard);
  const auto third = enter("three");
  EXPECT_FALSE(third.guard);
  EXPECT_EQ(third.refusal, "2 instances of a run, and no more may");
  EXPECT_EQ(alarms(), "too-many-instances ");
  for (int i = 0; i < 1'000; ++i) EXPECT_TRUE(enter("of-b-" + std::to_string(i), {}, 1).guard);
  EXPECT_EQ(instances_.running(0), 2U);
  EXPECT_EQ(instances_.running(1), 1'000U);
  EXPECT_EQ(alarms(), "");
}

TEST_F(InstancesTest, AGuardThatComesBackKeepsItsIdAndItsPlace) {
  const auto first = enter("one");
  EXPECT_TRUE(first.fresh);
  enter("two");
  instances_.leave(*first.guard, false);
  pass(10s);
  const auto again = enter("one", first.guard);
  EXPECT_EQ(again.guard, first.guard);
  EXPECT_FALSE(again.fresh);
  EXPECT_EQ(instances_.running(0), 2U);
  // An id is worth nothing for another instance, or another function.
  EXPECT_NE(enter("one", first.guard, 1).guard, first.guard);
  EXPECT_NE(enter("other", first.guard, 1).guard, first.guard);
  EXPECT_EQ(instances_.function_of(*first.guard), 0U);
  EXPECT_EQ(alarms(), "");
}

TEST_F(InstancesTest, OneThatSaysGoodbyeFreesItsPlaceAtOnceAndASilentOneAfterThreeBeats) {
  const auto one = enter("one"), two = enter("two");
  instances_.leave(*one.guard, true);
  EXPECT_TRUE(enter("three").guard);
  instances_.leave(*two.guard, false);
  EXPECT_FALSE(enter("four").guard);
  for (int i = 0; i < 3; ++i) {
    pass(limits::kBeatInterval);
    instances_.beat(enter("three").guard.value_or(GuardId{}), now_);
  }
  EXPECT_TRUE(enter("four").guard);
  EXPECT_FALSE(enter("two", two.guard).guard);
  instances_.leave(enter("four").guard.value_or(GuardId{}), true);
  EXPECT_EQ(enter("two", two.guard).guard, two.guard);
}

TEST_F(InstancesTest, BeatsKeepAnInstanceAndSilenceIsAnAlarm) {
  const auto one = enter("one"), two = enter("two");
  for (int i = 0; i < 10; ++i) {
    pass(limits::kBeatInterval);
    instances_.beat(*one.guard, now_);
  }
  EXPECT_EQ(alarms(), "lost-instance ");
  EXPECT_EQ(instances_.running(0), 1U);
  EXPECT_TRUE(instances_.function_of(*two.guard).has_value());
  pass(1h);
  EXPECT_EQ(instances_.known(), 0U);
  EXPECT_EQ(instances_.function_of(*two.guard), std::nullopt);
  instances_.beat(*two.guard, now_);
  instances_.leave(*two.guard, false);
  EXPECT_EQ(instances_.known(), 0U);
}

TEST_F(InstancesTest, ASecondProcessOfAnInstanceThatIsAliveIsAnAlarm) {
  const auto first = enter("one");
  const auto second = enter("one");
  EXPECT_NE(second.guard, first.guard);
  EXPECT_EQ(instances_.running(0), 1U);
  EXPECT_EQ(instances_.function_of(*first.guard), std::nullopt);
  EXPECT_EQ(alarms(), "doubled-instance ");
  // One that follows another is none: a container that was started again.
  instances_.leave(*second.guard, false);
  EXPECT_TRUE(enter("one").guard);
  EXPECT_EQ(alarms(), "");
}

TEST_F(InstancesTest, AfterARestartGuardsKeepTheirIds) {
  const GuardId guard = id_of<GuardId>(77, 'g');
  instances_.restore(0, "one", guard, now_);
  EXPECT_EQ(instances_.running(0), 1U);
  EXPECT_EQ(enter("one", guard).guard, guard);
  instances_.restore(0, "two", id_of<GuardId>(78, 'g'), now_);
  pass(limits::kBeatInterval * limits::kBeatsMissedMax);
  EXPECT_EQ(instances_.running(0), 0U);
  instances_.restore(99, "x", guard, now_);
  EXPECT_EQ(alarms(), "lost-instance lost-instance ");
}

TEST_F(InstancesTest, NamesAndNumbersHaveBounds) {
  EXPECT_FALSE(enter("").guard);
  EXPECT_FALSE(enter(std::string(254, 'x')).guard);
  EXPECT_FALSE(enter("x", {}, 2).guard);
  for (std::size_t i = 0; i < limits::kInstancesTrackedMax; ++i) enter(std::to_string(i), {}, 1);
  EXPECT_FALSE(enter("one more", {}, 1).guard);
  const auto known = enter("5", {}, 1);
  instances_.leave(*known.guard, true);
  EXPECT_TRUE(enter("one more", {}, 1).guard);
  EXPECT_EQ(instances_.known(), limits::kInstancesTrackedMax);
}

}  // namespace
}  // namespace sallyport::controller
