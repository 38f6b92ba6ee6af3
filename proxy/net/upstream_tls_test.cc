#include "proxy/net/upstream_tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>

#include "base/limits.h"
#include "ca/openssl_ptr.h"
#include "ca/trust.h"
#include "proxy/net/system_roots.h"
#include "proxy/net/test_peer.h"
#include "proxy/net/tls_session_cache.h"
#include "proxy/net/trust_store.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using testing::Identity;
using testing::make_identity;
using ::testing::Not;
using testing::Peer;
using testing::Profile;

Profile leaf_profile() {
  Profile profile;
  profile.common_name = "the server";
  profile.alternative_names = "DNS:api.example.com,DNS:*.wild.example.com,IP:192.0.2.7,IP:2001:db8::7";
  profile.extended_key_usage = "serverAuth";
  return profile;
}

Profile ca_profile(const std::string& name) {
  Profile profile;
  profile.common_name = name;
  profile.authority = true;
  return profile;
}

const Identity& root() {
  static const Identity identity = make_identity(ca_profile("Test root"));
  return identity;
}

// What one connection came to.
struct Outcome {
  std::optional<UpstreamFailure> failure;
  bool resumed = false;
  std::string sni;   // as the server saw it
  std::string alpn;  // as the server was offered it
  Reason reason() const { return failure ? failure->reason : Reason::none; }
  std::string text() const { return failure ? failure->text : std::string(); }
};

class UpstreamTlsTest : public ::testing::Test {
 protected:
  UpstreamTlsTest() : lib_(OSSL_LIB_CTX_new()) {
    ::setenv("SSL_CERT_FILE", "/nonexistent/roots.pem", 1);  // what a test trusts is up to the test
    make({.more_roots_pem = root().pem()});
  }
  ~UpstreamTlsTest() override { ::unsetenv("SSL_CERT_FILE"); }

  void make(UpstreamTlsOptions options) {
    auto made = UpstreamTls::create(lib_.get(), std::move(options));
    ASSERT_TRUE(made) << made.error().text;
    tls_ = std::move(*made);
  }

  static TlsTarget target(const std::string& host = "api.example.com") {
    TlsTarget made;
    made.host = host;
    made.literal = request::IpAddress::parse(host);
    made.port = 443;
    return made;
  }

  // One connection to a server that shows `identity` and `chain`.
  Outcome connect(const Identity& identity, std::initializer_list<const Identity*> chain = {}) {
    return connect(testing::server_context(identity, chain).get(), target());
  }
  Outcome connect(const Identity& identity, const TlsTarget& to) {
    return connect(testing::server_context(identity).get(), to);
  }
  Outcome connect(SSL_CTX* server, const TlsTarget& to) {
    auto [ours, theirs] = testing::tcp_pair();
    Outcome outcome;
    SSL_CTX_set_alpn_select_cb(
        server,
        [](SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in, unsigned size,
           void* seen) {
          static_cast<Outcome*>(seen)->alpn.assign(reinterpret_cast<const char*>(in), size);
          *out = in + 1;
          *out_size = in[0];
          return SSL_TLSEXT_ERR_OK;
        },
        &outcome);
    auto talk = std::async(std::launch::async, [&, fd = std::move(theirs)]() mutable {
      Peer peer(server, std::move(fd), true);
      if (!peer.handshake()) return;
      if (const char* name = SSL_get_servername(peer.ssl(), TLSEXT_NAMETYPE_host_name)) outcome.sni = name;
      peer.write("!");
      peer.read_some();
    });
    testing::run(loop_, talk_to_server(to, std::move(ours), outcome));
    talk.get();
    return outcome;
  }

  Task<> talk_to_server(TlsTarget to, UniqueFd fd, Outcome& outcome) {
    Stream stream(loop_, std::move(fd), ErrorSource::upstream);
    auto ssl = tls_->connect_for(to);
    if (!ssl) {
      outcome.failure = ssl.error();
      co_return;
    }
    const auto shaken = co_await stream.handshake(std::move(*ssl), {}, Clock::now() + timeout_);
    if (!shaken) {
      outcome.failure = tls_->explain(stream.ssl(), to, shaken.error());
      co_return;
    }
    outcome.resumed = SSL_session_reused(stream.ssl()) == 1;
    char byte;
    const auto got = co_await stream.read_some({&byte, 1}, Clock::now() + 20s);  // tickets come before it
    EXPECT_TRUE(got) << got.error().text;
  }

