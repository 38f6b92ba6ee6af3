// What a guard makes of what its controller says, over a real link.
#include "proxy/guard/membership.h"

#include <gmock/gmock.h>

#include "base/limits.h"
#include "proxy/guard/entry.h"
#include "proxy/net/run_task_test.h"
#include "tests/member/scripted_application.h"

namespace sallyport::guard {
namespace {

using namespace std::chrono_literals;
using testing::allowed;
using testing::eventually;
using ::testing::HasSubstr;
using testing::Member;
using testing::ScriptedController;
using testing::update_of;

// What the guard would be told.
struct Heard {
  Membership::Put put() {
    return [this](const InForce& now) {
      const std::lock_guard lock(mutex);
      in_force.push_back(now);
    };
  }
  Membership::Say say() {
    return [this](const std::string& text) {
      const std::lock_guard lock(mutex);
      said += text + "\n";
    };
  }
  std::size_t count() {
    const std::lock_guard lock(mutex);
    return in_force.size();
  }
  InForce last() {
    const std::lock_guard lock(mutex);
    return in_force.back();
  }
  std::mutex mutex;
  std::vector<InForce> in_force;
  std::string said;
};

TEST(Membership, TheFirstPolicyIsWaitedFor) {
  ScriptedController controller;
  Member member(controller);
  const auto none = member.membership.first_policy(200ms);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().text, HasSubstr("the controller wss://controller.test:7443: it has sent no policy"));
  controller.push(update_of(3));
  const auto policy = member.membership.first_policy(10s);
  ASSERT_TRUE(policy) << policy.error().text;
  EXPECT_EQ(policy->snapshot->function(), "checkout");
  EXPECT_EQ(member.membership.terms()->generation, 3U);
  EXPECT_EQ(controller.refusal_of(3), "");  // it is not in force yet
  Heard heard;
  member.membership.start(heard.put(), heard.say());
  EXPECT_TRUE(eventually([&] { return controller.refusal_of(3) == "taken"; }));
  EXPECT_EQ(member.membership.guard_id()[0], 'g');
}

TEST(Membership, AFirstPolicyThatCannotBeUsedIsSaidOnBothSides) {
  ScriptedController controller;
  link_api::Update update = update_of(1);
  update.mutable_policy()->mutable_metadata()->set_name("refunds");
  controller.push(update);
  Member member(controller);
  const auto none = member.membership.first_policy(500ms);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().text, HasSubstr("its policy can't be used: the controller's policy: error: it is for the"));
  EXPECT_THAT(controller.refusal_of(1), HasSubstr("refunds"));
}

TEST(Membership, WhoIsRefusedDoesNotWait) {
  class Refusing final : public controller::LinkHandler {
    void connected(controller::Links& way, controller::LinkId link, link_api::Register&&) override {
      link_api::Refused refused;
      refused.set_reason(link_api::REFUSED_REASON_CREDENTIAL);
      refused.set_text("no such token");
      way.close(link, refused);
    }
    void received(controller::LinkId, link_api::Envelope&&) override {}
    void closed(controller::LinkId, const std::string&) override {}
  } refusing;
  Membership membership({{"shop", "checkout"}, {}, "wss://controller.test:7443"});
  controller::LocalLink link(
      refusing, [] { return Result<link_api::Register>(link_api::Register{}); }, membership.handlers());
  membership.attach(link);
  const auto began = std::chrono::steady_clock::now();
  const auto none = membership.first_policy(60s);
  ASSERT_FALSE(none);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 30s);
  EXPECT_THAT(none.error().text, HasSubstr("no such token"));
}

class Running : public ::testing::Test {
 protected:
  void begin(const link_api::Update& first) {
    controller_.push(first);
    ASSERT_TRUE(member_.membership.first_policy(10s));
    member_.membership.start(heard_.put(), heard_.say());
  }
  ~Running() override { member_.membership.stop(); }
  ScriptedController controller_;
  Heard heard_;
  Member member_{controller_};
};

