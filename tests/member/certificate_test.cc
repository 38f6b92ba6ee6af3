// Where the guard's certificate comes from its controller: what waits for it, and what becomes of the ones before.
#include <gmock/gmock.h>

#include "ca/certificate_request.h"
#include "proxy/guard/member_certificate.h"
#include "proxy/guard/membership.h"
#include "tests/member/scripted_application.h"

namespace sallyport::guard {
namespace {

using namespace std::chrono_literals;
using testing::eventually;
using ::testing::HasSubstr;
using testing::Member;
using testing::ScriptedController;

ca::TimePoint today() { return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()); }

// An Update whose policy is for these hosts.
link_api::Update update_for(std::uint64_t generation, const std::vector<std::string>& hosts) {
  link_api::Update update = testing::update_of(generation);
  for (const std::string& host : hosts) {
    auto& endpoint = *update.mutable_policy()->mutable_spec()->add_endpoints();
    endpoint.set_name("e" + std::to_string(update.policy().spec().endpoints_size()));
    endpoint.set_host(host);
    auto& rule = *endpoint.add_rules();
    rule.add_methods("GET");
    rule.mutable_path()->set_prefix("/");
  }
  return update;
}

// The CA of the application, which signs for whatever hosts it is told.
struct Tenant {
  ca::Authority root = std::move(*ca::Authority::create_root(nullptr, {.name = "Tenant"}, today()));
  std::vector<std::string> hosts;
  std::chrono::seconds lifetime = 24h;

  link_api::Renewed sign(const std::string& request) const {
    link_api::Renewed out;
    const auto made = root.sign_intermediate(*ca::key_of_request(nullptr, request), "guard", hosts, lifetime, today());
    if (!made) {
      out.set_refusal(made.error().text);
      return out;
    }
    out.set_certificates(*ca::chain_pem(made->get(), nullptr) + root.certificate_pem());
    return out;
  }
};

class MemberCertificates : public ::testing::Test {
 public:
  ~MemberCertificates() override { member_.membership.stop(); }

 protected:
  // What becomes of the guard, in order: "trusted", "certificate", "policy 3".
  void start() {
    member_.membership.on_trusted([this](const std::string& pem) { note("trusted " + pem); });
    member_.membership.start(
        [this](const InForce& now) { note("policy " + std::to_string(now.terms->generation)); },
        [this](const std::string& text) { note(text); },
        [this](const std::shared_ptr<const std::string>& pem) {
          const auto read = ca::Authority::of_key(nullptr, {"given", *pem}, ca::share(given_->key()), today());
          note(read ? "certificate for " + ::testing::PrintToString(*read->permitted()) : read.error().text);
        });
  }
  void sign_for(std::vector<std::string> hosts) {
    const std::lock_guard lock(controller_.mutex);
    tenant_.hosts = std::move(hosts);
    controller_.on_certificate = [this](const std::string& request) { return tenant_.sign(request); };
  }
  void sign_nothing() {
    const std::lock_guard lock(controller_.mutex);
    controller_.on_certificate = nullptr;
  }
  // The first policy, with a certificate that is for its hosts.
  void begin(const std::vector<std::string>& hosts) {
    sign_for(hosts);
    controller_.go();
    controller_.push(update_for(1, hosts));
    controller_.come_back();
    const auto policy = member_.membership.first_policy(20s);
    ASSERT_TRUE(policy) << policy.error().text;
    auto authority = member_.membership.authority();
    ASSERT_TRUE(authority) << authority.error().text;
    given_ = std::move(*authority);
    start();
  }

  void note(const std::string& text) {
    const std::lock_guard lock(mutex_);
    noted_.push_back(text);
  }
  std::vector<std::string> so_far() {
    const std::lock_guard lock(mutex_);
    return noted_;
  }
  bool has(const std::string& text) {
    const auto all = so_far();
    return std::ranges::any_of(all, [&](const std::string& one) { return one.find(text) != std::string::npos; });
  }

  std::mutex mutex_;
  std::vector<std::string> noted_;
  std::optional<ca::Authority> given_;
  Tenant tenant_;
  ScriptedController controller_;
  Member member_{controller_, std::move(*MemberCertificate::create(nullptr))};
};

TEST_F(MemberCertificates, NobodyIsServedBeforeThereIsOne) {
  controller_.push(update_for(1, {"a.example"}));
  const auto none = member_.membership.first_policy(300ms);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().text, HasSubstr("it has given no certificate for this function"));
  link_api::Renewed refusal;
  refusal.set_refusal("it asks\x1b[2J too often");
  controller_.give(refusal);
  const auto refused = member_.membership.first_policy(300ms);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("too often"));
  EXPECT_EQ(refused.error().text.find('\x1b'), std::string::npos) << "it goes to terminals";
}

