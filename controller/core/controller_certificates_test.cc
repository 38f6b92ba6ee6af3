// What the controller signs for its guards, and below which CA.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "ca/certificate_request.h"
#include "controller/core/controller.h"
#include "controller/store/sqlite_store.h"

namespace sallyport::controller {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;

// A way to guards that keeps what is said to them.
class Recorded final : public Links {
 public:
  bool send(LinkId link, const v1alpha1::Envelope& envelope) override {
    const std::lock_guard lock(mutex_);
    said_.emplace_back(link, envelope);
    return true;
  }
  void send_all(std::span<const LinkId> links, const SharedEnvelope& envelope) override {
    v1alpha1::Envelope read;
    read.ParseFromString(std::string(envelope.payload()));
    for (const LinkId link : links) send(link, read);
  }
  void close(LinkId link, const v1alpha1::Refused& refused) override {
    v1alpha1::Envelope envelope;
    *envelope.mutable_refused() = refused;
    send(link, envelope);
  }

  // The first of its kind that was said to `link`, which is taken out; waited for.
  v1alpha1::Envelope heard(LinkId link, v1alpha1::Envelope::BodyCase kind) {
    const auto last = std::chrono::steady_clock::now() + 20s;
    while (std::chrono::steady_clock::now() < last) {
      {
        const std::lock_guard lock(mutex_);
        const auto found = std::ranges::find_if(
            said_, [&](const auto& one) { return one.first == link && one.second.body_case() == kind; });
        if (found != said_.end()) {
          v1alpha1::Envelope out = std::move(found->second);
          said_.erase(found);
          return out;
        }
      }
      std::this_thread::sleep_for(2ms);
    }
    ADD_FAILURE() << "nothing of the kind " << kind << " came";
    return {};
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<LinkId, v1alpha1::Envelope>> said_;
};

std::string policy_of(const std::string& function, const std::string& host, const std::string& mode = "enforce") {
  return "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: " + function +
         "}\nspec:\n  mode: " + mode + "\n  endpoints:\n  - name: api\n    host: '" + host +
         "'\n    rules: [{methods: [GET], path: {prefix: /}}]\n";
}

ca::TimePoint today() { return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()); }

class Certificates : public ::testing::Test {
 public:
  Certificates() : folder_(::testing::TempDir() + "/sallyport_certificates." + std::to_string(getpid())) {
    std::filesystem::remove_all(folder_);
    start();
    EXPECT_TRUE(controller_->create_application("shop", "test"));
    put(DocumentKind::policy, policy_of("front", "api.example.com"), "front");
    put(DocumentKind::policy, policy_of("back", "*.bank.example"), "back");
    for (const char* function : {"front", "back"}) {
      tokens_[function] = controller_->make_token("shop", function, std::nullopt, "test")->text;
    }
  }
  ~Certificates() override {
    controller_.reset();
    store_.reset();
    std::filesystem::remove_all(folder_);
  }

 protected:
  void start(SigningBudget::Rates signing = {}) {
    controller_.reset();
    store_.reset();
    store_ = std::move(*SqliteStore::open(folder_));
    controller_ = std::move(*Controller::start(*store_, {.signing = signing, .say = [](const std::string&) {}}));
  }
  void put(DocumentKind kind, const std::string& text, const std::string& function = {}) {
    Document document;
    document.application = "shop";
    document.function = function;
    document.kind = kind;
    document.text = text;
    const auto done = controller_->put_document(std::move(document), 0, "test");
    ASSERT_TRUE(done) << done.error().text;
    EXPECT_GT(done->version, 0U) << done->diagnostics.at(0).to_string();
  }

  Result<void> put_ca(const std::string& application, std::string_view certificates, std::string_view key,
                      Controller::OldCa old = Controller::OldCa::keep) {
    return controller_->put_ca(application, certificates, key, old, "test");
  }

  // What a guard of the function is given for its request.
  v1alpha1::Renewed join(const std::string& function, const std::string& request) {
    v1alpha1::Register wanted;
    wanted.set_join_token(tokens_[function]);
    wanted.set_application("shop");
    wanted.set_function(function);
    wanted.set_instance("one");
    wanted.set_certificate_request(request);
    wanted.set_guard_id(id_);
    link_ = LinkId{++links_};
    controller_->connected(way_, link_, std::move(wanted));
    const v1alpha1::Registered registered = way_.heard(link_, v1alpha1::Envelope::kRegistered).registered();
    id_ = registered.guard_id();
    trusted_ = update_trusted();
    return registered.certificate();
  }
  std::string update_trusted() { return way_.heard(link_, v1alpha1::Envelope::kUpdate).update().trusted(); }
  v1alpha1::Renewed renew() {
    v1alpha1::Envelope envelope;
    envelope.mutable_renew()->set_certificate_request(request_);
    controller_->received(link_, std::move(envelope));
    return way_.heard(link_, v1alpha1::Envelope::kRenewed).renewed();
  }
  Result<ca::Authority> read(const v1alpha1::Renewed& given) {
    return ca::Authority::of_key(nullptr, {"given", given.certificates()}, ca::share(key_.get()), today());
  }
  ca::PermittedHosts hosts_of(const v1alpha1::Renewed& given) {
    const auto authority = read(given);
    EXPECT_TRUE(authority) << authority.error().text << given.refusal();
    return authority ? authority->permitted() : std::vector<std::string>{"none was given"};
  }