TEST_F(Running, AnUpdateIsPutInForceAndOneThatIsNoneLeavesTheOneBefore) {
  begin(update_of(1));
  link_api::Update broken = update_of(2);
  broken.mutable_policy()->set_kind("Poem");
  controller_.push(broken);
  EXPECT_TRUE(eventually([&] { return !controller_.refusal_of(2).empty(); }));
  EXPECT_THAT(controller_.refusal_of(2), HasSubstr("Poem"));
  EXPECT_EQ(heard_.count(), 0U);
  link_api::Update good = update_of(3);
  good.mutable_policy()->mutable_spec()->set_mode(policy::v1alpha1::MODE_AUDIT);
  controller_.push(good);
  EXPECT_TRUE(eventually([&] { return controller_.refusal_of(3) == "taken"; }));
  ASSERT_EQ(heard_.count(), 1U);
  EXPECT_EQ(heard_.last().policy->mode(), document::Mode::audit);
  EXPECT_EQ(heard_.last().terms->generation, 3U);
}

TEST_F(Running, WithoutAControllerThePolicyEndsWithItsLifetimeAndComesBackWithIt) {
  link_api::Update update = update_of(1);
  update.set_lifetime_s(1);
  begin(update);
  const auto began = std::chrono::steady_clock::now();
  controller_.go();
  ASSERT_TRUE(eventually([&] { return heard_.count() == 1; }));
  EXPECT_GE(std::chrono::steady_clock::now() - began, 900ms);
  ASSERT_NE(heard_.last().policy->refusal(), nullptr);
  EXPECT_EQ(heard_.last().policy->refusal()->reason, Reason::policy_expired);
  EXPECT_TRUE(heard_.last().terms->expired);
  controller_.come_back();
  ASSERT_TRUE(eventually([&] { return heard_.count() > 1; }));
  EXPECT_EQ(heard_.last().policy->refusal(), nullptr);
  EXPECT_FALSE(heard_.last().terms->expired);
}

