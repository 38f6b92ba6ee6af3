// Certificates from strangers and files from users. What is accepted is checked again in the simplest way; what is
// refused is explained in a line that a terminal can show. The first byte of an input says what the rest is.

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ca/certificate_form.h"
#include "ca/describe.h"
#include "ca/leaf_cache.h"
#include "ca/profile.h"
#include "ca/trust.h"
#include "policy-engine/request/host.h"
#include "proxy/net/certificate_failure.h"
#include "proxy/net/trust_store.h"
#include "tests/fuzz/require.h"

namespace sallyport {
namespace {

using fuzz::require;

constexpr std::time_t kNow = 1'780'315'200;  // 2026-06-01 12:00:00 UTC
constexpr std::size_t kChainMax = 6;
constexpr std::size_t kExplanationBytesMax = 2048;

const ca::TimePoint& now() {
  static const ca::TimePoint point{std::chrono::seconds(kNow)};
  return point;
}

// The root that is trusted, and a key for the CAs of an input: they are made anew in each process, so an input names
// the root by its subject and by its key identifier.
struct World {
  ca::EvpPkeyPtr root_key = *ca::make_p256_key(nullptr);
  ca::EvpPkeyPtr issuer_key = *ca::make_p256_key(nullptr);
  ca::X509Ptr root = make_root();
  ca::X509StorePtr store{X509_STORE_new()};

  World() { X509_STORE_add_cert(store.get(), root.get()); }

  ca::X509Ptr make_root() const {
    ca::X509Ptr made = ca::new_certificate(nullptr);
    const std::array usage{5, 6};
    ca::Asn1OctetStringPtr id(ASN1_OCTET_STRING_new());
    ASN1_OCTET_STRING_set(id.get(), reinterpret_cast<const unsigned char*>("fuzzing root's key id"), 20);
    const bool good = ca::set_random_serial(made.get(), nullptr) &&
                      ca::set_common_name(X509_get_subject_name(made.get()), "Fuzzing root") &&
                      X509_set_issuer_name(made.get(), X509_get_subject_name(made.get())) == 1 &&
                      ca::set_validity(made.get(), now() - std::chrono::days(365), now() + std::chrono::days(3650)) &&
                      X509_set_pubkey(made.get(), root_key.get()) == 1 &&
                      ca::add_basic_constraints(made.get(), true, std::nullopt) &&
                      ca::add_key_usage(made.get(), usage) &&
                      X509_add1_ext_i2d(made.get(), NID_subject_key_identifier, id.get(), 0, 0) == 1 &&
                      X509_sign(made.get(), root_key.get(), EVP_sha256()) > 0;
    require(good, "a root can be made");
    return made;
  }
};

World& world() {
  static World made;
  return made;
}

bool is_shown_on_one_line(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::string der_of(X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate, &der);
  std::string bytes(reinterpret_cast<const char*>(der), size > 0 ? static_cast<std::size_t>(size) : 0);
  OPENSSL_free(der);
  return bytes;
}

ca::X509Ptr decoded(std::string_view& der) {
  const auto* cursor = reinterpret_cast<const unsigned char*>(der.data());
  ca::X509Ptr certificate(d2i_X509(nullptr, &cursor, static_cast<long>(der.size())));
  if (certificate)
    der.remove_prefix(static_cast<std::size_t>(cursor - reinterpret_cast<const unsigned char*>(der.data())));
  return certificate;
}

using Chain = std::vector<ca::X509Ptr>;

Chain decoded_chain(std::string_view der) {
  Chain chain;
  while (!der.empty() && chain.size() < kChainMax) {
    ca::X509Ptr certificate = decoded(der);
    if (!certificate) break;
    chain.push_back(std::move(certificate));
  }
  ERR_clear_error();
  return chain;
}

// As if its issuers had made it: what a mutation has changed is signed, so that the signature hides no other rule.
bool sign_again(Chain& chain) {
  for (std::size_t i = chain.size(); i-- > 0;) {
    X509* certificate = chain[i].get();
    if (i > 0 && X509_set_pubkey(certificate, world().issuer_key.get()) != 1) return false;
    const bool by_root =
        X509_NAME_cmp(X509_get_issuer_name(certificate), X509_get_subject_name(world().root.get())) == 0;
    EVP_PKEY* key = by_root ? world().root_key.get() : world().issuer_key.get();
    if (X509_sign(certificate, key, EVP_sha256()) <= 0) return false;
    const std::string der = der_of(certificate);
    std::string_view rest = der;
    chain[i] = decoded(rest);
    if (!chain[i]) return false;
  }
  return true;
}

struct Host {
  std::string name;
  std::optional<request::IpAddress> literal;
};

bool covers(std::string_view presented, std::string_view host) {
  const auto same = [](std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) { return std::tolower(x) == std::tolower(y); });
  };
  if (same(presented, host)) return true;
  const std::size_t dot = host.find('.');
  return presented.starts_with("*.") && dot != std::string_view::npos && same(presented.substr(1), host.substr(dot));
}

