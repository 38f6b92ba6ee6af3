#include "ca/authority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>

#include <set>

#include "ca/certificate_form.h"
#include "ca/profile.h"
#include "ca/test_support.h"

namespace sallyport::ca {
namespace {

using namespace std::chrono_literals;
using test::kNoon;
using test::pem;
using test::run;
using test::TempDir;
using test::today;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Authority root_at(TimePoint now, std::chrono::seconds lifetime = limits::kRootLifetime) {
  auto root = Authority::create_root(nullptr, {.name = "Test root", .lifetime = lifetime}, now);
  EXPECT_TRUE(root) << (root ? "" : root.error().text);
  return std::move(*root);
}

std::string key_of(const Authority& authority) {
  const auto bio = private_key_pem(authority.key());
  EXPECT_TRUE(bio);
  return std::string(bio_view(bio->get()));
}

X509Ptr leaf_of(const Authority& authority, std::string_view host, TimePoint now) {
  const auto key = make_p256_key(authority.lib());
  auto leaf = authority.issue_leaf(std::span(&host, 1), key->get(), limits::kLeafLifetime, now);
  EXPECT_TRUE(leaf) << host << ": " << (leaf ? "" : leaf.error().text);
  return leaf ? std::move(*leaf) : nullptr;
}

Result<X509Ptr> try_leaf(const Authority& authority, std::string_view host, TimePoint now = kNoon) {
  return authority.issue_leaf(std::span(&host, 1), make_p256_key(authority.lib())->get(), limits::kLeafLifetime, now);
}

std::string print(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  X509_print_ex(bio.get(), certificate, XN_FLAG_COMPAT, 0);
  return std::string(bio_view(bio.get()));
}

// Makes a CA with the openssl program, as an operator may have: `extensions` are lines for a [v3] section.
struct OutsideCa {
  std::string certificate;
  std::string key;
};
OutsideCa outside_ca(const TempDir& dir, const std::string& algorithm, const std::string& extensions, int days = 30) {
  const std::string config = dir.write("ca.cnf",
                                       "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=v3\n[dn]\nCN=Outside\n"
                                       "O=Somebody\n[v3]\n" +
                                           extensions);
  const test::Ran made = run("openssl req -x509 -nodes -newkey " + algorithm + " -keyout " + dir.path("o.key") +
                             " -out " + dir.path("o.pem") + " -days " + std::to_string(days) + " -config " + config);
  EXPECT_EQ(made.status, 0) << made.output;
  return {test::read_file(dir.path("o.pem")), test::read_file(dir.path("o.key"))};
}

const std::string kGoodExtensions =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";

Result<Authority> load(const OutsideCa& ca, TimePoint now = today()) {
  return Authority::load(nullptr, {"ca.pem", ca.certificate}, {"ca.key", ca.key}, now);
}

std::string refusal(const OutsideCa& ca, TimePoint now = today()) {
  const auto loaded = load(ca, now);
  EXPECT_FALSE(loaded);
  return loaded ? "" : loaded.error().text;
}

TEST(Authority, RootHasTheProfileThatStrictClientsAsk) {
  const Authority root = root_at(kNoon);
  EXPECT_THAT(profile_problems(root.certificate(), kNoon), IsEmpty());
  EXPECT_THAT(authority_problems(root, kNoon), IsEmpty());
  const std::string text = print(root.certificate());
  EXPECT_THAT(text, HasSubstr("X509v3 Basic Constraints: critical\n                CA:TRUE\n"));
  EXPECT_THAT(text, HasSubstr("X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n"));
  EXPECT_THAT(text, HasSubstr("X509v3 Subject Key Identifier"));
  EXPECT_THAT(text, HasSubstr("NIST CURVE: P-256"));
  EXPECT_THAT(text, HasSubstr("Subject: CN=Test root\n"));
  EXPECT_EQ(*time_of(X509_get0_notBefore(root.certificate())), kNoon - limits::kCertificateBackdating);
  EXPECT_EQ(*time_of(X509_get0_notAfter(root.certificate())), kNoon + limits::kRootLifetime);
  EXPECT_EQ(root.chain(), nullptr);
  EXPECT_EQ(root.trust_pem(), pem(root.certificate()));
}

TEST(Authority, LeafHasTheProfileThatStrictClientsAsk) {
  const Authority root = root_at(kNoon);
  const X509Ptr leaf = leaf_of(root, "api.example.com", kNoon);
  EXPECT_THAT(profile_problems(leaf.get(), kNoon), IsEmpty());
  const std::string text = print(leaf.get());
  EXPECT_THAT(text, HasSubstr("X509v3 Subject Alternative Name: critical\n                DNS:api.example.com\n"));
  EXPECT_THAT(text, HasSubstr("X509v3 Basic Constraints: critical\n                CA:FALSE\n"));
  EXPECT_THAT(text, HasSubstr("X509v3 Key Usage: critical\n                Digital Signature\n"));
  EXPECT_THAT(text, HasSubstr("X509v3 Extended Key Usage: \n                TLS Web Server Authentication\n"));
  EXPECT_THAT(text, Not(HasSubstr("Subject Key Identifier")));
  EXPECT_EQ(X509_NAME_entry_count(X509_get_subject_name(leaf.get())), 0);
  EXPECT_EQ(ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(leaf.get()), X509_get0_subject_key_id(root.certificate())),
            0);
  EXPECT_EQ(*time_of(X509_get0_notBefore(leaf.get())), kNoon - limits::kCertificateBackdating);
  EXPECT_EQ(*time_of(X509_get0_notAfter(leaf.get())), kNoon + limits::kLeafLifetime);
}

TEST(Authority, EveryVerifierOfOpensslAcceptsNamesAddressesAndLongNamesStrictly) {
  const TempDir dir;
  const Authority root = root_at(today());
  const std::string anchor = dir.write("root.pem", root.trust_pem());
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'b');
  ASSERT_EQ(longest.size(), 253u);
  for (const std::string host : {"api.example.com", "localhost", "a_b.example", "xn--bcher-kva.example",
                                 longest.c_str(), "192.0.2.7", "2001:db8::7", "::1"}) {
    const bool ip = host.find(':') != std::string::npos || host == "192.0.2.7";
    const std::string leaf = dir.write("leaf.pem", pem(leaf_of(root, host, today()).get()));
    const test::Ran verified =
        run("openssl verify -x509_strict -purpose sslserver " + std::string(ip ? "-verify_ip " : "-verify_hostname ") +
            host + " -CAfile " + anchor + " " + leaf);
    EXPECT_EQ(verified.status, 0) << host << ": " << verified.output;
  }
}

