#include "proxy/net/server_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <functional>

#include "ca/certificate_form.h"
#include "proxy/net/certificate_rules.h"
#include "proxy/net/system_roots.h"
#include "proxy/net/test_certificates.h"
#include "proxy/net/trust_store.h"
#include "proxy/net/web_rules.h"

namespace sallyport::net {
namespace {

using ::testing::HasSubstr;
using testing::Identity;
using testing::make_identity;
using testing::Profile;

constexpr std::string_view kHost = "api.example.com";
// An authorityKeyIdentifier, for what is below an issuer without a key identifier.
constexpr const char* kSomeKeyId = "DER:30:05:80:03:01:02:03";

Profile server_profile() {
  Profile profile;
  profile.common_name = "the server";
  profile.alternative_names = "DNS:api.example.com";
  profile.extended_key_usage = "serverAuth";
  return profile;
}

Profile ca_profile(const std::string& name) {
  Profile profile;
  profile.common_name = name;
  profile.authority = true;
  return profile;
}

// The chain server, intermediate, root with the profiles given. The server sends all but the root.
struct Chain {
  Profile server = server_profile();
  Profile intermediate = ca_profile("Intermediate");
  Profile root = ca_profile("Root");
  std::vector<std::string> crls = {};
  RootKind kind = RootKind::given;
};

ChainVerdict verify(const std::vector<const Identity*>& sent, const Identity& trusted,
                    const std::vector<std::string>& crls = {}, std::string_view host = kHost,
                    RootKind kind = RootKind::given) {
  const ca::X509StorePtr store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), trusted.certificate.get());
  for (const std::string& pem : crls) {
    for (const ca::X509CrlPtr& crl : read_pem_objects(nullptr, pem).crls) X509_STORE_add_crl(store.get(), crl.get());
  }
  const ca::X509StackPtr stack(sk_X509_new_null());
  for (const Identity* identity : sent) {
    sk_X509_push(stack.get(), ca::share(identity->certificate.get()).release());
  }
  const ca::X509StoreCtxPtr context(X509_STORE_CTX_new());
  EXPECT_EQ(X509_STORE_CTX_init(context.get(), store.get(), sk_X509_value(stack.get(), 0), stack.get()), 1);
  EXPECT_TRUE(set_rules(X509_STORE_CTX_get0_param(context.get()),
                        {.host = host, .literal = request::IpAddress::parse(host), .with_crl = !crls.empty()}));
  WebRoots web_roots;
  if (kind == RootKind::web) web_roots.insert(trusted.certificate.get());
  ChainVerdict verdict = verify_server(context.get(), web_roots, nullptr);
  EXPECT_EQ(X509_STORE_CTX_get_error(context.get()), verdict.error) << "what TLS sees is what was decided";
  return verdict;
}

std::string complaint(const ChainVerdict& verdict) {
  if (verdict.good()) return {};
  return std::to_string(verdict.depth) + ": " +
         (verdict.complaint.empty() ? X509_verify_cert_error_string(verdict.error) : verdict.complaint);
}

std::string complaint(const Chain& chain) {
  const Identity root = make_identity(chain.root);
  const Identity intermediate = make_identity(chain.intermediate, &root);
  const Identity server = make_identity(chain.server, &intermediate);
  return complaint(verify({&server, &intermediate}, root, chain.crls, kHost, chain.kind));
}

struct Row {
  const char* what;
  std::function<void(Chain&)> change;
  const char* complaint;  // with the depth; empty: accepted
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.what; }

class ServerRules : public ::testing::TestWithParam<Row> {};

TEST_P(ServerRules, Chain) {
  Chain chain;
  GetParam().change(chain);
  const std::string found = complaint(chain);
  if (GetParam().complaint == std::string_view()) {
    EXPECT_EQ(found, "");
  } else {
    EXPECT_THAT(found, HasSubstr(GetParam().complaint));
  }
}