  ca::LibCtxPtr lib_;
  std::unique_ptr<UpstreamTls> tls_;
  Loop loop_;
  Clock::duration timeout_ = 20s;
};

TEST_F(UpstreamTlsTest, TakesAGoodCertificateAndNamesTheHost) {
  const Outcome outcome = connect(make_identity(leaf_profile(), &root()));
  EXPECT_EQ(outcome.text(), "");
  EXPECT_EQ(outcome.sni, "api.example.com");
  EXPECT_EQ(outcome.alpn, "\x08http/1.1");
}

TEST_F(UpstreamTlsTest, OffersTheProtocolsItWasGiven) {
  make({.more_roots_pem = root().pem(), .protocols = {"h2", "http/1.1"}});
  EXPECT_EQ(connect(make_identity(leaf_profile(), &root())).alpn, std::string("\x02h2\x08http/1.1"));
}

TEST_F(UpstreamTlsTest, AddressesAreVerifiedAsAddressesAndSendNoSni) {
  const Identity server = make_identity(leaf_profile(), &root());
  for (const char* address : {"192.0.2.7", "2001:db8::7"}) {
    const Outcome outcome = connect(server, target(address));
    EXPECT_EQ(outcome.text(), "");
    EXPECT_EQ(outcome.sni, "");
  }
  EXPECT_EQ(connect(server, target("192.0.2.8")).reason(), Reason::upstream_wrong_host);
  Profile as_name = leaf_profile();
  as_name.alternative_names = "DNS:192.0.2.7";
  EXPECT_EQ(connect(make_identity(as_name, &root()), target("192.0.2.7")).reason(), Reason::upstream_wrong_host);
}

TEST_F(UpstreamTlsTest, RefusesAnExpiredCertificate) {
  Profile profile = leaf_profile();
  profile.not_before = -48h;
  profile.not_after = -24h;
  const Outcome outcome = connect(make_identity(profile, &root()));
  EXPECT_EQ(outcome.reason(), Reason::upstream_expired);
  EXPECT_THAT(outcome.text(),
              HasSubstr("the certificate of api.example.com (subject CN=the server, issuer CN=Test root) "
                        "has expired on "));
}

TEST_F(UpstreamTlsTest, RefusesACertificateFromTheFuture) {
  Profile profile = leaf_profile();
  profile.not_before = 24h;
  profile.not_after = 48h;
  EXPECT_EQ(connect(make_identity(profile, &root())).reason(), Reason::upstream_not_yet_valid);
}

TEST_F(UpstreamTlsTest, RefusesACertificateForAnotherHostAndSaysWhichItIsFor) {
  const Identity server = make_identity(leaf_profile(), &root());
  const Outcome outcome = connect(server, target("evil.example.com"));
  EXPECT_EQ(outcome.reason(), Reason::upstream_wrong_host);
  EXPECT_THAT(outcome.text(), HasSubstr("is for api.example.com, *.wild.example.com"));
}

TEST_F(UpstreamTlsTest, WildcardsCoverOneWholeLabel) {
  const Identity server = make_identity(leaf_profile(), &root());
  EXPECT_EQ(connect(server, target("a.wild.example.com")).text(), "");
  EXPECT_EQ(connect(server, target("a.b.wild.example.com")).reason(), Reason::upstream_wrong_host);
  EXPECT_EQ(connect(server, target("wild.example.com")).reason(), Reason::upstream_wrong_host);
  Profile partial = leaf_profile();
  partial.alternative_names = "DNS:ap*.example.com";
  EXPECT_EQ(connect(make_identity(partial, &root())).reason(), Reason::upstream_wrong_host);
}

TEST_F(UpstreamTlsTest, ANameInTheSubjectAloneIsNoName) {
  Profile profile = leaf_profile();
  profile.common_name = "api.example.com";
  profile.alternative_names = "";
  EXPECT_EQ(connect(make_identity(profile, &root())).reason(), Reason::upstream_wrong_host);
}

TEST_F(UpstreamTlsTest, RefusesASelfSignedCertificate) {
  const Outcome outcome = connect(make_identity(leaf_profile()));
  EXPECT_EQ(outcome.reason(), Reason::upstream_self_signed);
  EXPECT_THAT(outcome.text(), HasSubstr("--upstream-ca"));
}

