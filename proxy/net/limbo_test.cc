// The rules for servers' certificates against the x509-limbo corpus: chains of every kind with the result that RFC 5280
// and the rules of the web's PKI demand. The corpus is no part of this project: SALLYPORT_LIMBO names the file, or it
// lies in ../shared/corpora beside the checkout; without it these tests are skipped.

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <set>
#include <sstream>

#include "ca/openssl_ptr.h"
#include "policy-engine/request/host.h"
#include "proxy/net/server_rules.h"
#include "proxy/net/trust_store.h"

namespace sallyport::net {
namespace {

namespace json = boost::json;

std::filesystem::path corpus_file() {
  if (const char* named = std::getenv("SALLYPORT_LIMBO")) return named;
  return std::filesystem::path(__FILE__).parent_path() / "../../../shared/corpora/x509-limbo.json";
}

struct Case {
  std::string id;
  bool must_fail = false;
  bool server = false;
  std::string peer_name;  // empty: none is given
  std::time_t time = 0;   // 0: now
  std::optional<int> depth_max;
  std::string leaf, untrusted, trusted, crls;  // PEM
};

std::string text_of(const json::value& value) {
  return value.is_string() ? std::string(value.as_string()) : std::string();
}

std::string joined(const json::value& list) {
  std::string text;
  for (const json::value& part : list.as_array()) text += text_of(part) + "\n";
  return text;
}

// A fraction of a second is cut off, as the clock of a guard has none either.
std::time_t parse_time(const std::string& text) {
  if (text.empty()) return 0;
  std::tm parts{};
  std::istringstream in(text);
  in >> std::get_time(&parts, "%Y-%m-%dT%H:%M:%S");
  EXPECT_TRUE(in && text.ends_with("+00:00")) << text;
  return ::timegm(&parts);
}

Case parse_case(const json::object& from) {
  Case made;
  made.id = text_of(from.at("id"));
  made.must_fail = text_of(from.at("expected_result")) == "FAILURE";
  made.server = text_of(from.at("validation_kind")) == "SERVER";
  if (const json::object* name = from.at("expected_peer_name").if_object()) made.peer_name = text_of(name->at("value"));
  made.time = parse_time(text_of(from.at("validation_time")));
  if (from.at("max_chain_depth").is_int64()) made.depth_max = static_cast<int>(from.at("max_chain_depth").as_int64());
  made.leaf = text_of(from.at("peer_certificate"));
  made.untrusted = joined(from.at("untrusted_intermediates"));
  made.trusted = joined(from.at("trusted_certs"));
  made.crls = joined(from.at("crls"));
  return made;
}

std::vector<Case> read_corpus() {
  std::vector<Case> cases;
  std::ifstream file(corpus_file(), std::ios::binary);
  if (!file) return cases;
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const json::value corpus = json::parse(text);
  for (const json::value& one : corpus.at("testcases").as_array()) cases.push_back(parse_case(one.as_object()));
  return cases;
}

struct Outcome {
  bool accepted = false;
  std::string why;
};

// Everything of one case but the parameters of its verification.
class Bench {
 public:
  explicit Bench(const Case& one)
      : leaf_(read_pem_objects(nullptr, one.leaf)),
        untrusted_(read_pem_objects(nullptr, one.untrusted)),
        trusted_(read_pem_objects(nullptr, one.trusted)),
        crls_(read_pem_objects(nullptr, one.crls)),
        store_(X509_STORE_new()),
        chain_(sk_X509_new_null()) {
    for (const ca::X509Ptr& root : trusted_.certificates) X509_STORE_add_cert(store_.get(), root.get());
    for (const ca::X509CrlPtr& crl : crls_.crls) X509_STORE_add_crl(store_.get(), crl.get());
    if (!leaf_.certificates.empty()) push(leaf_.certificates.front());  // a server sends its own certificate first
    for (const ca::X509Ptr& certificate : untrusted_.certificates) push(certificate);
  }

  bool readable() const {
    return leaf_.certificates.size() == 1 &&
           leaf_.malformed + untrusted_.malformed + trusted_.malformed + crls_.malformed == 0;
  }

  // The corpus keeps the rules of public CAs apart by the name of a case; the bugs of others are told in their terms.
  WebRoots web_roots(const Case& one) const {
    WebRoots all;
    if (!one.id.starts_with("webpki::") && !one.id.starts_with("cve::")) return all;
    for (const ca::X509Ptr& root : trusted_.certificates) all.insert(root.get());
    return all;
  }

  // Made anew for each verification.
  ca::X509StoreCtxPtr context() const {
    ca::X509StoreCtxPtr context(X509_STORE_CTX_new());
    EXPECT_EQ(X509_STORE_CTX_init(context.get(), store_.get(), leaf_.certificates.front().get(), chain_.get()), 1);
    return context;
  }

 private:
  void push(const ca::X509Ptr& certificate) { sk_X509_push(chain_.get(), ca::share(certificate.get()).release()); }