std::function<void(Chain&)> server(const std::function<void(Profile&)>& change) {
  return [change](Chain& chain) { change(chain.server); };
}
std::function<void(Chain&)> names(const char* text) {
  return server([text](Profile& profile) { profile.alternative_names = text; });
}
std::function<void(Chain&)> intermediate(const std::function<void(Profile&)>& change) {
  return [change](Chain& chain) { change(chain.intermediate); };
}
std::function<void(Chain&)> constraints(const char* text, const char* names = "DNS:api.example.com") {
  return [text, names](Chain& chain) {
    chain.intermediate.more = {{NID_name_constraints, text}};
    chain.server.alternative_names = names;
  };
}
std::function<void(Chain&)> root(const std::function<void(Profile&)>& change) {
  return [change](Chain& chain) { change(chain.root); };
}
void lose_root_key_id(Chain& chain) {
  chain.root.subject_key_identifier = "none";
  chain.intermediate.authority_key_identifier = kSomeKeyId;
}
void claim_another_key(Profile& root) { root.more = {{NID_authority_key_identifier, kSomeKeyId}}; }
// Under a root of the web. What people call themselves there is one of their names.
std::function<void(Chain&)> web(const std::function<void(Chain&)>& change) {
  return [change](Chain& chain) {
    chain.kind = RootKind::web;
    chain.server.common_name = kHost;
    change(chain);
  };
}
std::function<void(Chain&)> web_name(const char* common_name, const char* names) {
  return web([common_name, names](Chain& chain) {
    chain.server.common_name = common_name;
    chain.server.alternative_names = std::string("DNS:api.example.com,") + names;
  });
}