TEST_F(UpstreamTlsTest, RefusesAnUnknownIssuer) {
  const Identity other = make_identity(ca_profile("Other root"));
  const Identity server = make_identity(leaf_profile(), &other);
  EXPECT_EQ(connect(server).reason(), Reason::upstream_untrusted);
  const Outcome with_root = connect(server, {&other});
  EXPECT_EQ(with_root.reason(), Reason::upstream_untrusted) << with_root.text();
}

TEST_F(UpstreamTlsTest, RefusesAnImpostorOfATrustedRoot) {
  const Identity impostor = make_identity(ca_profile("Test root"));
  EXPECT_NE(connect(make_identity(leaf_profile(), &impostor), {&impostor}).reason(), Reason::none);
}

TEST_F(UpstreamTlsTest, NeedsTheIntermediateFromTheServer) {
  const Identity intermediate = make_identity(ca_profile("Intermediate"), &root());
  const Identity server = make_identity(leaf_profile(), &intermediate);
  EXPECT_EQ(connect(server, {&intermediate}).text(), "");
  const Outcome missing = connect(server);
  EXPECT_EQ(missing.reason(), Reason::upstream_untrusted);
  EXPECT_THAT(missing.text(), HasSubstr("send its intermediate certificates"));
}

TEST_F(UpstreamTlsTest, ALeafCantIssueCertificates) {
  const Identity leaf = make_identity(leaf_profile(), &root());
  EXPECT_NE(connect(make_identity(leaf_profile(), &leaf), {&leaf}).reason(), Reason::none);
}

TEST_F(UpstreamTlsTest, RefusesACertificateThatIsNotForServers) {
  Profile profile = leaf_profile();
  profile.extended_key_usage = "clientAuth";
  EXPECT_EQ(connect(make_identity(profile, &root())).reason(), Reason::upstream_certificate);
}

TEST_F(UpstreamTlsTest, RefusesWeakKeysAndSignatures) {
  struct Case {
    const char* key;
    const char* digest;
  };
  for (const Case& weak : {Case{"RSA:1024", "SHA256"}, Case{"P-192", "SHA256"}, Case{"P-256", "SHA1"}}) {
    Profile profile = leaf_profile();
    profile.key = weak.key;
    profile.digest = weak.digest;
    const Outcome leaf = connect(make_identity(profile, &root()));
    // TLS has no cipher suite for a P-192 key: the handshake ends before a certificate is shown.
    const bool shown = std::string_view(weak.key) != "P-192";
    EXPECT_EQ(leaf.reason(), shown ? Reason::upstream_weak_key : Reason::upstream_tls)
        << weak.key << " " << weak.digest << ": " << leaf.text();
    Profile authority = ca_profile("Weak intermediate");
    authority.key = weak.key;
    authority.digest = weak.digest;
    const Identity intermediate = make_identity(authority, &root());
    const Outcome chain = connect(make_identity(leaf_profile(), &intermediate), {&intermediate});
    EXPECT_EQ(chain.reason(), Reason::upstream_weak_key) << weak.key << " " << weak.digest << ": " << chain.text();
  }
  Profile old = leaf_profile();
  old.digest = "MD5";
  const Identity rsa_root = [] {
    Profile profile = ca_profile("RSA root");
    profile.key = "RSA:2048";
    return make_identity(profile);
  }();
  make({.more_roots_pem = rsa_root.pem()});
  EXPECT_EQ(connect(make_identity(leaf_profile(), &rsa_root)).text(), "") << "RSA with 2048 bits is strong enough";
  EXPECT_EQ(connect(make_identity(old, &rsa_root)).reason(), Reason::upstream_weak_key);
}

TEST_F(UpstreamTlsTest, RefusesTheGuardsOwnCaEvenWhereItIsTrusted) {
  const Identity own = make_identity(ca_profile("Sallyport root"));
  make({.more_roots_pem = root().pem() + own.pem(), .own_ca_pem = own.pem()});
  const Identity server = make_identity(leaf_profile(), &own);
  EXPECT_EQ(connect(server).reason(), Reason::upstream_own_ca);
  EXPECT_EQ(connect(server, {&own}).reason(), Reason::upstream_own_ca);
  const Identity intermediate = make_identity(ca_profile("Another guard"), &own);
  EXPECT_EQ(connect(make_identity(leaf_profile(), &intermediate), {&intermediate}).reason(), Reason::upstream_own_ca);
  EXPECT_EQ(connect(make_identity(leaf_profile(), &root())).text(), "");
  make({.more_roots_pem = root().pem(), .own_ca_pem = own.pem()});
  EXPECT_EQ(connect(server).reason(), Reason::upstream_own_ca) << "and where it is not";
}