TEST(Authority, AnAddressIsAnIpAddressInTheCertificateAndNotAName) {
  const Authority root = root_at(kNoon);
  EXPECT_THAT(print(leaf_of(root, "192.0.2.7", kNoon).get()),
              HasSubstr("critical\n                IP Address:192.0.2.7\n"));
  EXPECT_THAT(print(leaf_of(root, "2001:db8::7", kNoon).get()), HasSubstr("IP Address:2001:DB8:0:0:0:0:0:7\n"));
}

TEST(Authority, NothingButACanonicalHostGetsALeaf) {
  const Authority root = root_at(kNoon);
  for (const std::string_view host : {std::string_view("*.example.com"),
                                      std::string_view("*"),
                                      std::string_view("a.*.example"),
                                      std::string_view(""),
                                      std::string_view("."),
                                      std::string_view("example.com."),
                                      std::string_view(".example.com"),
                                      std::string_view("a..b"),
                                      std::string_view("EXAMPLE.com"),
                                      std::string_view("exa mple.com"),
                                      std::string_view("example.com:443"),
                                      std::string_view("[::1]"),
                                      std::string_view("fe80::1%eth0"),
                                      std::string_view("-a.example"),
                                      std::string_view("a-.example"),
                                      std::string_view("1.2.3"),
                                      std::string_view("010.0.0.1"),
                                      std::string_view("1.2.3.4.5"),
                                      std::string_view("a.0x7f"),
                                      std::string_view("b\xc3\xbc"
                                                       "cher.example"),
                                      std::string_view("a.example\0.evil.example", 22),
                                      std::string_view("1.2.3.4\0", 8),
                                      std::string_view("a,DNS:evil.example"),
                                      std::string_view("a/b")}) {
    const auto leaf = try_leaf(root, host);
    ASSERT_FALSE(leaf) << host;
    EXPECT_EQ(leaf.error().kind, ErrorKind::invalid);
  }
  EXPECT_FALSE(try_leaf(root, std::string(64, 'a') + ".example"));
  const std::string label(63, 'a');
  EXPECT_FALSE(try_leaf(root, label + "." + label + "." + label + "." + std::string(62, 'b')));
}