TEST_F(Running, WithoutALifetimeThePolicyStays) {
  begin(update_of(1));
  controller_.go();
  EXPECT_FALSE(eventually([&] { return heard_.count() > 0; }, 1'500ms));
}

TEST_F(Running, WhereNothingIsEnforcedAPolicyThatHasExpiredRefusesNothing) {
  link_api::Update update = update_of(1);
  update.set_lifetime_s(1);
  update.mutable_policy()->mutable_spec()->set_mode(policy::v1alpha1::MODE_LEARN);
  begin(update);
  controller_.go();
  ASSERT_TRUE(eventually([&] { return heard_.count() == 1; }));
  EXPECT_EQ(heard_.last().policy->refusal(), nullptr);
  EXPECT_TRUE(heard_.last().terms->expired);
}

// m_in.
class Entering : public Running {
 protected:
  // With that check; what is asked is answered by `answer`.
  std::optional<Entry> enter(link_api::EntryCheck check, Message message, document::Mode mode = document::Mode::enforce,
                             link_api::OnControllerLoss loss = link_api::ON_CONTROLLER_LOSS_DENY) {
    if (!begun_) {
      link_api::Update update = update_of(1);
      update.set_entry_check(check);
      update.set_on_controller_loss(loss);
      begin(update);
      begun_ = true;
    }
    return net::run_task(loop_, guard::enter(loop_, member_.membership, member_.membership.terms(), mode, message));
  }
  void answer(ScriptedController::Ask ask) {
    const std::lock_guard lock(controller_.mutex);
    controller_.on_ask = std::move(ask);
  }
  std::vector<link_api::EntryAsk> asks() {
    const std::lock_guard lock(controller_.mutex);
    return controller_.asks;
  }
  static Message tagged() {
    tag::Tag tag;
    tag.function = "cart";
    tag.guard.fill(3);
    tag.request.fill(7);
    return {std::nullopt, tag};
  }
  net::Loop loop_;
  bool begun_ = false;
};

TEST_F(Entering, NobodyIsAskedWhereNobodyHasToBe) {
  const auto entry = enter(link_api::ENTRY_CHECK_NONE, {});
  ASSERT_TRUE(entry);
  EXPECT_FALSE(entry->refused);
  EXPECT_FALSE(entry->asked);
  EXPECT_EQ(entry->request, entry->execution);
  EXPECT_EQ(enter(link_api::ENTRY_CHECK_NONE, tagged())->request[0], 7);
  EXPECT_TRUE(asks().empty());
}

TEST_F(Entering, OnlyMessagesWithoutATagAreAskedFor) {
  answer([](const auto&) { return allowed(); });
  EXPECT_EQ(enter(link_api::ENTRY_CHECK_UNTAGGED, tagged())->request[0], 7);
  EXPECT_TRUE(asks().empty());
  Message message;
  message.inbound.emplace().set_path("/orders");
  const auto entry = enter(link_api::ENTRY_CHECK_UNTAGGED, message);
  EXPECT_TRUE(entry->asked);
  EXPECT_EQ(entry->request[0], 'r');
  ASSERT_EQ(asks().size(), 1U);
  EXPECT_EQ(asks()[0].execution(), std::string(entry->execution.begin(), entry->execution.end()));
  EXPECT_EQ(asks()[0].inbound().path(), "/orders");
  EXPECT_FALSE(asks()[0].has_sender());
}

TEST_F(Entering, TheSenderIsThatOfTheTag) {
  answer([](const auto& ask) { return allowed(ask.sender().request_id()); });
  const auto entry = enter(link_api::ENTRY_CHECK_ALWAYS, tagged());
  EXPECT_TRUE(entry->asked);
  EXPECT_EQ(entry->request[0], 7);
  EXPECT_EQ(asks()[0].sender().function(), "cart");
  EXPECT_EQ(asks()[0].sender().guard_id(), std::string(16, '\3'));
}

TEST_F(Entering, WhatTheControllerRefusesDoesNotBegin) {
  answer([](const auto&) {
    link_api::EntryAnswer no;
    no.set_refusal("nothing has led here");
    return no;
  });
  const auto entry = enter(link_api::ENTRY_CHECK_ALWAYS, {});
  ASSERT_TRUE(entry->refused);
  EXPECT_EQ(entry->refused->outcome, Outcome::deny);
  EXPECT_EQ(entry->refused->reason, Reason::entry_refused);
  EXPECT_THAT(entry->refused->text, HasSubstr("nothing has led here"));
  const auto audited = enter(link_api::ENTRY_CHECK_ALWAYS, {}, document::Mode::audit);
  EXPECT_EQ(audited->refused->outcome, Outcome::would_deny);
}

TEST_F(Entering, AnAnswerThatDoesNotComeIsADenial) {
  const auto began = std::chrono::steady_clock::now();
  const auto entry = enter(link_api::ENTRY_CHECK_ALWAYS, {});
  EXPECT_LT(std::chrono::steady_clock::now() - began, 30s);
  ASSERT_TRUE(entry->refused);
  EXPECT_EQ(entry->refused->reason, Reason::controller_lost);
  EXPECT_EQ(entry->refused->outcome, Outcome::deny);
}

TEST_F(Entering, AnAnswerWithoutARequestIsNone) {
  answer([](const auto&) { return allowed("short"); });
  EXPECT_EQ(enter(link_api::ENTRY_CHECK_ALWAYS, {})->refused->reason, Reason::controller_lost);
}

TEST_F(Entering, WhereThePolicySaysSoSilenceLetsThroughAndIsRecorded) {
  const auto entry =
      enter(link_api::ENTRY_CHECK_ALWAYS, {}, document::Mode::enforce, link_api::ON_CONTROLLER_LOSS_ALLOW_AND_RECORD);
  EXPECT_FALSE(entry->refused);
  EXPECT_FALSE(entry->asked);
  EXPECT_THAT(entry->note, HasSubstr("let through without the controller's word"));
}

TEST_F(Entering, WithoutAConnectionNobodyWaits) {
  enter(link_api::ENTRY_CHECK_ALWAYS, {});
  controller_.go();
  ASSERT_TRUE(eventually([&] { return member_.link->status().state != link::LinkState::connected; }));
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(enter(link_api::ENTRY_CHECK_ALWAYS, {})->refused->reason, Reason::controller_lost);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 500ms);
}

}  // namespace
}  // namespace sallyport::guard