  const std::string folder_;
  std::unique_ptr<SqliteStore> store_;
  Recorded way_;
  std::unique_ptr<Controller> controller_;
  std::map<std::string, std::string> tokens_;
  ca::EvpPkeyPtr key_ = std::move(*ca::make_p256_key(nullptr));
  std::string request_ = *ca::make_certificate_request(nullptr, key_.get());
  std::uint64_t links_ = 0;
  LinkId link_{};
  std::string id_, trusted_;
};

TEST_F(Certificates, AGuardIsGivenOneForTheHostsOfItsFunctionAlone) {
  const v1alpha1::Renewed front = join("front", request_);
  EXPECT_THAT(hosts_of(front), Optional(ElementsAre("api.example.com")));
  const std::string trusted = *controller_->trusted("shop");
  EXPECT_EQ(trusted_, trusted);
  EXPECT_THAT(front.certificates(), HasSubstr(trusted));
  const auto authority = read(front);
  EXPECT_EQ(authority->trust_pem(), trusted);
  EXPECT_NEAR(static_cast<double>((authority->not_after() - today()).count()), 24 * 3600, 60);
  EXPECT_EQ(front.certificate_ends().seconds(), authority->not_after().time_since_epoch().count());
  EXPECT_THAT(hosts_of(join("back", request_)), Optional(ElementsAre("bank.example")));
  EXPECT_FALSE(join("front", "").has_certificate_ends()) << "it wanted none";
}

TEST_F(Certificates, ARenewedOneIsForThePolicyAsItIsThen) {
  join("front", request_);
  EXPECT_THAT(hosts_of(renew()), Optional(ElementsAre("api.example.com")));
  put(DocumentKind::policy, policy_of("front", "other.example.com"), "front");
  EXPECT_THAT(hosts_of(renew()), Optional(ElementsAre("other.example.com")));
  put(DocumentKind::policy, policy_of("front", "other.example.com", "audit"), "front");
  EXPECT_EQ(hosts_of(renew()), std::nullopt);
  put(DocumentKind::policy, "", "front");
  EXPECT_THAT(hosts_of(renew()), Optional(ElementsAre()));
}

TEST_F(Certificates, TheirLifetimeIsTheApplicationsToSay) {
  put(DocumentKind::application,
      "apiVersion: sallyport.dev/v1alpha1\nkind: Application\nmetadata: {name: shop}\nspec: {certificateLifetime: "
      "90s}\n");
  const auto authority = read(join("front", request_));
  ASSERT_TRUE(authority);
  EXPECT_NEAR(static_cast<double>((authority->not_after() - today()).count()), 90, 10);
}

TEST_F(Certificates, WhoAsksTooOftenIsRefusedAndSoIsAnOddRequest) {
  EXPECT_THAT(join("front", "no request").refusal(), HasSubstr("is none"));
  std::string refusal;
  for (std::uint32_t i = 0; i <= limits::kGuardCertificateBurst && refusal.empty(); ++i) refusal = renew().refusal();
  EXPECT_THAT(refusal, HasSubstr("too often"));
  EXPECT_THAT(join("front", request_).refusal(), HasSubstr("too often")) << "a new connection is the same guard";
  const auto counts = controller_->alarm_counts();
  EXPECT_TRUE(counts.contains({"shop", "certificate-refused"}));
}

TEST_F(Certificates, TheCaIsKeptAndItsKeyIsSealed) {
  const std::string before = *controller_->trusted("shop");
  EXPECT_THAT(before, HasSubstr("BEGIN CERTIFICATE"));
  start();
  EXPECT_EQ(*controller_->trusted("shop"), before);
  EXPECT_TRUE(controller_->secrets("shop")->empty()) << "it is none that a policy could name";
  EXPECT_EQ(read(join("front", request_))->trust_pem(), before);
}

TEST_F(Certificates, AnotherCaIsTrustedBeforeItSigns) {
  const std::string before = *controller_->trusted("shop");
  const auto outside = ca::Authority::create_root(nullptr, {.name = "Outside"}, today());
  const auto key = ca::private_key_pem(outside->key());
  ASSERT_TRUE(put_ca("shop", outside->certificate_pem(), ca::bio_view(key->get())));
  EXPECT_EQ(*controller_->trusted("shop"), before + outside->trust_pem());
  const v1alpha1::Renewed given = join("front", request_);
  EXPECT_EQ(read(given)->trust_pem(), before);
  EXPECT_EQ(trusted_, before + outside->trust_pem());
  start();
  EXPECT_EQ(*controller_->trusted("shop"), before + outside->trust_pem());
  ASSERT_TRUE(put_ca("shop", "", ""));
  const auto below = outside->issue_intermediate("Below", {}, 24h, today());
  const auto below_key = ca::private_key_pem(below->key());
  EXPECT_FALSE(put_ca("shop", below->certificate_pem(), ca::bio_view(below_key->get())));
  EXPECT_FALSE(put_ca("shop", before, ca::bio_view(key->get()))) << "another's key";
  EXPECT_FALSE(put_ca("shop", "", ca::bio_view(key->get())));
  EXPECT_FALSE(put_ca("none", "", ""));
}

TEST_F(Certificates, OneThatDropsTheOldSignsAtOnceAndStandsAloneAlsoAfterARestart) {
  const std::string before = *controller_->trusted("shop");
  ASSERT_EQ(read(join("front", request_))->trust_pem(), before);
  ASSERT_TRUE(put_ca("shop", "", ""));  // waits to sign, and goes with the other
  update_trusted();
  ASSERT_TRUE(put_ca("shop", "", "", Controller::OldCa::drop));
  const std::string after = *controller_->trusted("shop");
  EXPECT_EQ(update_trusted(), after) << "guards are told";
  EXPECT_THAT(after, Not(HasSubstr(before)));
  EXPECT_EQ(read(renew())->trust_pem(), after);
  start();
  EXPECT_EQ(*controller_->trusted("shop"), after);
  EXPECT_EQ(read(join("front", request_))->trust_pem(), after);
  EXPECT_TRUE(controller_->alarm_counts().empty());
  const auto audit = store_->audited({}, 100);
  ASSERT_TRUE(audit);
  EXPECT_TRUE(std::ranges::any_of(*audit, [](const AuditRow& row) { return row.what.contains("drop those before"); }));
}

TEST_F(Certificates, WhatHasSignedIsNotDroppedForOneWithTheSameRoot) {
  const auto outside = ca::Authority::create_root(nullptr, {.name = "Outside"}, today());
  const auto key = ca::private_key_pem(outside->key());
  const auto drop = Controller::OldCa::drop;
  ASSERT_TRUE(put_ca("shop", outside->certificate_pem(), ca::bio_view(key->get())));
  ASSERT_TRUE(put_ca("shop", outside->certificate_pem(), ca::bio_view(key->get()), drop)) << "it has only waited";
  EXPECT_EQ(*controller_->trusted("shop"), outside->trust_pem());
  const auto refused = put_ca("shop", outside->certificate_pem(), ca::bio_view(key->get()), drop);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("the root of one before it"));
}