TEST_F(MemberCertificates, OneComesWithTheRegisteringAndIsNotAskedForAgain) {
  begin({"a.example"});
  EXPECT_EQ(member_.membership.trusted(), tenant_.root.trust_pem());
  EXPECT_EQ(given_->trust_pem(), tenant_.root.trust_pem());
  ASSERT_TRUE(eventually([&] { return controller_.refusal_of(1) == "taken"; }));
  const std::size_t before = controller_.registers.size();
  controller_.go();
  controller_.come_back();
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(controller_.mutex);
    return controller_.registers.size() > before + 1 || (controller_.registers.size() > before && !controller_.gone);
  }));
  const std::lock_guard lock(controller_.mutex);
  EXPECT_EQ(controller_.registers.back().certificate_request(), "");
  EXPECT_EQ(controller_.renewals, 0U);
}

TEST_F(MemberCertificates, APolicyForMoreHostsWaitsForACertificateForThem) {
  begin({"a.example"});
  sign_nothing();
  controller_.push(update_for(2, {"a.example", "b.example"}));
  ASSERT_TRUE(eventually([&] { return controller_.renewals > 0; }));
  EXPECT_EQ(controller_.refusal_of(2), "");
  EXPECT_FALSE(has("policy 2"));
  sign_for({"a.example", "b.example"});  // it is asked for again, as the answer may have got lost
  ASSERT_TRUE(eventually([&] { return controller_.refusal_of(2) == "taken"; }));
  const auto all = so_far();
  ASSERT_EQ(all.size(), 2U) << ::testing::PrintToString(all);
  EXPECT_THAT(all[0], HasSubstr("certificate for")) << "first";
  EXPECT_THAT(all[0], HasSubstr("b.example"));
  EXPECT_EQ(all[1], "policy 2");
}

TEST_F(MemberCertificates, APolicyForFewerHostsIsInForceAtOnceAndTheCertificateFollows) {
  begin({"a.example", "b.example"});
  sign_nothing();
  controller_.push(update_for(2, {"a.example"}));
  ASSERT_TRUE(eventually([&] { return controller_.refusal_of(2) == "taken"; }));
  EXPECT_TRUE(has("policy 2"));
  ASSERT_TRUE(eventually([&] { return controller_.renewals > 0; }));
  tenant_.hosts = {"a.example"};
  controller_.give(tenant_.sign(*ca::make_certificate_request(nullptr, given_->key())));
  ASSERT_TRUE(eventually([&] { return has("certificate for { \"a.example\" }"); }));
}

TEST_F(MemberCertificates, OneForThePolicyThatIsOnItsWayWaitsForIt) {
  begin({"a.example"});
  sign_for({"b.example"});
  controller_.give(tenant_.sign(*ca::make_certificate_request(nullptr, given_->key())));
  std::this_thread::sleep_for(100ms);
  EXPECT_FALSE(has("certificate")) << "the policy that is in force needs a.example";
  controller_.push(update_for(2, {"b.example"}));
  ASSERT_TRUE(eventually([&] { return has("policy 2"); }));
  EXPECT_THAT(so_far().front(), HasSubstr("certificate for"));
  EXPECT_EQ(controller_.renewals, 0U);
}

// The root of an application is replaced at once, as after a compromise.
TEST_F(MemberCertificates, OneThatLeadsToNoTrustedRootIsReplacedAtOnce) {
  begin({"a.example"});
  const std::string request = *ca::make_certificate_request(nullptr, given_->key());
  const link_api::Renewed of_the_old = tenant_.sign(request);
  Tenant next;
  next.hosts = {"a.example"};
  {
    const std::lock_guard lock(controller_.mutex);
    controller_.on_certificate = [&](const std::string& asked) { return next.sign(asked); };
  }
  link_api::Update update = update_for(2, {"a.example"});
  update.set_trusted(next.root.trust_pem());
  controller_.push(update);
  ASSERT_TRUE(eventually([&] { return has("certificate for"); }));
  EXPECT_EQ(so_far().front(), "trusted " + next.root.trust_pem()) << "before what functions are to take by it";
  EXPECT_EQ(member_.membership.trusted(), next.root.trust_pem());
  EXPECT_EQ(member_.membership.authority()->trust_pem(), next.root.trust_pem());
  EXPECT_EQ(controller_.refusal_of(2), "taken");
  // What was signed before, and comes late.
  controller_.give(of_the_old);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(member_.membership.authority()->trust_pem(), next.root.trust_pem());
  sign_nothing();
}

