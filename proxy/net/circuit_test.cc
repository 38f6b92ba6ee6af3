#include "proxy/net/circuit.h"

#include <gtest/gtest.h>

namespace sallyport::net {
namespace {

using std::chrono::milliseconds;

class CircuitsTest : public testing::Test {
 protected:
  bool tries(const std::string& destination = "a:443") { return !circuits_.closed_to(destination, now_); }
  void fail(const std::string& destination = "a:443") { circuits_.failed(destination, "refused", now_); }
  void trip() {
    for (unsigned i = 0; i < limits::kCircuitFailures; ++i) {
      ASSERT_TRUE(tries());
      fail();
    }
  }

  Circuits circuits_;
  Deadline now_ = Clock::now();
};

TEST_F(CircuitsTest, LeavesADestinationAloneAfterFailuresInARow) {
  trip();
  EXPECT_EQ(circuits_.closed_to("a:443", now_), "not tried, as it failed 5 times in a row, lastly: refused");
  EXPECT_TRUE(tries("b:443"));
  now_ += limits::kCircuitWaitMin - milliseconds(1);
  EXPECT_FALSE(tries());
  now_ += milliseconds(1);
  EXPECT_TRUE(tries());
}

TEST_F(CircuitsTest, OneSuccessIsEnough) {
  for (unsigned i = 1; i < limits::kCircuitFailures; ++i) fail();
  circuits_.succeeded("a:443");
  EXPECT_EQ(circuits_.size(), 0u);
  fail();
  EXPECT_TRUE(tries());
}

TEST_F(CircuitsTest, OneTriesForAllAndTheWaitDoubles) {
  trip();
  for (milliseconds wait = limits::kCircuitWaitMin; wait < limits::kCircuitWaitMax; wait *= 2) {
    now_ += wait;
    ASSERT_TRUE(tries());
    ASSERT_FALSE(tries()) << "somebody is trying already";
    fail();
    now_ += wait;
    ASSERT_FALSE(tries()) << "twice as long as before";
  }
  for (int i = 0; i < 3; ++i) {
    now_ += limits::kCircuitWaitMax;
    ASSERT_TRUE(tries()) << "but not for ever longer";
    fail();
  }
  now_ += limits::kCircuitWaitMax;
  ASSERT_TRUE(tries());
  circuits_.succeeded("a:443");
  EXPECT_TRUE(tries() && tries());
}

TEST_F(CircuitsTest, AnAttemptThatSaysNothingLetsTheNextOneTry) {
  trip();
  now_ += limits::kCircuitWaitMin;
  ASSERT_TRUE(tries());
  circuits_.undecided("a:443");
  EXPECT_TRUE(tries());
}

TEST_F(CircuitsTest, ManyThatFailTogetherAreNotManyWaits) {
  for (int i = 0; i < 100; ++i) fail();
  now_ += limits::kCircuitWaitMin;
  EXPECT_TRUE(tries());
}

TEST_F(CircuitsTest, RemembersABoundedNumber) {
  for (std::size_t i = 0; i < limits::kCircuitsMax * 2; ++i) fail(std::to_string(i));
  EXPECT_EQ(circuits_.size(), limits::kCircuitsMax);
  now_ += limits::kCircuitWaitMax * 2;
  fail("another");
  EXPECT_EQ(circuits_.size(), 1u);
}

}  // namespace
}  // namespace sallyport::net