bool is_named(X509* certificate, const Host& host) {
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  bool found = false;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    int type = 0;
    const auto* value =
        static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type));
    if (type != GEN_DNS && type != GEN_IPADD) continue;
    const std::string_view text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                                static_cast<std::size_t>(ASN1_STRING_length(value)));
    if (host.literal) {
      const auto& bytes = host.literal->bytes();
      const std::size_t size = host.literal->is_v4() ? 4 : 16;
      found |= type == GEN_IPADD && text == std::string_view(reinterpret_cast<const char*>(bytes.data()), size);
    } else {
      found |= type == GEN_DNS && covers(text, host.name);
    }
  }
  GENERAL_NAMES_free(names);
  return found;
}

bool is_for_servers(X509* certificate) {
  if (X509_get_ext_by_NID(certificate, NID_ext_key_usage, -1) < 0) return true;
  auto* usage = static_cast<EXTENDED_KEY_USAGE*>(X509_get_ext_d2i(certificate, NID_ext_key_usage, nullptr, nullptr));
  bool found = false;
  for (int i = 0; i < sk_ASN1_OBJECT_num(usage); ++i) {
    const int nid = OBJ_obj2nid(sk_ASN1_OBJECT_value(usage, i));
    found |= nid == NID_server_auth || nid == NID_ms_sgc || nid == NID_ns_sgc;
  }
  EXTENDED_KEY_USAGE_free(usage);
  return found;
}

void check_accepted_certificate(X509* certificate) {
  require(ASN1_TIME_cmp_time_t(X509_get0_notBefore(certificate), kNow) <= 0, "what is accepted is valid already");
  require(ASN1_TIME_cmp_time_t(X509_get0_notAfter(certificate), kNow) >= 0, "what is accepted is valid still");
  for (int i = 0; i < X509_get_ext_count(certificate); ++i) {
    X509_EXTENSION* extension = X509_get_ext(certificate, i);
    require(X509_EXTENSION_get_critical(extension) == 0 || X509_supported_extension(extension) == 1,
            "what is critical is understood");
    const int again = X509_get_ext_by_OBJ(certificate, X509_EXTENSION_get_object(extension), i);
    require(again < 0 || OBJ_obj2nid(X509_EXTENSION_get_object(extension)) == NID_undef, "no extension is there twice");
  }
  const EVP_PKEY* key = X509_get0_pubkey(certificate);
  require(key != nullptr && EVP_PKEY_get_security_bits(key) >= 112, "what is accepted has a strong key");
}