  PemObjects leaf_, untrusted_, trusted_, crls_;
  ca::X509StorePtr store_;
  ca::X509StackPtr chain_;
};

void set_surroundings(X509_VERIFY_PARAM* parameters, const Case& one) {
  if (one.time != 0) X509_VERIFY_PARAM_set_time(parameters, one.time);
  if (one.depth_max) X509_VERIFY_PARAM_set_depth(parameters, *one.depth_max);
}

Outcome ours(const Case& one, const Bench& bench) {
  if (!bench.readable()) return {false, "can't be decoded"};
  const auto host = request::parse_host(one.peer_name, false);
  if (!host) return {false, "no such host can be asked for: " + host.error().text};
  const ca::X509StoreCtxPtr context = bench.context();
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
  EXPECT_TRUE(set_rules(parameters, {.host = host->name, .literal = host->address, .with_crl = one.crls.size() > 1}));
  set_surroundings(parameters, one);
  const ChainVerdict verdict = verify_server(context.get(), bench.web_roots(one), nullptr);
  if (verdict.good()) return {true, {}};
  return {false, std::to_string(verdict.depth) + ": " +
                     (verdict.complaint.empty() ? X509_verify_cert_error_string(verdict.error) : verdict.complaint)};
}

// As a program does that calls it for the first time: purpose, name and time, and nothing else.
Outcome openssl_alone(const Case& one, const Bench& bench) {
  if (!bench.readable()) return {false, "can't be decoded"};
  const ca::X509StoreCtxPtr context = bench.context();
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
  X509_STORE_CTX_set_default(context.get(), "ssl_server");
  if (!one.peer_name.empty() && X509_VERIFY_PARAM_set1_ip_asc(parameters, one.peer_name.c_str()) != 1) {
    X509_VERIFY_PARAM_set1_host(parameters, one.peer_name.data(), one.peer_name.size());
  }
  if (one.crls.size() > 1) X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_CRL_CHECK);
  set_surroundings(parameters, one);
  ERR_clear_error();
  if (X509_verify_cert(context.get()) == 1) return {true, {}};
  return {false, X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()))};
}

// A case that the guard refuses, though the corpus would have it pass. There is none of the other kind.
struct Deviation {
  std::string_view id;
  bool openssl_accepts;  // by itself, with its default flags
  std::string_view reason;
};

constexpr std::string_view kCommonName =
    "its common name is not in its subjectAltName, for which the corpus wants webpki::cn::not-in-san refused";
constexpr std::string_view kOneChain =
    "OpenSSL builds one chain and does not try another when a name constraint breaks";
constexpr std::string_view kLastSecond = "OpenSSL takes a certificate for expired in the last second of its validity";

constexpr auto kDeviations = std::to_array<Deviation>({
    {"pathlen::max-chain-depth-1-self-issued", false,
     "OpenSSL counts self-issued certificates; the guard has no setting for the depth"},
    {"pathlen::validation-ignores-pathlen-in-leaf", false, "a CA that may only sign certificates is no server"},
    {"rfc5280::ca-as-leaf", false, "a CA that may only sign certificates is no server"},
    {"rfc5280::nc::nc-forbids-alternate-chain-ica", false, kOneChain},
    {"rfc5280::nc::nc-forbids-same-chain-ica", false, kOneChain},
    {"rfc5280::nc::permitted-dn-match", true, "no peer name is expected: the guard always expects a host"},
    {"rfc5280::validity::notafter-exact", false, kLastSecond},
    {"rfc5280::validity::notafter-fractional", false, kLastSecond},
    {"webpki::nc::nc-permits-dns-san-pattern", true, kCommonName},
    {"webpki::san::exact-localhost-ip-san", true, kCommonName},
    {"webpki::san::leftmost-wildcard-san", true, kCommonName},
});

const Deviation* deviation_of(std::string_view id) {
  const auto found = std::ranges::find(kDeviations, id, &Deviation::id);
  return found == kDeviations.end() ? nullptr : &*found;
}

class Limbo : public ::testing::Test {
 protected:
  void SetUp() override {
    cases_ = read_corpus();
    if (cases_.empty()) GTEST_SKIP() << "the corpus is not here: SALLYPORT_LIMBO or " << corpus_file();
  }

  std::vector<Case> cases_;
};

TEST_F(Limbo, EachServerEndsAsTheCorpusWantsOrAsTheTableSays) {
  int as_wanted = 0;
  std::set<std::string_view> used;
  for (const Case& one : cases_) {
    if (!one.server) continue;
    const Bench bench(one);
    const Outcome outcome = ours(one, bench);
    const Outcome openssl = openssl_alone(one, bench);
    const Deviation* deviation = deviation_of(one.id);
    const std::string told = one.id + ": we say '" + outcome.why + "', OpenSSL alone '" + openssl.why + "'";
    if (deviation == nullptr) {
      EXPECT_EQ(outcome.accepted, !one.must_fail) << told;
      ++as_wanted;
      continue;
    }
    used.insert(deviation->id);
    EXPECT_FALSE(one.must_fail || outcome.accepted) << told << ": no deviation any more";
    EXPECT_EQ(openssl.accepted, deviation->openssl_accepts) << told;
  }
  EXPECT_EQ(used.size(), kDeviations.size()) << "a row of the table is in the corpus no more";
  RecordProperty("as_wanted", as_wanted);
}

// The guard verifies no clients. Their certificates are no servers' certificates.
TEST_F(Limbo, NoClientPassesForAServer) {
  int clients = 0;
  for (Case& one : cases_) {
    if (one.server) continue;
    ++clients;
    one.peer_name = "example.com";
    const Outcome outcome = ours(one, Bench(one));
    EXPECT_FALSE(outcome.accepted) << one.id;
  }
  EXPECT_GT(clients, 0);
}

}  // namespace
}  // namespace sallyport::net