TEST(Authority, SerialsAreUniquePositiveAndShort) {
  const Authority root = root_at(kNoon);
  std::set<std::string> serials;
  for (int i = 0; i < 200; ++i) {
    const X509Ptr leaf = leaf_of(root, "same.example", kNoon);
    const ASN1_INTEGER* serial = X509_get0_serialNumber(leaf.get());
    EXPECT_EQ(ASN1_STRING_type(serial), V_ASN1_INTEGER);
    EXPECT_EQ(ASN1_STRING_length(serial), 16);
    EXPECT_EQ(ASN1_STRING_get0_data(serial)[0] & 0x80, 0);
    serials.emplace(reinterpret_cast<const char*>(ASN1_STRING_get0_data(serial)), 16);
  }
  EXPECT_EQ(serials.size(), 200u);
}

TEST(Authority, ALeafNeverOutlivesItsCaAndAnExpiredCaIssuesNothing) {
  const Authority root = root_at(kNoon, 2h);
  const X509Ptr leaf = leaf_of(root, "a.example", kNoon + 1h);
  EXPECT_EQ(*time_of(X509_get0_notAfter(leaf.get())), kNoon + 2h);
  EXPECT_GE(*time_of(X509_get0_notBefore(leaf.get())), *time_of(X509_get0_notBefore(root.certificate())));
  const auto late = try_leaf(root, "a.example", kNoon + 2h);
  ASSERT_FALSE(late);
  EXPECT_THAT(late.error().text, HasSubstr("CN=Test root has expired"));
}

TEST(Authority, ValidityPast2049UsesTheLongForm) {
  const TimePoint then = kNoon + 24h * 365 * 30;
  const Authority root = root_at(then);
  EXPECT_EQ(*time_of(X509_get0_notAfter(root.certificate())), then + limits::kRootLifetime);
}