// The slow and plain way to see that a chain is good.
void check_accepted(X509_STORE_CTX* verification, const Host& host) {
  STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(verification);
  const int size = sk_X509_num(chain);
  X509* leaf = sk_X509_value(chain, 0);
  require(X509_cmp(sk_X509_value(chain, size - 1), world().root.get()) == 0, "a chain ends in what is trusted");
  require(size > 1 || X509_cmp(leaf, world().root.get()) == 0, "nothing is trusted by itself");
  for (int i = 0; i < size; ++i) check_accepted_certificate(sk_X509_value(chain, i));
  for (int i = 0; i + 1 < size; ++i) {
    X509* issuer = sk_X509_value(chain, i + 1);
    X509* certificate = sk_X509_value(chain, i);
    require(X509_NAME_cmp(X509_get_issuer_name(certificate), X509_get_subject_name(issuer)) == 0, "issuers are named");
    require(X509_verify(certificate, X509_get0_pubkey(issuer)) == 1, "issuers have signed");
    require(X509_check_ca(issuer) == 1, "issuers are CAs");
    require(ASN1_STRING_type(X509_get0_serialNumber(certificate)) != V_ASN1_NEG_INTEGER, "serials are positive");
  }
  require(is_named(leaf, host), "a server is accepted for its names only");
  require(is_for_servers(leaf), "a server's certificate is for servers");
}

void check_explanation(const net::ChainVerdict& verdict, const Host& host) {
  const net::TlsTarget target{
      .host = host.name, .literal = host.literal, .port = 443, .endpoint = nullptr, .policy = {}};
  const net::UpstreamFailure failure = net::explain_certificate(verdict, "roots.pem", target);
  require(failure.reason != Reason::none, "a refusal has a reason");
  require(failure.text.find(host.name) != std::string::npos, "a refusal names the host");
  require(is_shown_on_one_line(failure.text) && failure.text.size() <= kExplanationBytesMax, "a refusal is one line");
}

void check_chain(const Chain& chain, const Host& host, X509_STORE* store, const net::WebRoots& web_roots,
                 X509* own_ca) {
  ca::X509StackPtr sent(sk_X509_new_null());
  for (const ca::X509Ptr& certificate : chain) sk_X509_push(sent.get(), ca::share(certificate.get()).release());
  const ca::X509StoreCtxPtr verification(X509_STORE_CTX_new());
  require(X509_STORE_CTX_init(verification.get(), store, chain.front().get(), sent.get()) == 1, "memory is there");
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(verification.get());
  require(net::set_rules(parameters, {.host = host.name, .literal = host.literal}), "rules can be set");
  X509_VERIFY_PARAM_set_time(parameters, kNow);
  const net::ChainVerdict verdict = net::verify_server(verification.get(), web_roots, own_ca);
  ERR_clear_error();
  if (!verdict.good()) return check_explanation(verdict, host);
  require(own_ca == nullptr, "a chain of our own CA is never good");
  check_accepted(verification.get(), host);
}

void fuzz_chain(std::string_view der, const Host& host, bool signed_again) {
  Chain chain = decoded_chain(der);
  if (chain.empty() || (signed_again && !sign_again(chain))) {
    ERR_clear_error();
    return;
  }
  for (const ca::X509Ptr& certificate : chain) {
    for (const std::string& problem : ca::profile_problems(certificate.get(), now())) {
      require(is_shown_on_one_line(problem), "a problem is one line");
    }
  }
  X509_STORE* store = world().store.get();
  check_chain(chain, host, store, {}, nullptr);
  check_chain(chain, host, store, {world().root.get()}, nullptr);
  if (signed_again) check_chain(chain, host, store, {}, world().root.get());
}