const Row kRows[] = {
    {"nothing", [](Chain&) {}, ""},
    // What the server is known by.
    {"negative_serial", server([](Profile& p) { p.serial = -5; }), "0: its serial number"},
    {"underscore", names("DNS:api.example.com,DNS:my_service"), "0: a DNS name in its subjectAltName is none"},
    {"leading_dot", names("DNS:api.example.com,DNS:.example.com"), "0: a DNS name in its subjectAltName is none"},
    {"two_wildcards", names("DNS:api.example.com,DNS:*.*.example.com"), "0: a DNS name in its subjectAltName is none"},
    {"other_wildcard", names("DNS:api.example.com,DNS:*.example.com"), ""},
    {"address_as_name_beside", names("DNS:api.example.com,DNS:192.0.2.7,IP:192.0.2.7"), ""},
    {"upper_case", names("DNS:API.Example.COM"), ""},
    {"no_name", names(""), "0: hostname mismatch"},
    {"no_extended_key_usage", server([](Profile& p) { p.extended_key_usage = ""; }), ""},
    {"no_key_usage", server([](Profile& p) { p.key_usage = "none"; }), ""},
    {"signs_certificates", server([](Profile& p) { p.key_usage = "critical,digitalSignature,keyCertSign"; }),
     "0: Key usage keyCertSign invalid"},
    {"is_a_ca_and_is_none", server([](Profile& p) { p.basic_constraints = "critical,CA:TRUE"; }),
     "0: it says that it is a CA"},
    {"constrains_names", server([](Profile& p) { p.more = {{NID_name_constraints, "permitted;DNS:example.com"}}; }),
     "0: it has nameConstraints but is no CA"},
    {"no_authority_key_id", server([](Profile& p) { p.authority_key_identifier = "none"; }),
     "0: Missing Authority Key Identifier"},
    {"no_subject_key_id", server([](Profile& p) { p.subject_key_identifier = "none"; }), ""},
    {"empty_access", server([](Profile& p) { p.more = {{NID_info_access, "DER:30:00"}}; }),
     "0: its authorityInfoAccess is empty or malformed"},
    {"malformed_access", server([](Profile& p) { p.more = {{NID_info_access, "DER:05:00"}}; }),
     "0: its authorityInfoAccess is empty or malformed"},
    {"access", server([](Profile& p) { p.more = {{NID_info_access, "OCSP;URI:http://ocsp.example.com/"}}; }), ""},
    // Between.
    {"issuer_without_key_usage", intermediate([](Profile& p) { p.key_usage = "none"; }), ""},
    {"issuer_without_key_id",
     [](Chain& chain) {
       chain.intermediate.subject_key_identifier = "none";
       chain.server.authority_key_identifier = kSomeKeyId;
     },
     "1: Missing Subject Key Identifier"},
    {"issuer_without_critical_constraints", intermediate([](Profile& p) { p.basic_constraints = "CA:TRUE"; }),
     "1: Basic Constraints of CA cert not marked critical"},
    {"issuer_with_negative_serial", intermediate([](Profile& p) { p.serial = -1; }), "1: its serial number"},
    {"policy_constraints",
     intermediate([](Profile& p) { p.more = {{NID_policy_constraints, "requireExplicitPolicy:3"}}; }),
     "1: its policyConstraints are not critical"},
    {"critical_policy_constraints",
     intermediate([](Profile& p) { p.more = {{NID_policy_constraints, "critical,requireExplicitPolicy:3"}}; }), ""},
    // Name constraints.
    {"within", constraints("critical,permitted;DNS:example.com"), ""},
    {"not_within", constraints("critical,permitted;DNS:example.org"), "0: permitted subtree violation"},
    {"excluded", constraints("critical,excluded;DNS:example.com"), "0: excluded subtree violation"},
    {"all_but_others", constraints("critical,excluded;DNS:other.example.com"), ""},
    {"wildcard_over_what_is_excluded", constraints("critical,excluded;DNS:api.example.com", "DNS:*.example.com"),
     "1: its nameConstraints do not allow it"},
    {"wildcard_over_what_is_not_permitted", constraints("critical,permitted;DNS:a.example.com", "DNS:*.example.com"),
     ": "},
    {"wildcard_beside_what_is_excluded", constraints("critical,excluded;DNS:other.example.com", "DNS:*.example.com"),
     ""},
    {"leading_dot_in_a_constraint", constraints("permitted;DNS:.example.com"),
     "1: a DNS name in its nameConstraints is none"},
    {"wildcard_in_a_constraint", constraints("permitted;DNS:*.example.com"), ": "},
    {"no_constraint_in_constraints", constraints("DER:30:00"), "1: its nameConstraints are empty"},
    // The end.
    {"root_without_key_id", [](Chain& chain) { lose_root_key_id(chain); }, "2: it has no subjectKeyIdentifier"},
    {"root_without_critical_constraints", root([](Profile& p) { p.basic_constraints = "CA:TRUE"; }),
     "2: its basicConstraints are not critical"},
    {"root_of_another_key", root(claim_another_key), "2: it is a root whose authorityKeyIdentifier is not its own"},
    {"root_without_key_usage", root([](Profile& p) { p.key_usage = "none"; }), ""},
    {"root_with_negative_serial", root([](Profile& p) { p.serial = -1; }), ""},
    {"root_without_constraints", root([](Profile& p) { p.basic_constraints = "none"; }), "2: invalid CA certificate"},
    {"root_with_malformed_name_constraints",
     root([](Profile& p) { p.more = {{NID_name_constraints, "permitted;DNS:.example.com"}}; }),
     "2: a DNS name in its nameConstraints is none"},
    {"uncritical_constraints", constraints("permitted;DNS:example.com"), "1: its nameConstraints are not critical"},
    // Under a root of the web.
    {"web", web([](Chain&) {}), ""},
    {"web_root_without_key_id", web(lose_root_key_id), ""},
    {"web_root_without_critical_constraints", web(root([](Profile& p) { p.basic_constraints = "CA:TRUE"; })), ""},
    {"web_root_of_another_key", web(root(claim_another_key)),
     "2: it is a root whose authorityKeyIdentifier is not its own"},
    {"web_root_for_servers", web(root([](Profile& p) { p.extended_key_usage = "serverAuth"; })),
     "2: it is a root with an extendedKeyUsage"},
    {"root_for_servers", root([](Profile& p) { p.extended_key_usage = "serverAuth"; }), ""},
    {"web_uncritical_constraints", web(constraints("permitted;DNS:example.com")), ""},
    {"web_other_common_name", web_name("the server", "DNS:the.server"), "0: its common name is none of the names"},
    {"web_second_name_as_common_name", web_name("b.example.com", "DNS:a.example.com,DNS:b.example.com"), ""},
    {"web_common_name_in_capitals", web_name("API.example.com", "DNS:a.example.com"), "0: its common name is none"},
    {"web_wildcard_as_common_name", web_name("*.example.com", "DNS:*.example.com"), ""},
    {"web_address_as_common_name", web_name("192.0.2.7", "IP:192.0.2.7"), ""},
    {"web_address_with_zeros", web_name("192.0.2.07", "IP:192.0.2.7"), "0: its common name is none"},
    {"web_ipv6_as_common_name", web_name("2001:db8::7", "IP:2001:db8:0:0:0:0:0:7"), ""},
    {"web_long_ipv6", web_name("2001:db8:0:0:0:0:0:7", "IP:2001:db8::7"), "0: its common name is none"},
    {"web_no_extended_key_usage", web(server([](Profile& p) { p.extended_key_usage = ""; })),
     "0: it has no extendedKeyUsage"},
    {"web_critical_extended_key_usage", web(server([](Profile& p) { p.extended_key_usage = "critical,serverAuth"; })),
     "0: its extendedKeyUsage is critical"},
    {"web_every_extended_key_usage",
     web(server([](Profile& p) { p.extended_key_usage = "serverAuth,anyExtendedKeyUsage"; })),
     "0: its extendedKeyUsage allows everything"},
    {"web_two_uses", web(server([](Profile& p) { p.extended_key_usage = "serverAuth,clientAuth"; })), ""},
    {"web_odd_rsa", web(server([](Profile& p) { p.key = "RSA:2052"; })), "0: the size of its RSA key"},
    {"odd_rsa", server([](Profile& p) { p.key = "RSA:2052"; }), ""},
    {"web_odd_rsa_of_an_issuer", web(intermediate([](Profile& p) { p.key = "RSA:2052"; })),
     "1: the size of its RSA key"},
    {"web_critical_names", web(names("critical,DNS:api.example.com")), "0: its subjectAltName is critical"},
    {"critical_names", names("critical,DNS:api.example.com"), ""},
    {"web_registry", web(names("DNS:api.example.com,DNS:*.co.uk")), "0: it has a wildcard for everybody's names"},
    {"web_registry_in_capitals", web(names("DNS:api.example.com,DNS:*.Co.UK")), "0: it has a wildcard"},
    {"web_registry_of_one_label", web(names("DNS:api.example.com,DNS:*.com")), "0: it has a wildcard"},
    {"web_suffix_of_an_owner", web(names("DNS:api.example.com,DNS:*.s3.amazonaws.com")), ""},
    {"registry", names("DNS:api.example.com,DNS:*.co.uk"), ""},
};