TEST_F(UpstreamTlsTest, AnotherCaOfTheSameNameIsNotOurOwn) {
  const Identity own = make_identity(ca_profile("Sallyport root")), other = make_identity(ca_profile("Sallyport root"));
  make({.more_roots_pem = other.pem(), .own_ca_pem = own.pem()});
  EXPECT_EQ(connect(make_identity(leaf_profile(), &other)).text(), "");
}

TEST_F(UpstreamTlsTest, ServersUnderTheSameCompanyRootAsTheGuardsCaAreFine) {
  const Identity own = make_identity(ca_profile("Guard intermediate"), &root());
  make({.more_roots_pem = root().pem(), .own_ca_pem = own.pem() + root().pem()});
  EXPECT_EQ(connect(make_identity(leaf_profile(), &root())).text(), "");
  EXPECT_EQ(connect(make_identity(leaf_profile(), &own), {&own}).reason(), Reason::upstream_own_ca);
}

// An endpoint with files of its own.
struct Files {
  document::Endpoint endpoint;
  TlsTarget target(const std::shared_ptr<const document::Snapshot>& policy = nullptr) {
    TlsTarget made;
    made.host = "api.example.com";
    made.port = 443;
    made.endpoint = &endpoint;
    made.policy = policy;
    return made;
  }
};

TEST_F(UpstreamTlsTest, ACaBundleReplacesTheRoots) {
  const Identity private_root = make_identity(ca_profile("Private root"));
  const testing::TemporaryFile bundle("some text\n" + private_root.pem());
  Files files;
  files.endpoint.name = "ledger";
  files.endpoint.ca_bundle_file = bundle.path();
  EXPECT_EQ(connect(make_identity(leaf_profile(), &private_root), files.target()).text(), "");
  const Outcome outcome = connect(make_identity(leaf_profile(), &root()), files.target());
  EXPECT_EQ(outcome.reason(), Reason::upstream_untrusted);
  EXPECT_THAT(outcome.text(), HasSubstr("caBundle of endpoint 'ledger'"));
}

TEST_F(UpstreamTlsTest, ACaBundleMayHoldTheServersCertificateItself) {
  const Identity server = make_identity(leaf_profile());
  const testing::TemporaryFile bundle(server.pem());
  Files files;
  files.endpoint.ca_bundle_file = bundle.path();
  EXPECT_EQ(connect(server, files.target()).text(), "");
}