// What is read is the same after being written and read again, and by each of the readers.
void fuzz_file(std::string_view text) {
  const net::PemObjects objects = net::read_pem_objects(nullptr, text);
  std::string written;
  for (const ca::X509Ptr& certificate : objects.certificates) written += *ca::chain_pem(certificate.get(), nullptr);
  const net::PemObjects again = net::read_pem_objects(nullptr, written);
  require(again.malformed == 0 && again.certificates.size() == objects.certificates.size(), "what is written is read");
  const std::vector<std::string> ders = ca::certificates_of(written);
  require(ders.size() == objects.certificates.size(), "both readers see as many");
  for (std::size_t i = 0; i < ders.size(); ++i) {
    require(X509_cmp(again.certificates[i].get(), objects.certificates[i].get()) == 0, "a certificate stays the same");
    require(ders[i] == der_of(objects.certificates[i].get()), "both readers see the same");
  }
  ca::X509StorePtr store(X509_STORE_new());
  for (const ca::X509Ptr& certificate : objects.certificates) X509_STORE_add_cert(store.get(), certificate.get());

  const ca::PemFile file{"file.pem", text};
  const auto described = ca::describe(file, now());
  if (!described) require(is_shown_on_one_line(described.error().text), "an error is one line");
  for (const ca::Description& one : described.value_or(std::vector<ca::Description>{})) {
    require(is_shown_on_one_line(one.subject + one.issuer + one.serial + one.key), "a description is one line");
  }
  const auto authority = ca::Authority::load(nullptr, file, file, now());
  if (!authority) require(is_shown_on_one_line(authority.error().text), "an error is one line");

  static const std::string ca_pem = *ca::chain_pem(world().root.get(), nullptr);
  const auto files = ca::make_trust_files(text, ca_pem);
  if (!files) return;
  require(text.find("PRIVATE KEY-----") == std::string_view::npos, "no key is handed to everybody");
  require(files->bundle_pem.ends_with(ca_pem), "the bundle holds the CA");
  ERR_clear_error();
}

// A list of the root's that the input has changed: a certificate that it names is refused.
void fuzz_crl(std::string_view der, const Host& host) {
  const auto* cursor = reinterpret_cast<const unsigned char*>(der.data());
  const ca::X509CrlPtr parsed(d2i_X509_CRL(nullptr, &cursor, static_cast<long>(der.size())));
  if (!parsed || X509_CRL_sign(parsed.get(), world().root_key.get(), EVP_sha256()) <= 0) return ERR_clear_error();
  unsigned char* encoded = nullptr;
  const int size = i2d_X509_CRL(parsed.get(), &encoded);
  const unsigned char* again = encoded;
  const ca::X509CrlPtr crl(d2i_X509_CRL(nullptr, &again, size));
  OPENSSL_free(encoded);
  if (!crl) return ERR_clear_error();

  static const ca::EvpPkeyPtr key = *ca::make_p256_key(nullptr);
  static const ca::X509Ptr server = [] {
    const std::string_view names = "api.example.com";
    ca::X509Ptr made = ca::new_certificate(nullptr);
    const ca::X509ExtensionPtr id = ca::authority_key_id(world().root.get());
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 0x1234);
    X509_set_issuer_name(made.get(), X509_get_subject_name(world().root.get()));
    ca::set_common_name(X509_get_subject_name(made.get()), "server");
    ca::set_validity(made.get(), now() - std::chrono::days(1), now() + std::chrono::days(1));
    X509_set_pubkey(made.get(), key.get());
    X509_add_ext(made.get(), id.get(), -1);
    ca::add_subject_alt_names(made.get(), std::span(&names, 1));
    require(X509_sign(made.get(), world().root_key.get(), EVP_sha256()) > 0, "a server can be made");
    return made;
  }();
  const ca::X509StorePtr store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), world().root.get());
  X509_STORE_add_crl(store.get(), crl.get());
  const ca::X509StoreCtxPtr verification(X509_STORE_CTX_new());
  require(X509_STORE_CTX_init(verification.get(), store.get(), server.get(), nullptr) == 1, "memory is there");
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(verification.get());
  require(net::set_rules(parameters, {.host = "api.example.com", .with_crl = true}), "rules can be set");
  X509_VERIFY_PARAM_set_time(parameters, kNow);
  const net::ChainVerdict verdict = net::verify_server(verification.get(), {}, nullptr);
  ERR_clear_error();
  if (!verdict.good()) return check_explanation(verdict, host);
  require(X509_NAME_cmp(X509_CRL_get_issuer(crl.get()), X509_get_subject_name(world().root.get())) == 0,
          "a list is its issuer's");
  require(ASN1_TIME_cmp_time_t(X509_CRL_get0_lastUpdate(crl.get()), kNow) <= 0, "a list is valid already");
  const ASN1_TIME* next = X509_CRL_get0_nextUpdate(crl.get());
  require(next == nullptr || ASN1_TIME_cmp_time_t(next, kNow) >= 0, "a list is valid still");
  X509_REVOKED* entry = nullptr;
  require(X509_CRL_get0_by_serial(crl.get(), &entry, X509_get_serialNumber(server.get())) != 1,
          "what a list names is refused");
}