TEST_F(Certificates, WhoComesAsAnotherGuardEachTimeHindersNoOtherFunction) {
  start({.per_second = 0.001, .burst = 0.05});
  std::string refusal;
  for (int i = 0; i < 5'000 && refusal.empty(); ++i) {
    id_.clear();
    refusal = join("front", request_).refusal();
  }
  EXPECT_THAT(refusal, HasSubstr("more certificates than"));
  EXPECT_TRUE(controller_->alarm_counts().contains({"shop", "certificate-flood"}));
  EXPECT_THAT(hosts_of(join("back", request_)), Optional(ElementsAre("bank.example")));
}

TEST(TenantCa, TheOldOneGoesWhenNothingOfItIsGoodAnyMore) {
  const Time now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  TenantCa ca;
  const auto add = [&](std::uint64_t number, const std::string& name, Time signs_from) {
    ca.put({number, std::move(*ca::Authority::create_root(nullptr, {.name = name}, today())), signs_from});
  };
  const ca::EvpPkeyPtr key = std::move(*ca::make_p256_key(nullptr));
  const auto request = ca::make_certificate_request(nullptr, key.get());
  const TenantCa::Wanted wanted{*ca::key_of_request(nullptr, *request), "guard", std::nullopt, 1h};
  EXPECT_EQ(ca.sign(wanted, now).error().kind, ErrorKind::unavailable);
  add(1, "One", now);
  add(2, "Two", now + 24h);
  const auto issuer = [&](Time when) {
    const auto given = ca.sign(wanted, when);
    EXPECT_TRUE(given) << given.error().text;
    const auto read = ca::Authority::of_key(nullptr, {"given", given->certificates}, ca::share(key.get()),
                                            std::chrono::floor<std::chrono::seconds>(when));
    return X509_NAME_cmp(X509_get_issuer_name(read->certificate()), X509_get_subject_name(read->path()[1].get())) == 0
               ? read->trust_pem()
               : "";
  };
  const std::string one = issuer(now), two = issuer(now + 25h);
  EXPECT_NE(one, two);
  EXPECT_EQ(ca.trusted(), one + two);
  EXPECT_TRUE(ca.over(now + 47h).empty());
  EXPECT_THAT(ca.over(now + 49h), ElementsAre(1));
  ca.drop(1);
  EXPECT_EQ(ca.trusted(), two);
}

}  // namespace
}  // namespace sallyport::controller
