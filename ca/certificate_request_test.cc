// Intermediates for keys that others hold: what of a request counts, and what such a CA may issue.
#include "ca/certificate_request.h"

#include <gmock/gmock.h>
#include <openssl/pem.h>

#include "base/limits.h"
#include "ca/authority.h"
#include "ca/test_support.h"
#include "ca/trust.h"

namespace sallyport::ca {
namespace {

using namespace std::chrono_literals;
using test::run;
using test::TempDir;
using test::today;
using testing::ElementsAre;
using testing::HasSubstr;

// The holder of a key that is not written down, with what it was given.
struct Guard {
  EvpPkeyPtr key = std::move(*make_p256_key(nullptr));
  std::string request = *make_certificate_request(nullptr, key.get());

  Result<Authority> below(const Authority& root, const PermittedHosts& permitted,
                          std::chrono::seconds lifetime = 24h) const {
    const auto signed_one =
        root.sign_intermediate(*key_of_request(nullptr, request), "Guard 1", permitted, lifetime, today());
    if (!signed_one) return std::unexpected(signed_one.error());
    const std::string pem = *chain_pem(signed_one->get(), nullptr) + root.certificate_pem();
    return Authority::of_key(nullptr, {"the controller", pem}, share(key.get()), today());
  }
};

Authority new_root() { return std::move(*Authority::create_root(nullptr, {.name = "Tenant"}, today())); }

// What openssl thinks of a leaf for `host` that such a CA makes.
std::string verdict(const TempDir& dir, const Authority& root, const Authority& below, std::string_view host) {
  const EvpPkeyPtr key = std::move(*make_p256_key(nullptr));
  const auto leaf = below.issue_leaf(std::span(&host, 1), key.get(), 1h, today());
  EXPECT_TRUE(leaf) << leaf.error().text;
  dir.write("root.pem", root.trust_pem());
  dir.write("below.pem", *chain_pem(below.certificate(), nullptr));
  dir.write("leaf.pem", *chain_pem(leaf->get(), nullptr));
  const auto verified = run("openssl verify -x509_strict -CAfile " + dir.path("root.pem") + " -untrusted " +
                            dir.path("below.pem") + " " + dir.path("leaf.pem"));
  return verified.status == 0 ? "ok" : verified.output;
}

TEST(CertificateRequest, AnIntermediateIsForItsHostsAlone) {
  const TempDir dir;
  const Authority root = new_root();
  const Guard guard;
  const auto below =
      guard.below(root, std::vector<std::string>{"192.0.2.1", "2001:db8::1", "api.example.com", "example.net"});
  ASSERT_TRUE(below) << below.error().text;
  EXPECT_THAT(*below->permitted(), ElementsAre("192.0.2.1", "2001:db8::1", "api.example.com", "example.net"));
  for (const char* host : {"api.example.com", "example.net", "a.b.example.net", "192.0.2.1", "2001:db8::1"}) {
    EXPECT_TRUE(permits(below->permitted(), host)) << host;
    EXPECT_EQ(verdict(dir, root, *below, host), "ok") << host;
  }
  for (const char* host : {"example.com", "notexample.net", "other.example", "192.0.2.2", "2001:db8::2"}) {
    EXPECT_FALSE(permits(below->permitted(), host)) << host;
    EXPECT_THAT(verdict(dir, root, *below, host), HasSubstr("subtree violation")) << host;
  }
}

TEST(CertificateRequest, WhereAFamilyOfNamesHasNoneAllOfItIsExcluded) {
  const TempDir dir;
  const Authority root = new_root();
  const Guard guard;
  const auto v4 = guard.below(root, std::vector<std::string>{"192.0.2.1"});
  ASSERT_TRUE(v4) << v4.error().text;
  EXPECT_EQ(verdict(dir, root, *v4, "192.0.2.1"), "ok");
  EXPECT_THAT(verdict(dir, root, *v4, "2001:db8::1"), HasSubstr("subtree violation"));
  EXPECT_THAT(verdict(dir, root, *v4, "api.example.com"), HasSubstr("subtree violation"));
  const auto none = guard.below(root, std::vector<std::string>{});
  ASSERT_TRUE(none) << none.error().text;
  EXPECT_THAT(verdict(dir, root, *none, "api.example.com"), HasSubstr("subtree violation"));
  EXPECT_THAT(verdict(dir, root, *none, "192.0.2.1"), HasSubstr("subtree violation"));
  const auto any = guard.below(root, std::nullopt);
  ASSERT_TRUE(any) << any.error().text;
  EXPECT_FALSE(any->permitted());
  EXPECT_EQ(verdict(dir, root, *any, "api.example.com"), "ok");
}

TEST(CertificateRequest, WhatIsPermittedCoversWhatIsWanted) {
  const PermittedHosts any, none = std::vector<std::string>{}, net = std::vector<std::string>{"example.net"};
  EXPECT_TRUE(covers(any, any));
  EXPECT_TRUE(covers(any, net));
  EXPECT_FALSE(covers(net, any));
  EXPECT_TRUE(covers(net, none));
  EXPECT_FALSE(covers(none, net));
  EXPECT_TRUE(covers(net, std::vector<std::string>{"a.example.net"}));
  EXPECT_FALSE(covers(net, std::vector<std::string>{"a.example.net", "example.org"}));
}

TEST(CertificateRequest, OfARequestOnlyItsKeyCounts) {
  const TempDir dir;
  const Authority root = new_root();
  const auto made =
      run("cd " + dir.path("") +
          " && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=root "
          "-addext basicConstraints=critical,CA:TRUE -addext nameConstraints=permitted\\;DNS:evil.example "
          "-addext subjectAltName=DNS:evil.example -keyout k -outform DER -out r");
  ASSERT_EQ(made.status, 0) << made.output;
  const auto below = root.sign_intermediate(*key_of_request(nullptr, test::read_file(dir.path("r"))), "Guard 1",
                                            std::vector<std::string>{"api.example.com"}, 24h, today());
  ASSERT_TRUE(below) << below.error().text;
  dir.write("below.pem", *chain_pem(below->get(), nullptr));
  const std::string text = run("openssl x509 -noout -text -in " + dir.path("below.pem")).output;
  EXPECT_THAT(text, HasSubstr("Subject: CN = Guard 1"));
  EXPECT_THAT(text, HasSubstr("CA:TRUE, pathlen:0"));
  EXPECT_THAT(text, testing::Not(HasSubstr("evil")));
}

TEST(CertificateRequest, OddKeysAndWhatIsNoRequestAreRefused) {
  const TempDir dir;
  const auto made = [&](const std::string& how) {
    const auto done = run("cd " + dir.path("") + " && openssl req -new -newkey " + how +
                          " -nodes -subj / -keyout k -outform DER -out r");
    EXPECT_EQ(done.status, 0) << done.output;
    const auto key = key_of_request(nullptr, test::read_file(dir.path("r")));
    return key ? std::optional<ErrorKind>() : key.error().kind;
  };
  EXPECT_EQ(made("ec -pkeyopt ec_paramgen_curve:P-256"), std::nullopt);
  EXPECT_EQ(made("ec -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit"), ErrorKind::refused);
  EXPECT_EQ(made("ec -pkeyopt ec_paramgen_curve:P-384"), ErrorKind::refused);
  EXPECT_EQ(made("ec -pkeyopt ec_paramgen_curve:secp256k1"), ErrorKind::refused);
  EXPECT_EQ(made("rsa:2048"), ErrorKind::refused);
  EXPECT_EQ(made("ed25519"), ErrorKind::refused);
  const auto compressed = run(
      "cd " + dir.path("") +
      " && openssl ecparam -name prime256v1 -genkey -noout -out k && openssl ec -in k -conv_form compressed -out c && "
      "openssl req -new -key c -subj / -outform DER -out r");
  ASSERT_EQ(compressed.status, 0) << compressed.output;
  EXPECT_EQ(key_of_request(nullptr, test::read_file(dir.path("r"))).error().kind, ErrorKind::refused);
  const Guard guard;
  const auto kind_of = [](const std::string& der) { return key_of_request(nullptr, der).error().kind; };
  EXPECT_EQ(kind_of(""), ErrorKind::malformed);
  EXPECT_EQ(kind_of("no request"), ErrorKind::malformed);
  EXPECT_EQ(kind_of(guard.request + "x"), ErrorKind::malformed);
  EXPECT_EQ(kind_of(guard.request.substr(0, 60)), ErrorKind::malformed);
  EXPECT_EQ(kind_of(std::string(limits::kCertificateRequestBytesMax + 1, '0')), ErrorKind::malformed);
  std::string forged = guard.request;
  forged.back() = static_cast<char>(forged.back() ^ 1);
  EXPECT_EQ(kind_of(forged), ErrorKind::unverified);
}

TEST(CertificateRequest, TooManyHostsAndHostsThatAreNoneAreRefused) {
  const Authority root = new_root();
  const Guard guard;
  std::vector<std::string> many;
  for (int i = 0; i < 2'000; ++i) many.push_back("host-" + std::to_string(10'000 + i) + ".example.com");
  EXPECT_EQ(guard.below(root, many).error().kind, ErrorKind::limit);
  EXPECT_FALSE(guard.below(root, std::vector<std::string>{"*.example.com"}));
  EXPECT_FALSE(guard.below(root, std::vector<std::string>{""}));
}

TEST(CertificateRequest, ACertificateOfAnotherKeyIsRefusedAndANewerOneOfTheSameTaken) {
  const Authority root = new_root();
  const Guard guard, other;
  const auto first = guard.below(root, std::vector<std::string>{"a.example"});
  ASSERT_TRUE(first);
  const auto signed_one = root.sign_intermediate(*key_of_request(nullptr, guard.request), "Guard 1",
                                                 std::vector<std::string>{"b.example"}, 2h, today());
  const auto strange =
      root.sign_intermediate(*key_of_request(nullptr, other.request), "Guard 2", std::nullopt, 2h, today());
  const auto second =
      first->with_certificates({"c", *chain_pem(signed_one->get(), nullptr) + root.trust_pem()}, today());
  ASSERT_TRUE(second) << second.error().text;
  EXPECT_THAT(*second->permitted(), ElementsAre("b.example"));
  EXPECT_EQ(second->not_after(), today() + 2h);
  EXPECT_FALSE(first->with_certificates({"c", *chain_pem(strange->get(), nullptr) + root.trust_pem()}, today()));
}

// A server that shows a leaf for localhost below an intermediate that is for `permitted`.
class HeldToItsHosts : public testing::Test {
 protected:
  struct Shown {
    Shown(const Authority& root, const std::string& permitted) {
      const auto below = Guard().below(root, std::vector<std::string>{permitted});
      const EvpPkeyPtr key = std::move(*make_p256_key(nullptr));
      const std::string_view host = "localhost";
      const auto leaf = below->issue_leaf(std::span(&host, 1), key.get(), 1h, today());
      server.emplace(leaf->get(), key.get(), below->chain());
      url = "https://localhost:" + server->port() + "/";
    }
    std::optional<test::TlsServer> server;
    std::string url;
  };

