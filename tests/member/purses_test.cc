// Paying for requests from the leases of a controller's limits, over a real link.
#include "proxy/guard/purses.h"

#include <gmock/gmock.h>

#include "base/limits.h"
#include "proxy/net/run_task_test.h"
#include "tests/member/scripted_application.h"

namespace sallyport::guard {
namespace {

using namespace std::chrono_literals;
using testing::eventually;
using testing::granted;
using ::testing::HasSubstr;
using testing::Member;
using testing::ScriptedController;
using testing::update_of;

class PursesTest : public ::testing::Test {
 protected:
  // One limit of that scope.
  void limit(link_api::LimitScope scope, double per_second, double burst,
             link_api::OnControllerLoss loss = link_api::ON_CONTROLLER_LOSS_DENY) {
    link_api::Update update = update_of(1);
    update.set_on_controller_loss(loss);
    link_api::Limit& limit = *update.add_limits();
    limit.set_name("charges");
    limit.set_scope(scope);
    limit.set_per_second(per_second);
    limit.set_burst(burst);
    controller_.push(update);
    ASSERT_TRUE(member_.membership.first_policy(10s));
    terms_ = member_.membership.terms();
  }
  void grant(ScriptedController::LeaseOf lease) {
    const std::lock_guard lock(controller_.mutex);
    controller_.on_lease = std::move(lease);
  }
  Payment pay() { return net::run_task(loop_, purses_.pay(terms_, nullptr, nullptr)); }
  // Requests out of `count` that were paid for.
  int paid(int count) {
    int out = 0;
    for (int i = 0; i < count; ++i) out += pay().refused ? 0 : 1;
    return out;
  }
  void halt(bool halted, std::uint32_t retry_after_ms = 60'000) {
    controller_.halt("charges", halted, retry_after_ms);
    ASSERT_TRUE(eventually([&] { return terms_->limits[0].halt->halted() == halted; }));
  }