TEST_F(MemberCertificates, OneBelowARootThatIsNotTrustedYetWaitsForIt) {
  begin({"a.example"});
  link_api::Update update = update_for(2, {"a.example"});
  update.set_trusted(tenant_.root.trust_pem());
  controller_.push(update);
  ASSERT_TRUE(eventually([&] { return controller_.refusal_of(2) == "taken"; }));
  Tenant next;
  next.hosts = {"a.example"};
  controller_.give(next.sign(*ca::make_certificate_request(nullptr, given_->key())));
  std::this_thread::sleep_for(100ms);
  EXPECT_FALSE(has("certificate for")) << "functions would not take it";
  update.set_generation(3);
  update.set_trusted(tenant_.root.trust_pem() + next.root.trust_pem());
  controller_.push(update);
  ASSERT_TRUE(eventually([&] { return has("certificate for"); }));
}

// Whom to trust is no less meant where the policy beside it can't be used.
TEST_F(MemberCertificates, TheRootsOfAnUpdateThatIsRefusedCount) {
  begin({"a.example"});
  link_api::Update update = update_for(2, {"not a host"});
  update.set_trusted("another root");
  controller_.push(update);
  ASSERT_TRUE(eventually([&] { return has("trusted another root"); }));
  ASSERT_TRUE(eventually([&] { return controller_.renewals > 0; }));
  EXPECT_FALSE(has("policy 2"));
}

TEST_F(MemberCertificates, ARefusalIsToldAndLeavesThePolicyAndTheCertificateBefore) {
  begin({"a.example"});
  {
    const std::lock_guard lock(controller_.mutex);
    controller_.on_certificate = [](const std::string&) {
      link_api::Renewed out;
      out.set_refusal("its CA has expired");
      return out;
    };
  }
  controller_.push(update_for(2, {"b.example"}));
  ASSERT_TRUE(eventually([&] { return controller_.refusal_of(2).find("its CA has expired") != std::string::npos; }));
  ASSERT_TRUE(eventually([&] { return has("gives no certificate: its CA has expired"); }));
  EXPECT_FALSE(has("policy 2"));
  EXPECT_FALSE(has("certificate for"));
}

TEST_F(MemberCertificates, WhatIsNoneOfItsKeyOrNoneAtAllIsNotTaken) {
  begin({"a.example"});
  const Tenant other;
  const ca::EvpPkeyPtr strange = std::move(*ca::make_p256_key(nullptr));
  link_api::Renewed of_another = tenant_.sign(*ca::make_certificate_request(nullptr, strange.get()));
  controller_.give(of_another);
  ASSERT_TRUE(eventually([&] { return has("does not belong to the certificate"); }));
  link_api::Renewed none;
  none.set_certificates("garbage");
  controller_.give(none);
  ASSERT_TRUE(eventually([&] { return has("holds no PEM certificate"); }));
  link_api::Renewed broken_chain = tenant_.sign(*ca::make_certificate_request(nullptr, given_->key()));
  broken_chain.set_certificates(broken_chain.certificates().substr(0, broken_chain.certificates().rfind("-----BEGIN")) +
                                other.root.certificate_pem());
  controller_.give(broken_chain);
  ASSERT_TRUE(eventually([&] { return has("did not issue"); }));
  EXPECT_FALSE(has("certificate for"));
}

TEST_F(MemberCertificates, OneIsRenewedAtHalfOfItsLife) {
  tenant_.lifetime = 8s;
  begin({"a.example"});
  EXPECT_EQ(controller_.renewals, 0U);
  ASSERT_TRUE(eventually([&] { return has("certificate for"); }));
  EXPECT_GE(controller_.renewals, 1U);
  EXPECT_FALSE(has("expired"));
}

TEST_F(MemberCertificates, OneThatEndsWithoutAControllerIsSaidToHaveEnded) {
  tenant_.lifetime = 5s;
  begin({"a.example"});
  controller_.go();
  ASSERT_TRUE(eventually([&] { return has("the guard's certificate has expired"); }));
  controller_.come_back();
  ASSERT_TRUE(eventually([&] { return has("certificate for"); }));
}

}  // namespace
}  // namespace sallyport::guard