TEST_F(UpstreamTlsTest, ABundleThatCantBeReadFailsClosedAndOneThatChangesIsReadAgain) {
  const Identity server = make_identity(leaf_profile(), &root());
  Files files;
  files.endpoint.ca_bundle_file = "/nonexistent/ca.pem";
  const Outcome missing = connect(server, files.target());
  EXPECT_EQ(missing.reason(), Reason::upstream_certificate);
  EXPECT_THAT(missing.text(), HasSubstr("/nonexistent/ca.pem: No such file"));

  const testing::TemporaryFile bundle("no certificate\n");
  files.endpoint.ca_bundle_file = bundle.path();
  EXPECT_THAT(connect(server, files.target()).text(), HasSubstr("holds no certificate"));
  bundle.rewrite(root().pem());
  EXPECT_EQ(connect(server, files.target()).text(), "");
  bundle.rewrite(make_identity(ca_profile("Other")).pem());
  EXPECT_EQ(connect(server, files.target()).reason(), Reason::upstream_untrusted) << "and no session is resumed";
  bundle.rewrite(root().pem() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  EXPECT_THAT(connect(server, files.target()).text(), HasSubstr("can't be decoded"));
  bundle.rewrite(root().pem() + "-----BEGIN CERTIFICATE-----\nMIIB");
  EXPECT_THAT(connect(server, files.target()).text(), HasSubstr("can't be decoded"));
}

TEST_F(UpstreamTlsTest, RefusesWhatTheCrlNamesAndWhatItDoesNotCover) {
  Profile profile = leaf_profile();
  profile.serial = 4711;
  const Identity revoked = make_identity(profile, &root());
  profile.serial = 4712;
  const Identity good = make_identity(profile, &root());
  const testing::TemporaryFile crl(testing::make_crl(root(), {4711}));
  Files files;
  files.endpoint.crl_file = crl.path();
  EXPECT_EQ(connect(good, files.target()).text(), "");
  EXPECT_EQ(connect(revoked, files.target()).reason(), Reason::upstream_revoked);

  crl.rewrite(testing::make_crl(root(), {}, -60s));
  const Outcome expired = connect(good, files.target());
  EXPECT_EQ(expired.reason(), Reason::upstream_certificate);
  EXPECT_THAT(expired.text(), HasSubstr("out of date"));

  crl.rewrite(testing::make_crl(make_identity(ca_profile("Other")), {}));
  const Outcome missing = connect(good, files.target());
  EXPECT_EQ(missing.reason(), Reason::upstream_certificate);
  EXPECT_THAT(missing.text(), HasSubstr("has no CRL of its issuer"));

  crl.rewrite(testing::make_crl(make_identity(ca_profile("Test root")), {}));
  EXPECT_NE(connect(good, files.target()).reason(), Reason::none) << "a CRL that somebody else has signed";
  crl.rewrite("nothing");
  EXPECT_THAT(connect(good, files.target()).text(), HasSubstr("holds no CRL"));
}

TEST_F(UpstreamTlsTest, ChecksTheCasOfAChainWhereThereIsACrlForThem) {
  Profile authority = ca_profile("Intermediate");
  authority.serial = 815;
  const Identity intermediate = make_identity(authority, &root());
  const auto server = testing::server_context(make_identity(leaf_profile(), &intermediate), {&intermediate});
  const testing::TemporaryFile crl(testing::make_crl(intermediate, {}));
  Files files;
  files.endpoint.crl_file = crl.path();
  EXPECT_EQ(connect(server.get(), files.target()).text(), "") << "none for the intermediate";
  crl.rewrite(testing::make_crl(intermediate, {}) + testing::make_crl(root(), {815}));
  EXPECT_EQ(connect(server.get(), files.target()).reason(), Reason::upstream_revoked);
  crl.rewrite(testing::make_crl(root(), {}));
  EXPECT_EQ(connect(server.get(), files.target()).reason(), Reason::upstream_certificate) << "none for the server";
}

TEST_F(UpstreamTlsTest, HonoursSslCertFile) {
  const Identity system_root = make_identity(ca_profile("System root"));
  const Identity server = make_identity(leaf_profile(), &system_root);
  const testing::TemporaryFile bundle(system_root.pem());
  ::setenv("SSL_CERT_FILE", bundle.path().c_str(), 1);
  make({.more_roots_pem = root().pem()});
  EXPECT_EQ(connect(server).text(), "");
  EXPECT_EQ(connect(make_identity(leaf_profile(), &root())).text(), "") << "--upstream-ca adds to it";
  ::setenv("SSL_CERT_FILE", "/nonexistent.pem", 1);
  make({});
  const Outcome outcome = connect(server);
  EXPECT_EQ(outcome.reason(), Reason::upstream_untrusted);
  EXPECT_THAT(outcome.text(), HasSubstr("no system roots: can't read /nonexistent.pem"));
}

TEST_F(UpstreamTlsTest, TheSystemsRootsTrustTheWorldButNotATestServer) {
  ::unsetenv("SSL_CERT_FILE");
  const bool has_roots = std::any_of(ca::kSystemRootFiles.begin(), ca::kSystemRootFiles.end(),
                                     [](const char* file) { return ::access(file, R_OK) == 0; });
  if (!has_roots) GTEST_SKIP() << "this machine has no bundle of roots";
  SystemRoots roots(lib_.get(), {});
  const auto count = [](SystemRoots& of, RootKind kind) {
    return std::ranges::count(of.get()->roots(), kind, &RootList::Root::kind);
  };
  const auto web = count(roots, RootKind::web);
  EXPECT_GT(web, 50);
  make({});
  EXPECT_EQ(connect(make_identity(leaf_profile(), &root())).reason(), Reason::upstream_untrusted);

  // A bundle of somebody's holds theirs besides.
  const testing::TemporaryFile bundle(*read_trust_file(roots.get()->source) + root().pem());
  ::setenv("SSL_CERT_FILE", bundle.path().c_str(), 1);
  SystemRoots named(lib_.get(), {});
  EXPECT_EQ(count(named, RootKind::web), web) << "the distributor's";
  EXPECT_EQ(count(named, RootKind::given), count(roots, RootKind::given) + 1);
}

TEST_F(UpstreamTlsTest, RootsThatNobodyWaitsForDoNotHoldUpTheEnd) {
  ::unsetenv("SSL_CERT_FILE");
  const auto start = Clock::now();
  for (int i = 0; i < 20; ++i) make({});
  EXPECT_LT(Clock::now() - start, 5s);
}

TEST_F(UpstreamTlsTest, MoreRootsWithoutACertificateAreAMistake) {
  const auto made = UpstreamTls::create(lib_.get(), {.more_roots_pem = "not a certificate"});
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().text, HasSubstr("--upstream-ca"));
}