  ScriptedController controller_;
  Member member_{controller_};
  net::Loop loop_;
  std::shared_ptr<const Terms> terms_;
  Purses purses_{loop_, *member_.link};
};

TEST_F(PursesTest, ALimitOfTheInstanceIsKeptHere) {
  limit(link_api::LIMIT_SCOPE_INSTANCE, 0.01, 3);
  EXPECT_EQ(paid(10), 3);
  const Payment refused = pay();
  ASSERT_TRUE(refused.refused);
  EXPECT_EQ(refused.refused->reason, Reason::rate_limited);
  EXPECT_GT(refused.refused->retry_after, 10s);
  EXPECT_THAT(refused.refused->text, HasSubstr("The limit 'charges' lets 0.01/s through, and 3 at once."));
  EXPECT_EQ(controller_.lease_asks(), 0U);
}

TEST_F(PursesTest, AHaltStopsAtOnceAndAResumeGoesOn) {
  limit(link_api::LIMIT_SCOPE_INSTANCE, 1'000, 100);
  EXPECT_EQ(paid(1), 1);
  halt(true);
  const Payment refused = pay();
  ASSERT_TRUE(refused.refused);
  EXPECT_EQ(refused.refused->reason, Reason::rate_limited);
  EXPECT_THAT(refused.refused->text, HasSubstr("halted"));
  EXPECT_GT(refused.refused->retry_after, 30s);
  halt(false);
  EXPECT_EQ(paid(1), 1);
}

// What all guards may send is the controller's to say: never more is sent than was granted.
TEST_F(PursesTest, NoMoreIsSentThanWasGranted) {
  limit(link_api::LIMIT_SCOPE_APPLICATION, 100, 50);
  std::uint32_t left = 20;
  grant([&](const link_api::LeaseAsk& ask) {
    const std::uint32_t count = std::min(left, ask.wanted());
    left -= count;
    link_api::Lease lease = granted(count);
    if (count == 0) lease.set_retry_after_ms(60'000);
    return lease;
  });
  EXPECT_EQ(paid(60), 20);
  const Payment refused = pay();
  EXPECT_EQ(refused.refused->reason, Reason::rate_limited);
  EXPECT_GT(refused.refused->retry_after, 30s);
}

TEST_F(PursesTest, TheNextLeaseIsAskedForBeforeTheLastIsUsedUp) {
  limit(link_api::LIMIT_SCOPE_FUNCTION, 10'000, 1'000);
  grant([](const link_api::LeaseAsk& ask) { return granted(ask.wanted()); });
  EXPECT_EQ(paid(500), 500);
  // Each is for more than the one before, as long as all of it is used.
  EXPECT_LT(controller_.lease_asks(), 40U);
  const std::lock_guard lock(controller_.mutex);
  std::uint32_t most = 0;
  for (const auto& ask : controller_.leases) most = std::max(most, ask.wanted());
  EXPECT_GT(most, 32U);
  EXPECT_LE(most, 1'000U);
}

TEST_F(PursesTest, ALeaseThatHasLapsedPaysForNothing) {
  limit(link_api::LIMIT_SCOPE_FUNCTION, 10, 10);
  grant([first = true](const link_api::LeaseAsk&) mutable {
    link_api::Lease lease = granted(std::exchange(first, false) ? 10 : 0, 200);
    lease.set_retry_after_ms(60'000);
    return lease;
  });
  EXPECT_EQ(paid(1), 1);
  net::run_for(loop_, 400ms);
  EXPECT_EQ(paid(5), 0);
}

TEST_F(PursesTest, AHaltTakesWhatWasLeased) {
  limit(link_api::LIMIT_SCOPE_APPLICATION, 10, 10);
  std::atomic<bool> halted = false;
  grant([&](const link_api::LeaseAsk&) {
    link_api::Lease lease = granted(halted ? 0 : 10);
    lease.set_retry_after_ms(60'000);
    return lease;
  });
  EXPECT_EQ(paid(1), 1);
  halted = true;
  halt(true);
  EXPECT_EQ(paid(5), 0);
  const std::size_t asked = controller_.lease_asks();
  EXPECT_EQ(paid(100), 0);
  EXPECT_EQ(controller_.lease_asks(), asked);  // who may not send does not ask again and again
  halted = false;
  halt(false);
  EXPECT_EQ(paid(5), 5);
}

TEST_F(PursesTest, WithoutAnAnswerNothingIsSentAndTheWaitIsBounded) {
  limit(link_api::LIMIT_SCOPE_APPLICATION, 10, 10);
  const auto began = std::chrono::steady_clock::now();
  const Payment refused = pay();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
  ASSERT_TRUE(refused.refused);
  EXPECT_EQ(refused.refused->reason, Reason::controller_lost);
}

TEST_F(PursesTest, WherePolicySaysSoALostControllerLetsThroughButNeverPastAHalt) {
  limit(link_api::LIMIT_SCOPE_APPLICATION, 10, 10, link_api::ON_CONTROLLER_LOSS_ALLOW_AND_RECORD);
  controller_.go();
  ASSERT_TRUE(eventually([&] { return member_.link->status().state != link::LinkState::connected; }));
  const Payment payment = pay();
  EXPECT_FALSE(payment.refused);
  EXPECT_THAT(payment.note, HasSubstr("let through without a lease of the limit 'charges'"));
  terms_->limits[0].halt->halt(net::Clock::now().time_since_epoch());
  net::run_for(loop_, 20ms);
  EXPECT_EQ(pay().refused->reason, Reason::controller_lost);
}

TEST_F(PursesTest, WhatOneLimitRefusesIsNotTakenFromTheOthers) {
  link_api::Update update = update_of(1);
  for (const auto& [name, burst] : {std::pair("wide", 5.0), std::pair("narrow", 1.0)}) {
    link_api::Limit& limit = *update.add_limits();
    limit.set_name(name);
    limit.set_scope(link_api::LIMIT_SCOPE_INSTANCE);
    limit.set_per_second(0.001);
    limit.set_burst(burst);
  }
  controller_.push(update);
  ASSERT_TRUE(member_.membership.first_policy(10s));
  terms_ = member_.membership.terms();
  EXPECT_EQ(paid(20), 1);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(terms_->limits[0].bucket->take(loop_.now().time_since_epoch()).count(), 0);
  EXPECT_NE(terms_->limits[0].bucket->take(loop_.now().time_since_epoch()).count(), 0);
}

}  // namespace
}  // namespace sallyport::guard