  // `before` and `behind` the URL in the command line of a client.
  void try_client(const std::string& before, const std::string& behind = {}) {
    const test::Ran good = run(before + good_.url + behind);
    EXPECT_THAT(good.output, testing::AnyOf(HasSubstr("hello"), HasSubstr("200"))) << good.output;
    const test::Ran bad = run(before + bad_.url + behind);
    EXPECT_THAT(bad.output, testing::Not(HasSubstr("hello"))) << bad.output;
    EXPECT_THAT(bad.output, testing::ContainsRegex("[Cc]ert|CERT|PKIX|subtree violation"));
  }

  TempDir dir_;
  Authority root_ = new_root();
  std::string ca_ = dir_.write("ca.pem", root_.trust_pem());
  Shown good_{root_, "localhost"}, bad_{root_, "other.example"};
};

TEST_F(HeldToItsHosts, ByCurl) {
  if (!test::have("curl")) GTEST_SKIP() << "needs curl";
  try_client("CURL_CA_BUNDLE=" + ca_ + " curl -sS --noproxy '*' ");
}

TEST_F(HeldToItsHosts, ByPythonThatIsStrict) {
  if (!test::have("/usr/bin/python3")) GTEST_SKIP() << "needs /usr/bin/python3";
  try_client("/usr/bin/python3 -c 'import ssl, sys, urllib.request as u; c = ssl.create_default_context(cafile=\"" +
             ca_ + "\"); c.verify_flags |= ssl.VERIFY_X509_STRICT; print(u.urlopen(sys.argv[1], context=c).read())' ");
}

TEST_F(HeldToItsHosts, ByNode) {
  if (!test::have("node")) GTEST_SKIP() << "needs node";
  try_client("NODE_EXTRA_CA_CERTS=" + ca_ + " node -e 'fetch(process.argv[1]).then(r => r.text()).then(console.log)' ");
}

TEST_F(HeldToItsHosts, ByJava) {
  if (!test::have("javac")) GTEST_SKIP() << "needs a JDK";
  const std::string program =
      dir_.write("Ask.java",
                 "public class Ask { public static void main(String[] a) throws "
                 "Exception { System.out.println(new String(new java.net.URL(a[0]).openStream().readAllBytes())); } }");
  const std::string store = dir_.write("store.p12", make_trust_files({}, root_.trust_pem())->java_store);
  ASSERT_EQ(run("javac -d " + dir_.path("") + " " + program).status, 0);
  try_client("java -cp " + dir_.path("") + " -Djavax.net.ssl.trustStore=" + store + " Ask ");
}

TEST_F(HeldToItsHosts, ByGo) {
  const std::string program = std::string(SALLYPORT_SOURCE_DIR) + "/build/clients/go/dynamic";
  if (!test::have(program)) GTEST_SKIP() << "needs tests/clients/prepare.sh to have made " << program;
  try_client("echo get GET ", " | SSL_CERT_FILE=" + ca_ + " " + program);
}

}  // namespace
}  // namespace sallyport::ca