TEST_F(UpstreamTlsTest, AServerWithoutModernTlsFailsTheHandshakeItself) {
  const auto server = testing::server_context(make_identity(leaf_profile(), &root()));
  SSL_CTX_set_min_proto_version(server.get(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(server.get(), TLS1_1_VERSION);
  const Outcome outcome = connect(server.get(), target());
  EXPECT_EQ(outcome.reason(), Reason::upstream_tls);
  EXPECT_THAT(outcome.text(), HasSubstr("api.example.com port 443: the TLS handshake with the server failed"));
}

TEST_F(UpstreamTlsTest, ASilentServerIsATimeout) {
  auto [ours, theirs] = testing::tcp_pair();
  timeout_ = 30ms;
  Outcome outcome;
  testing::run(loop_, talk_to_server(target(), std::move(ours), outcome));
  EXPECT_EQ(outcome.reason(), Reason::upstream_timeout);
}

TEST_F(UpstreamTlsTest, ResumesASessionOfTheSameDestinationAndPolicyOnly) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    make({.more_roots_pem = root().pem()});
    const auto server = testing::server_context(make_identity(leaf_profile(), &root()));
    SSL_CTX_set_max_proto_version(server.get(), version);
    const auto policy = document::Snapshot::empty(document::Mode::learn);
    Files first, second;
    second.endpoint.index = 1;
    EXPECT_FALSE(connect(server.get(), first.target(policy)).resumed);
    EXPECT_TRUE(connect(server.get(), first.target(policy)).resumed);
    EXPECT_TRUE(connect(server.get(), first.target(policy)).resumed);
    EXPECT_FALSE(connect(server.get(), second.target(policy)).resumed) << "another endpoint";
    TlsTarget other_port = first.target(policy);
    other_port.port = 8443;
    EXPECT_FALSE(connect(server.get(), other_port).resumed);
    const auto next = document::Snapshot::empty(document::Mode::learn);
    EXPECT_FALSE(connect(server.get(), first.target(next)).resumed) << "another policy";
    EXPECT_TRUE(connect(server.get(), first.target(next)).resumed);
    tls_->policy_changed(policy);
    EXPECT_FALSE(connect(server.get(), first.target(next)).resumed);
  }
}

TEST_F(UpstreamTlsTest, NothingIsResumedWhereACrlMustBeLookedAt) {
  const auto server = testing::server_context(make_identity(leaf_profile(), &root()));
  const testing::TemporaryFile crl(testing::make_crl(root(), {}));
  Files files;
  files.endpoint.crl_file = crl.path();
  for (int i = 0; i < 2; ++i) {
    const Outcome outcome = connect(server.get(), files.target());
    EXPECT_EQ(outcome.text(), "");
    EXPECT_FALSE(outcome.resumed);
  }
}

TEST(TlsSessionCache, KeepsTheMostRecentlyUsedUpToItsCap) {
  TlsSessionCache cache;
  const auto first = cache.at("first", nullptr);
  for (std::size_t i = 0; i < limits::kTlsSessionsPerWorkerMax - 1; ++i) cache.at(std::to_string(i), nullptr);
  EXPECT_EQ(cache.at("first", nullptr), first);
  cache.at("one more", nullptr);
  EXPECT_EQ(cache.size(), limits::kTlsSessionsPerWorkerMax);
  EXPECT_EQ(cache.at("first", nullptr), first) << "used a moment ago";
}

TEST(TlsSessionCache, ASessionIsNotUsedForLongerThanItsVerificationIsGood) {
  const Identity identity = make_identity({});
  TlsSession place{ca::SslSessionPtr(SSL_SESSION_new()), Clock::now()};
  EXPECT_EQ(TlsSessionCache::usable(place, Clock::now()), nullptr) << "without a certificate nothing was verified";
}

}  // namespace
}  // namespace sallyport::net