// The end of 9999 stands for "never" (RFC 5280 section 4.1.2.5), and is past the end of a clock of nanoseconds.
TEST(Authority, ARootThatNeverEndsIsUsable) {
  const TimePoint end(std::chrono::seconds(253'402'300'799));
  const Authority root = root_at(kNoon, end - kNoon);
  EXPECT_EQ(root.not_after(), end);
  EXPECT_EQ(*time_of(X509_get0_notAfter(root.certificate())), end);
  EXPECT_EQ(*time_of(X509_get0_notAfter(leaf_of(root, "a.example", kNoon).get())), kNoon + limits::kLeafLifetime);
  const auto problems = profile_problems(root.certificate(), kNoon);
  EXPECT_THAT(problems, ::testing::Not(::testing::Contains(HasSubstr("expired"))));
}

TEST(Authority, ARootNeedsANameAndALifetime) {
  for (const std::string& name : {std::string(), std::string(65, 'n'), std::string("a\nb"), std::string("\xff\xfe")}) {
    EXPECT_FALSE(Authority::create_root(nullptr, {.name = name}, kNoon)) << name;
  }
  EXPECT_FALSE(Authority::create_root(nullptr, {.lifetime = 0s}, kNoon));
  EXPECT_TRUE(Authority::create_root(nullptr, {.name = "R\xc3\xb6\xc3\xb6t"}, kNoon));
}

TEST(Authority, WhatWasWrittenIsLoadedAgain) {
  const Authority root = root_at(kNoon);
  const auto loaded = load({root.certificate_pem(), key_of(root)}, kNoon);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->certificate_pem(), root.certificate_pem());
  const X509Ptr leaf = leaf_of(*loaded, "a.example", kNoon);
  EXPECT_EQ(X509_verify(leaf.get(), X509_get0_pubkey(root.certificate())), 1);
}

TEST(Authority, ACloneInAnotherContextIssuesForTheSameRoot) {
  const Authority root = root_at(kNoon);
  const LibCtxPtr lib(OSSL_LIB_CTX_new());
  const auto clone = root.clone_into(lib.get());
  ASSERT_TRUE(clone) << clone.error().text;
  EXPECT_EQ(clone->lib(), lib.get());
  EXPECT_EQ(clone->trust_pem(), root.trust_pem());
  const auto leaf = try_leaf(*clone, "a.example");
  ASSERT_TRUE(leaf) << leaf.error().text;
  EXPECT_EQ(X509_verify(leaf->get(), X509_get0_pubkey(root.certificate())), 1);
}

TEST(Authority, OutsideRootsOfEveryUsualKeyTypeWork) {
  const TempDir dir;
  for (const std::string algorithm :
       {"rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-384", "ec -pkeyopt ec_paramgen_curve:P-521", "ed25519"}) {
    const auto loaded = load(outside_ca(dir, algorithm, kGoodExtensions));
    ASSERT_TRUE(loaded) << algorithm << ": " << loaded.error().text;
    EXPECT_THAT(authority_problems(*loaded, today()), IsEmpty());
    const std::string leaf = dir.write("leaf.pem", pem(leaf_of(*loaded, "a.example", today()).get()));
    const test::Ran verified = run("openssl verify -x509_strict -CAfile " + dir.path("o.pem") + " " + leaf);
    EXPECT_EQ(verified.status, 0) << algorithm << ": " << verified.output;
  }
}

TEST(Authority, AnOddKeyIdentifierOfTheCaIsTakenAsItIsStored) {
  const TempDir dir;
  const auto loaded = load(outside_ca(dir, "ec -pkeyopt ec_paramgen_curve:P-256",
                                      "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
                                      "subjectKeyIdentifier=01:02:03:04\n"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  const X509Ptr leaf = leaf_of(*loaded, "a.example", today());
  const ASN1_OCTET_STRING* id = X509_get0_authority_key_id(leaf.get());
  ASSERT_EQ(ASN1_STRING_length(id), 4);
  EXPECT_EQ(memcmp(ASN1_STRING_get0_data(id), "\x01\x02\x03\x04", 4), 0);
}

TEST(Authority, KeysInTheOldFormsAreRead) {
  const TempDir dir;
  const OutsideCa ca = outside_ca(dir, "ec -pkeyopt ec_paramgen_curve:P-256", kGoodExtensions);
  ASSERT_EQ(run("openssl ec -in " + dir.path("o.key") + " -out " + dir.path("sec1.key")).status, 0);
  ASSERT_EQ(run("openssl ecparam -name prime256v1 -out " + dir.path("param.pem")).status, 0);
  const std::string sec1 = test::read_file(dir.path("sec1.key"));
  EXPECT_TRUE(load({ca.certificate, sec1}));
  EXPECT_TRUE(load({ca.certificate, test::read_file(dir.path("param.pem")) + sec1}));
  EXPECT_TRUE(load({ca.certificate + ca.key, ca.certificate + ca.key})) << "both in one file";
}

TEST(Authority, AChainIsSentWithoutItsRootAndItsRootIsWhatClientsTrust) {
  const Authority root = root_at(kNoon);
  const auto middle = root.issue_intermediate("Middle", {}, 48h, kNoon);
  ASSERT_TRUE(middle) << middle.error().text;
  const auto loaded = load({middle->certificate_pem(), key_of(*middle)}, kNoon);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->trust_pem(), root.trust_pem());
  ASSERT_NE(loaded->chain(), nullptr);
  ASSERT_EQ(sk_X509_num(loaded->chain()), 1);
  EXPECT_EQ(X509_cmp(sk_X509_value(loaded->chain(), 0), middle->certificate()), 0);
  EXPECT_EQ(loaded->not_after(), kNoon + 48h);
}

TEST(Authority, AnIntermediateWithoutItsRootIsTakenWithAWarning) {
  const Authority root = root_at(kNoon);
  const auto middle = root.issue_intermediate("Middle", {}, 48h, kNoon);
  const auto loaded = load({pem(middle->certificate()), key_of(*middle)}, kNoon);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->trust_pem(), pem(middle->certificate()));
  EXPECT_THAT(authority_problems(*loaded, kNoon), testing::Contains(HasSubstr("append the root's certificate")));
}

TEST(Authority, AnIntermediateIsHeldToItsNamesByOpenssl) {
  const TempDir dir;
  const Authority root = root_at(today());
  const std::vector<std::string> permitted{"api.example.com", "s3.example.net"};
  const auto middle = root.issue_intermediate("Guard 1", permitted, 24h, today());
  ASSERT_TRUE(middle) << middle.error().text;
  EXPECT_THAT(authority_problems(*middle, today()), IsEmpty());
  dir.write("root.pem", root.trust_pem());
  dir.write("middle.pem", pem(middle->certificate()));
  const auto verify = [&](std::string_view host) {
    const std::string leaf = dir.write("leaf.pem", pem(leaf_of(*middle, host, today()).get()));
    return run("openssl verify -x509_strict -CAfile " + dir.path("root.pem") + " -untrusted " + dir.path("middle.pem") +
               " " + leaf);
  };
  EXPECT_EQ(verify("api.example.com").status, 0);
  EXPECT_THAT(verify("other.example").output, HasSubstr("permitted subtree violation"));
  EXPECT_THAT(verify("192.0.2.1").output, HasSubstr("excluded subtree violation"));
  EXPECT_THAT(verify("::1").output, HasSubstr("excluded subtree violation"));
  EXPECT_FALSE(middle->issue_intermediate("Below", {}, 24h, today())) << "pathlen 0";
  EXPECT_FALSE(root.issue_intermediate("Bad", std::vector<std::string>{"*.example.com"}, 24h, today()));
  EXPECT_FALSE(root.issue_intermediate("Bad", std::vector<std::string>{"192.0.2.1"}, 24h, today()));
}

TEST(AuthorityLoad, RefusalsNameTheFileAndTheRemedy) {
  const Authority root = root_at(kNoon);
  const Authority other = root_at(kNoon);
  const std::string key = key_of(root);
  EXPECT_THAT(refusal({"", key}, kNoon), HasSubstr("ca.pem: holds no PEM certificate"));
  EXPECT_THAT(refusal({key, root.certificate_pem()}, kNoon),
              HasSubstr("ca.pem: holds a private key but no certificate; are"));
  EXPECT_THAT(refusal({root.certificate_pem(), root.certificate_pem()}, kNoon),
              HasSubstr("ca.key: holds a certificate but"));
  EXPECT_THAT(refusal({root.certificate_pem(), "nonsense"}, kNoon), HasSubstr("ca.key: holds no PEM private key"));
  EXPECT_THAT(refusal({root.certificate_pem(), key_of(other)}, kNoon),
              HasSubstr("ca.key: this private key does not belong to the certificate in ca.pem (CN=Test root)"));
  EXPECT_THAT(refusal({root.certificate_pem(), key}, kNoon + 24h * 400), HasSubstr("CN=Test root has expired"));
  EXPECT_THAT(refusal({root.certificate_pem(), key}, kNoon - 24h), HasSubstr("not valid yet; is the clock"));
  EXPECT_THAT(refusal({root.certificate_pem() + other.certificate_pem(), key}, kNoon), HasSubstr("did not issue"));
  const X509Ptr leaf = leaf_of(root, "a.example", kNoon);
  EXPECT_THAT(refusal({pem(leaf.get()), key}, kNoon), HasSubstr("is not a CA"));
}

TEST(AuthorityLoad, DamagedFilesAreRefused) {
  const Authority root = root_at(kNoon);
  const std::string key = key_of(root);
  std::string cut = root.certificate_pem().substr(0, 200);
  EXPECT_THAT(refusal({cut, key}, kNoon), HasSubstr("ca.pem: a certificate in it can't be read"));
  EXPECT_THAT(refusal({root.certificate_pem() + cut, key}, kNoon),
              HasSubstr("ca.pem: a certificate in it can't be read"));
  EXPECT_THAT(refusal({root.certificate_pem(), key.substr(0, 100)}, kNoon),
              HasSubstr("ca.key: the private key can't be"));
  std::string many;
  for (std::size_t i = 0; i <= limits::kCaChainMax; ++i) many += root.certificate_pem();
  EXPECT_THAT(refusal({many, key}, kNoon), HasSubstr("holds more than 8 certificates"));
  EXPECT_THAT(refusal({std::string(limits::kCaPemBytesMax + 1, 'x'), key}, kNoon), HasSubstr("too large"));
  std::string damaged = root.certificate_pem();
  for (std::size_t i = 30; i + 30 < damaged.size(); i += 7) {
    std::string copy = damaged;
    copy[i] = copy[i] == 'A' ? 'B' : 'A';
    const auto loaded = load({copy, key}, kNoon);
    if (loaded)
      EXPECT_EQ(X509_verify(loaded->certificate(), X509_get0_pubkey(loaded->certificate())) == 1, copy == damaged);
  }
}

TEST(AuthorityLoad, AnEncryptedKeyIsNotAskedForOnTheTerminal) {
  const TempDir dir;
  const OutsideCa ca = outside_ca(dir, "ec -pkeyopt ec_paramgen_curve:P-256", kGoodExtensions);
  ASSERT_EQ(run("openssl pkcs8 -topk8 -passout pass:x -in " + dir.path("o.key") + " -out " + dir.path("e8.key")).status,
            0);
  ASSERT_EQ(run("openssl ec -aes128 -passout pass:x -in " + dir.path("o.key") + " -out " + dir.path("e1.key")).status,
            0);
  for (const char* name : {"e8.key", "e1.key"}) {
    EXPECT_THAT(refusal({ca.certificate, test::read_file(dir.path(name))}),
                HasSubstr("ca.key: the private key is encrypted"));
  }
}

TEST(AuthorityLoad, ACertificateWithAnEncryptionHeaderIsNotAskedForOnTheTerminal) {
  const std::string encrypted =
      "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n"
      "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n-----END CERTIFICATE-----\n";
  const auto loaded = Authority::load(nullptr, {"ca.pem", encrypted}, {"ca.key", ""}, kNoon);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().text, HasSubstr("ca.pem: a certificate in it is encrypted"));
}