INSTANTIATE_TEST_SUITE_P(Table, ServerRules, ::testing::ValuesIn(kRows),
                         [](const auto& row) { return std::string(row.param.what); });

TEST(ServerRulesTest, ASelfSignedCertificateThatIsTrustedMayBreakWhatOnlyChainsMustKeep) {
  Profile profile = server_profile();
  profile.alternative_names = "DNS:my_service,DNS:api.example.com";
  profile.serial = -3;
  const Identity server = make_identity(profile);
  EXPECT_EQ(complaint(verify({&server}, server)), "");
  EXPECT_THAT(complaint(verify({&server}, server, {}, "other.example.com")), HasSubstr("hostname mismatch"));
  profile.not_after = std::chrono::hours(-1);
  profile.not_before = std::chrono::hours(-2);
  const Identity expired = make_identity(profile);
  EXPECT_THAT(complaint(verify({&expired}, expired)), HasSubstr("expired"));
}

TEST(ServerRulesTest, ACrlNeedsANumber) {
  const Identity root = make_identity(ca_profile("Root"));
  const Identity server = make_identity(server_profile(), &root);
  EXPECT_EQ(complaint(verify({&server}, root, {testing::make_crl(root, {})})), "");
  EXPECT_THAT(complaint(verify({&server}, root, {testing::make_crl(root, {}, std::chrono::hours(1), false)})),
              HasSubstr("0: its issuer's CRL has no number"));
}