// Leaves for names that strangers choose.
void fuzz_name(std::string_view name) {
  static ca::LeafCache leaves = [] {
    auto authority = ca::Authority::create_root(nullptr, {}, now());
    return *ca::LeafCache::create(std::move(*authority), 16);
  }();
  static const ca::X509StorePtr store = [] {
    ca::X509StorePtr made(X509_STORE_new());
    X509_STORE_add_cert(made.get(), leaves.authority().certificate());
    return made;
  }();
  const auto host = request::parse_host(name, false);
  const auto leaf = leaves.get(name, now());
  require(!leaf || host.has_value(), "a leaf is for a host");
  require(!leaf || host->name == name || host->address, "a leaf is for a canonical host");
  require(leaf || !host || host->name != name, "every canonical host can have a leaf");
  if (!leaf || host->name != name) return;  // an address has more spellings than the canonical one
  const std::string der = der_of((*leaf)->certificate);
  std::string_view rest = der;
  const ca::X509Ptr read = decoded(rest);
  require(read && rest.empty(), "a leaf is one certificate");
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(read.get(), NID_subject_alt_name, nullptr, nullptr));
  require(sk_GENERAL_NAME_num(names) == 1, "a leaf has one name");
  GENERAL_NAMES_free(names);
  require(is_named(read.get(), {host->name, host->address}), "a leaf has the name that was asked for");
  require(ca::profile_problems(read.get(), now()).empty(), "a leaf pleases every client");

  const ca::X509StoreCtxPtr verification(X509_STORE_CTX_new());
  require(X509_STORE_CTX_init(verification.get(), store.get(), read.get(), nullptr) == 1, "memory is there");
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(verification.get());
  require(net::set_rules(parameters, {.host = host->name, .literal = host->address}), "rules can be set");
  X509_VERIFY_PARAM_set_time(parameters, kNow);
  // Functions may call hosts with underscores, but no server has a certificate for one.
  require(net::verify_server(verification.get(), {}, nullptr).good() == (name.find('_') == std::string_view::npos),
          "a leaf passes our own rules");
}

const std::array<Host, 4>& hosts() {
  static const std::array<Host, 4> all = {
      Host{"api.example.com", {}},
      Host{"a.wild.example.com", {}},
      Host{"192.0.2.7", request::IpAddress::parse("192.0.2.7")},
      Host{"2001:db8::7", request::IpAddress::parse("2001:db8::7")},
  };
  return all;
}

}  // namespace
}  // namespace sallyport

// Bits 0 to 2 of the first byte: the kind. Bits 3 and 4: the host that is expected.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Host& host = hosts()[data[0] >> 3 & 3];
  switch (data[0] & 7) {
    case 0:
      fuzz_chain(rest, host, false);
      break;
    case 1:
    case 2:
      fuzz_chain(rest, host, true);
      break;
    case 3:
      fuzz_crl(rest, host);
      break;
    case 4:
      fuzz_name(rest);
      break;
    default:
      fuzz_file(rest);
      break;
  }
  return 0;
}