TEST(AuthorityLoad, WeakKeysAreRefused) {
  const TempDir dir;
  EXPECT_THAT(refusal(outside_ca(dir, "rsa:1024", kGoodExtensions)), HasSubstr("it has 1024 bits"));
  EXPECT_THAT(refusal(outside_ca(dir, "ec -pkeyopt ec_paramgen_curve:secp256k1", kGoodExtensions)),
              HasSubstr("secp256k1"));
  EXPECT_THAT(refusal(outside_ca(dir, "ec -pkeyopt ec_paramgen_curve:P-224", kGoodExtensions)), HasSubstr("secp224r1"));
}

TEST(AuthorityLoad, WhatOnlyStrictClientsRefuseIsToldAsAProblem) {
  const TempDir dir;
  const auto loaded = load(
      outside_ca(dir, "ec -pkeyopt ec_paramgen_curve:P-256", "basicConstraints=CA:TRUE\nsubjectKeyIdentifier=none\n"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  const auto problems = authority_problems(*loaded, today());
  EXPECT_THAT(problems, testing::Contains(HasSubstr("basicConstraints is not critical")));
  EXPECT_THAT(problems, testing::Contains(HasSubstr("no keyUsage")));
  EXPECT_THAT(problems, testing::Contains(HasSubstr("no subjectKeyIdentifier")));
}

}  // namespace
}  // namespace sallyport::ca