TEST(ServerRulesTest, NoHostIsNoRule) {
  const std::unique_ptr<X509_VERIFY_PARAM, decltype(&X509_VERIFY_PARAM_free)> parameters(X509_VERIFY_PARAM_new(),
                                                                                         X509_VERIFY_PARAM_free);
  EXPECT_FALSE(set_rules(parameters.get(), {.host = ""}));
}

TEST(ServerRulesTest, KeysOfOtherKindsAreWeak) {
  Profile profile = server_profile();
  for (const char* kind : {"RSA:2048", "P-256", "P-384"}) {
    profile.key = kind;
    EXPECT_TRUE(is_common_key(make_identity(profile).certificate.get())) << kind;
  }
  const Identity root = make_identity(ca_profile("Root"));
  const Identity server = make_identity(server_profile(), &root);
  const ca::EvpPkeyPtr diffie_hellman(EVP_PKEY_Q_keygen(nullptr, nullptr, "X25519"));
  ASSERT_EQ(X509_set_pubkey(server.certificate.get(), diffie_hellman.get()), 1);
  ASSERT_GT(X509_sign(server.certificate.get(), root.key.get(), EVP_sha256()), 0);
  EXPECT_EQ(verify({&server}, root).error, X509_V_ERR_EE_KEY_TOO_SMALL);
}

// Every root of the system may stand at the end of a chain: our strictness costs no public server. The root's key is
// not ours, so a server's certificate that names it as its issuer is forged, and its signature alone gives it away.
TEST(SystemRootsTest, BreakNoRule) {
  SystemRoots roots(nullptr, {});
  const std::vector<ca::X509Ptr> web = roots.get()->certificates(nullptr, RootKind::web);
  if (web.empty()) GTEST_SKIP() << roots.get()->source;
  Profile rsa = ca_profile("Not the root");
  rsa.key = "RSA:2048";
  const Identity others[] = {make_identity(ca_profile("Not the root")), make_identity(rsa)};
  for (const ca::X509Ptr& root : web) {
    if (X509_cmp_current_time(X509_get0_notAfter(root.get())) < 0) continue;
    Identity trusted;
    trusted.certificate.reset(ca::share(root.get()).release());
    // OpenSSL takes no root for an issuer whose kind of key does not fit to the signature.
    const bool is_rsa = EVP_PKEY_is_a(X509_get0_pubkey(root.get()), "RSA") == 1;
    trusted.key.reset(ca::share(others[is_rsa ? 1 : 0].key.get()).release());
    Profile profile = server_profile();
    if (X509_get0_subject_key_id(root.get()) == nullptr) profile.authority_key_identifier = kSomeKeyId;
    const Identity forged = make_identity(profile, &trusted);
    const ChainVerdict verdict = verify({&forged}, trusted, {}, kHost, RootKind::web);
    const std::string who = ca::subject_text(root.get());
    EXPECT_EQ(verdict.error, X509_V_ERR_CERT_SIGNATURE_FAILURE) << who << ": " << complaint(verdict);
    EXPECT_EQ(verdict.depth, 0) << who;
    EXPECT_EQ(why_unacceptable(root.get(), ChainPlace::anchor, RootKind::web), std::nullopt) << who;
    EXPECT_EQ(why_not_of_the_web(root.get(), ChainPlace::anchor), std::nullopt) << who;
    EXPECT_TRUE(is_common_key(root.get())) << who;
  }
}

}  // namespace
}  // namespace sallyport::net
