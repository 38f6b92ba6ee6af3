#include "proxy/guard/update.h"

#include <gmock/gmock.h>

#include <limits>

#include "base/limits.h"
#include "policy-engine/credentials/binding.h"
#include "proxy/guard/test_update.h"

namespace sallyport::guard {
namespace {

using ::testing::HasSubstr;
using testing::policy_named;
using testing::update_of;

UpdateLoad load(link_api::Update update, const Terms* previous = nullptr) {
  return read_update(std::move(update), {"shop", "checkout"}, {}, nullptr, previous,
                     [](const std::string&) { return std::make_shared<HaltSwitch>(); });
}

link_api::Limit limit_of(const std::string& name, link_api::LimitScope scope, double per_second = 10,
                         double burst = 5) {
  link_api::Limit limit;
  limit.set_name(name);
  limit.set_scope(scope);
  limit.set_per_second(per_second);
  limit.set_burst(burst);
  return limit;
}

void add_endpoint(policy::v1alpha1::EgressPolicy& policy, const std::string& credential) {
  auto& endpoint = *policy.mutable_spec()->add_endpoints();
  endpoint.set_name("bank");
  endpoint.set_host("bank.example");
  endpoint.set_credential(credential);
  auto& rule = *endpoint.add_rules();
  rule.add_methods("any");
  rule.mutable_path()->set_prefix("/");
  auto& made = *policy.mutable_spec()->add_credentials();
  made.set_name(credential);
  made.mutable_secret()->set_store("bank-key");
  made.mutable_inject()->set_header("Authorization");
}

void add_graph(link_api::Update& update, const std::string& function) {
  auto& graph = *update.mutable_graph();
  graph.set_api_version("sallyport.dev/v1alpha1");
  graph.set_kind("FlowGraph");
  graph.mutable_metadata()->set_name(function);
  graph.mutable_spec()->add_entry("exit");
}

TEST(Update, BringsPolicySecretsKeysAndTerms) {
  link_api::Update update = update_of(7);
  add_endpoint(*update.mutable_policy(), "bank");
  auto& secret = *update.add_secrets();
  secret.set_name("bank-key");
  secret.set_value("hush\n");
  update.add_tag_keys(std::string(32, 'k'));
  update.set_entry_check(link_api::ENTRY_CHECK_UNTAGGED);
  update.set_on_controller_loss(link_api::ON_CONTROLLER_LOSS_ALLOW_AND_RECORD);
  update.set_lifetime_s(60);
  update.add_announced()->set_request("POST bank.example/charges");
  *update.add_limits() = limit_of("mine", link_api::LIMIT_SCOPE_INSTANCE);
  *update.add_limits() = limit_of("ours", link_api::LIMIT_SCOPE_APPLICATION);
  const UpdateLoad loaded = load(update);
  ASSERT_EQ(loaded.refusal, "");
  EXPECT_EQ(loaded.policy.snapshot->bindings().all()[0]->secret.view(), "hush");
  EXPECT_EQ(loaded.policy.snapshot->tags()->application, "shop");
  EXPECT_EQ(loaded.terms->generation, 7U);
  EXPECT_EQ(loaded.terms->entry_check, EntryCheck::untagged);
  EXPECT_EQ(loaded.terms->on_loss, OnControllerLoss::allow_and_record);
  EXPECT_EQ(loaded.terms->lifetime, std::chrono::seconds(60));
  EXPECT_TRUE(loaded.terms->announces({"POST", "bank.example", "/charges", "", ""}));
  EXPECT_FALSE(loaded.terms->announces({"POST", "bank.example", "/charges", "", "Charge"}));
  EXPECT_FALSE(loaded.terms->announces({"GET", "bank.example", "/charges", "", ""}));
  ASSERT_EQ(loaded.terms->limits.size(), 2U);
  EXPECT_TRUE(loaded.terms->limits[0].bucket);
  EXPECT_FALSE(loaded.terms->limits[1].bucket);
}

TEST(Update, WhatIsNotSaidIsTheStrictest) {
  link_api::Update update = update_of(1);
  update.clear_entry_check();
  update.clear_on_controller_loss();
  const UpdateLoad loaded = load(update);
  EXPECT_EQ(loaded.terms->entry_check, EntryCheck::always);
  EXPECT_EQ(loaded.terms->on_loss, OnControllerLoss::deny);
}

TEST(Update, OneForAnotherFunctionIsRefused) {
  link_api::Update update = update_of(1);
  update.mutable_policy()->mutable_metadata()->set_name("refunds");
  const UpdateLoad loaded = load(update);
  EXPECT_FALSE(loaded.policy.snapshot);
  EXPECT_FALSE(loaded.terms);
  EXPECT_THAT(loaded.refusal, HasSubstr("it is for the function 'refunds' (hint: this guard is 'checkout')"));
}

TEST(Update, AFlowRuleWithoutAGraphIsRefused) {
  link_api::Update update = update_of(1);
  update.mutable_policy()->mutable_spec()->mutable_flow()->set_graph("checkout.graph.yaml");
  EXPECT_THAT(load(update).refusal, HasSubstr("it has a flow rule, and there is no flow graph"));
}

TEST(Update, AGraphOfAnotherFunctionOrOfANewerVersionIsRefused) {
  link_api::Update update = update_of(1);
  add_graph(update, "refunds");
  EXPECT_THAT(load(update).refusal, HasSubstr("is for the function 'refunds'"));
  update = update_of(1);
  add_graph(update, "checkout");
  auto& graph = *update.mutable_graph();
  graph.GetReflection()->MutableUnknownFields(graph.mutable_spec())->AddVarint(9'999, 1);
  EXPECT_THAT(load(update).refusal, HasSubstr("fields that this version does not know"));
}

TEST(Update, ASecretThatTheControllerDoesNotKeepFailsWhereItIsNeeded) {
  link_api::Update update = update_of(1);
  add_endpoint(*update.mutable_policy(), "bank");
  const UpdateLoad loaded = load(update);
  ASSERT_EQ(loaded.refusal, "");
  EXPECT_TRUE(loaded.policy.snapshot->bindings().all()[0]->secret.empty());
  EXPECT_THAT(loaded.policy.diagnostics[0].to_string(), HasSubstr("the controller keeps no secret 'bank-key'"));
}

TEST(Update, TermsThatThisVersionCannotKeepAreRefused) {
  const auto refusal = [](const std::function<void(link_api::Update&)>& change) {
    link_api::Update update = update_of(1);
    change(update);
    return load(update).refusal;
  };
  EXPECT_THAT(refusal([](auto& u) { u.set_entry_check(static_cast<link_api::EntryCheck>(9)); }),
              HasSubstr("does not know"));
  EXPECT_THAT(refusal([](auto& u) { u.set_on_controller_loss(static_cast<link_api::OnControllerLoss>(9)); }),
              HasSubstr("does not know"));
  EXPECT_THAT(refusal([](auto& u) { *u.add_limits() = limit_of("l", static_cast<link_api::LimitScope>(9)); }),
              HasSubstr("'l' has a scope that this version does not know"));
  EXPECT_THAT(refusal([](auto& u) { u.add_announced()->set_request("no pattern"); }), HasSubstr("'no pattern'"));
  EXPECT_THAT(refusal([](auto& u) {
                *u.add_limits() = limit_of("l", link_api::LIMIT_SCOPE_INSTANCE);
                *u.add_limits() = limit_of("l", link_api::LIMIT_SCOPE_FUNCTION);
              }),
              HasSubstr("'l' is given twice"));
  for (const auto& [rate, burst] :
       {std::pair(0.0, 5.0), std::pair(-1.0, 5.0), std::pair(1.0, 0.5),
        std::pair(std::numeric_limits<double>::quiet_NaN(), 5.0),
        std::pair(std::numeric_limits<double>::infinity(), 5.0), std::pair(1.0, 1e12), std::pair(1e-9, 1e6)}) {
    EXPECT_THAT(refusal([&](auto& u) { *u.add_limits() = limit_of("l", link_api::LIMIT_SCOPE_INSTANCE, rate, burst); }),
                HasSubstr("has a rate or a burst that can't be kept"))
        << rate << " " << burst;
  }
  EXPECT_THAT(refusal([](auto& u) {
                for (std::size_t i = 0; i <= limits::kMemberTagKeysMax; ++i) u.add_tag_keys(std::string(32, 'k'));
              }),
              HasSubstr("too many secrets or keys"));
}

TEST(Update, ALimitGoesOnFromWhereItIs) {
  link_api::Update update = update_of(1);
  *update.add_limits() = limit_of("mine", link_api::LIMIT_SCOPE_INSTANCE);
  const UpdateLoad first = load(update);
  const UpdateLoad second = load(update, first.terms.get());
  EXPECT_EQ(first.terms->limits[0].bucket, second.terms->limits[0].bucket);
  update.mutable_limits(0)->set_burst(6);
  EXPECT_NE(first.terms->limits[0].bucket, load(update, first.terms.get()).terms->limits[0].bucket);
}

}  // namespace
}  // namespace sallyport::guard
