#include "ca/certificate_form.h"

#include <arpa/inet.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <ctime>

namespace sallyport::ca {
namespace {

using BasicConstraintsPtr = OpensslPtr<BASIC_CONSTRAINTS, BASIC_CONSTRAINTS_free>;
using BitStringPtr = OpensslPtr<ASN1_BIT_STRING, ASN1_BIT_STRING_free>;
using ExtendedKeyUsagePtr = OpensslPtr<EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free>;
using AuthorityKeyIdPtr = OpensslPtr<AUTHORITY_KEYID, AUTHORITY_KEYID_free>;
using NameConstraintsPtr = OpensslPtr<NAME_CONSTRAINTS, NAME_CONSTRAINTS_free>;
using GeneralNamePtr = OpensslPtr<GENERAL_NAME, GENERAL_NAME_free>;
using GeneralSubtreePtr = OpensslPtr<GENERAL_SUBTREE, GENERAL_SUBTREE_free>;
using GeneralNamesPtr = OpensslPtr<GENERAL_NAMES, GENERAL_NAMES_free>;
using Ia5StringPtr = OpensslPtr<ASN1_IA5STRING, ASN1_IA5STRING_free>;

// A name that nobody has (RFC 6761 section 6.4), where none is permitted: not every verifier takes an empty excluded
// one for all names.
constexpr std::string_view kNobody = "sallyport.invalid";

bool add(X509* certificate, int nid, void* value, bool critical) {
  return X509_add1_ext_i2d(certificate, nid, value, critical ? 1 : 0, X509V3_ADD_APPEND) == 1;
}

Asn1OctetStringPtr octets(std::span<const unsigned char> bytes) {
  Asn1OctetStringPtr string(ASN1_OCTET_STRING_new());
  if (string && ASN1_OCTET_STRING_set(string.get(), bytes.data(), static_cast<int>(bytes.size())) != 1) string.reset();
  return string;
}

// The SKI that a key should have.
Asn1OctetStringPtr key_id(X509* certificate) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  if (X509_pubkey_digest(certificate, EVP_sha256(), digest.data(), &size) != 1) return nullptr;
  return octets(std::span(digest).first(20));
}

GeneralNamePtr dns_name(std::string_view text) {
  GeneralNamePtr name(GENERAL_NAME_new());
  Ia5StringPtr string(ASN1_IA5STRING_new());
  if (!name || !string || ASN1_STRING_set(string.get(), text.data(), static_cast<int>(text.size())) != 1)
    return nullptr;
  GENERAL_NAME_set0_value(name.get(), GEN_DNS, string.release());
  return name;
}

GeneralNamePtr ip_name(std::span<const unsigned char> bytes) {
  GeneralNamePtr name(GENERAL_NAME_new());
  Asn1OctetStringPtr string = octets(bytes);
  if (!name || !string) return nullptr;
  GENERAL_NAME_set0_value(name.get(), GEN_IPADD, string.release());
  return name;
}

struct IpBytes {
  std::array<unsigned char, 16> bytes;
  std::size_t size = 0;
};

// inet_pton takes no leading zeros, no shortened forms and no zone ids.
std::optional<IpBytes> parse_ip(std::string_view text) {
  const std::string terminated(text);
  if (terminated.size() != text.size() || terminated.find('\0') != std::string::npos) return std::nullopt;
  IpBytes ip;
  if (inet_pton(AF_INET, terminated.c_str(), ip.bytes.data()) == 1) {
    ip.size = 4;
  } else if (inet_pton(AF_INET6, terminated.c_str(), ip.bytes.data()) == 1) {
    ip.size = 16;
  } else {
    return std::nullopt;
  }
  return ip;
}

// An address and its mask, which leaves nothing open.
GeneralNamePtr ip_subtree(const IpBytes& ip) {
  std::array<unsigned char, 32> bytes;
  bytes.fill(0xFF);
  std::copy_n(ip.bytes.begin(), ip.size, bytes.begin());
  return ip_name(std::span(bytes).first(2 * ip.size));
}

// The text of such an address; empty of any other subtree.
std::string one_address(std::span<const unsigned char> subtree) {
  const std::size_t size = subtree.size() / 2;
  if (subtree.size() != 8 && subtree.size() != 32) return {};
  if (!std::ranges::all_of(subtree.subspan(size), [](unsigned char byte) { return byte == 0xFF; })) return {};
  std::array<char, INET6_ADDRSTRLEN> text{};
  const char* done = inet_ntop(size == 4 ? AF_INET : AF_INET6, subtree.data(), text.data(), text.size());
  return done == nullptr ? std::string() : std::string(done);
}

bool is_label(std::string_view label) {
  if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
  return std::ranges::all_of(
      label, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; });
}

// Takes the name over.
bool add_subtree(STACK_OF(GENERAL_SUBTREE) * *trees, GeneralNamePtr base) {
  GeneralSubtreePtr subtree(GENERAL_SUBTREE_new());
  if (!base || !subtree) return false;
  GENERAL_NAME_free(subtree->base);
  subtree->base = base.release();
  if (*trees == nullptr) *trees = sk_GENERAL_SUBTREE_new_null();
  if (*trees == nullptr || sk_GENERAL_SUBTREE_push(*trees, subtree.get()) == 0) return false;
  disown(subtree);
  return true;
}

}  // namespace

X509Ptr new_certificate(OSSL_LIB_CTX* lib) {
  X509Ptr certificate(X509_new_ex(lib, nullptr));
  if (certificate && X509_set_version(certificate.get(), X509_VERSION_3) != 1) certificate.reset();
  return certificate;
}

bool set_random_serial(X509* certificate, OSSL_LIB_CTX* lib) {
  std::array<unsigned char, 16> bytes;
  if (RAND_bytes_ex(lib, bytes.data(), bytes.size(), 0) != 1) return false;
  bytes[0] = static_cast<unsigned char>((bytes[0] & 0x3f) | 0x40);
  ASN1_INTEGER* serial = X509_get_serialNumber(certificate);
  return ASN1_STRING_set(serial, bytes.data(), static_cast<int>(bytes.size())) == 1;
}

bool set_validity(X509* certificate, TimePoint not_before, TimePoint not_after) {
  const Asn1TimePtr from(ASN1_TIME_set(nullptr, not_before.time_since_epoch().count()));
  const Asn1TimePtr to(ASN1_TIME_set(nullptr, not_after.time_since_epoch().count()));
  return from && to && X509_set1_notBefore(certificate, from.get()) == 1 &&
         X509_set1_notAfter(certificate, to.get()) == 1;
}

bool is_uncompressed_p256(std::span<const unsigned char> point) { return point.size() == 65 && point[0] == 0x04; }

bool set_p256_point(X509* certificate, std::string_view point) {
  auto* copy = static_cast<unsigned char*>(OPENSSL_memdup(point.data(), point.size()));
  if (copy == nullptr) return false;
  // Takes the copy over; the object is a static one.
  if (X509_PUBKEY_set0_param(X509_get_X509_PUBKEY(certificate), OBJ_nid2obj(NID_X9_62_id_ecPublicKey), V_ASN1_OBJECT,
                             OBJ_nid2obj(NID_X9_62_prime256v1), copy, static_cast<int>(point.size())) == 1) {
    return true;
  }
  OPENSSL_free(copy);
  return false;
}

bool set_common_name(X509_NAME* name, std::string_view text) {
  return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()),
                                    -1, 0) == 1;
}

bool add_basic_constraints(X509* certificate, bool ca, std::optional<long> path_length) {
  const BasicConstraintsPtr constraints(BASIC_CONSTRAINTS_new());
  if (!constraints) return false;
  constraints->ca = ca ? 0xff : 0;
  if (path_length) {
    constraints->pathlen = ASN1_INTEGER_new();
    if (constraints->pathlen == nullptr || ASN1_INTEGER_set(constraints->pathlen, *path_length) != 1) return false;
  }
  return add(certificate, NID_basic_constraints, constraints.get(), true);
}

bool add_key_usage(X509* certificate, std::span<const int> bits) {
  const BitStringPtr usage(ASN1_BIT_STRING_new());
  if (!usage) return false;
  for (const int bit : bits) {
    if (ASN1_BIT_STRING_set_bit(usage.get(), bit, 1) != 1) return false;
  }
  return add(certificate, NID_key_usage, usage.get(), true);
}

bool add_server_auth(X509* certificate) {
  const ExtendedKeyUsagePtr usage(EXTENDED_KEY_USAGE_new());
  return usage && sk_ASN1_OBJECT_push(usage.get(), OBJ_nid2obj(NID_server_auth)) != 0 &&
         add(certificate, NID_ext_key_usage, usage.get(), false);
}

bool add_subject_key_id(X509* certificate) {
  const Asn1OctetStringPtr id = key_id(certificate);
  return id && add(certificate, NID_subject_key_identifier, id.get(), false);
}

bool add_name_constraints(X509* certificate, std::span<const std::string> hosts) {
  const NameConstraintsPtr constraints(NAME_CONSTRAINTS_new());
  if (!constraints) return false;
  bool names = false, v4 = false, v6 = false;
  for (const std::string& host : hosts) {
    const std::optional<IpBytes> ip = parse_ip(host);
    (ip ? ip->size == 4 ? v4 : v6 : names) = true;
    if (!add_subtree(&constraints->permittedSubtrees, ip ? ip_subtree(*ip) : dns_name(host))) return false;
  }
  if (!names && !add_subtree(&constraints->permittedSubtrees, dns_name(kNobody))) return false;
  // An address and its mask, both zero: every address of that family.
  const std::array<unsigned char, 32> zeros{};
  return (v4 || add_subtree(&constraints->excludedSubtrees, ip_name(std::span(zeros).first(8)))) &&
         (v6 || add_subtree(&constraints->excludedSubtrees, ip_name(zeros))) &&
         add(certificate, NID_name_constraints, constraints.get(), true);
}

PermittedHosts permitted_hosts(X509* certificate) {
  const NameConstraintsPtr constraints(
      static_cast<NAME_CONSTRAINTS*>(X509_get_ext_d2i(certificate, NID_name_constraints, nullptr, nullptr)));
  if (!constraints) return std::nullopt;
  std::vector<std::string> hosts;
  for (int i = 0; i < sk_GENERAL_SUBTREE_num(constraints->permittedSubtrees); ++i) {
    const GENERAL_NAME* base = sk_GENERAL_SUBTREE_value(constraints->permittedSubtrees, i)->base;
    if (base->type != GEN_DNS && base->type != GEN_IPADD) continue;
    const ASN1_STRING* text = base->type == GEN_DNS ? base->d.dNSName : base->d.iPAddress;
    const unsigned char* bytes = ASN1_STRING_get0_data(text);
    const auto size = static_cast<std::size_t>(ASN1_STRING_length(text));
    if (base->type == GEN_DNS) {
      hosts.emplace_back(reinterpret_cast<const char*>(bytes), size);
      if (hosts.back() == kNobody) hosts.pop_back();
    } else if (const std::string address = one_address(std::span(bytes, size)); !address.empty()) {
      hosts.push_back(address);
    }
  }
  std::ranges::sort(hosts);
  return hosts;
}

bool add_subject_alt_names(X509* certificate, std::span<const std::string_view> hosts) {
  const GeneralNamesPtr names(GENERAL_NAMES_new());
  if (!names) return false;
  for (const std::string_view host : hosts) {
    const std::optional<IpBytes> ip = parse_ip(host);
    GeneralNamePtr name = ip ? ip_name(std::span(ip->bytes).first(ip->size)) : dns_name(host);
    if (!name || sk_GENERAL_NAME_push(names.get(), name.get()) == 0) return false;
    disown(name);
  }
  return add(certificate, NID_subject_alt_name, names.get(), true);
}

X509ExtensionPtr authority_key_id(X509* issuer) {
  const ASN1_OCTET_STRING* stored = X509_get0_subject_key_id(issuer);
  const AuthorityKeyIdPtr id(AUTHORITY_KEYID_new());
  if (!id) return nullptr;
  id->keyid = stored != nullptr ? ASN1_OCTET_STRING_dup(stored) : key_id(issuer).release();
  if (id->keyid == nullptr) return nullptr;
  return X509ExtensionPtr(X509V3_EXT_i2d(NID_authority_key_identifier, 0, id.get()));
}

bool is_certificate_host(std::string_view host) { return parse_ip(host) || is_dns_name(host); }

bool is_dns_name(std::string_view host) {
  if (host.empty() || host.size() > 253) return false;
  std::string_view label;
  for (std::string_view rest = host;;) {
    const std::size_t dot = rest.find('.');
    label = rest.substr(0, dot);
    if (!is_label(label)) return false;
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  // A name that ends in a number is an IPv4 address to some clients.
  const bool digits = std::ranges::all_of(label, [](char c) { return c >= '0' && c <= '9'; });
  return !digits && !label.starts_with("0x");
}

std::optional<TimePoint> time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
  return TimePoint(std::chrono::seconds(timegm(&parts)));
}

std::optional<std::string> why_weak(EVP_PKEY* key) {
  const std::string wanted = "; P-256, or RSA with 2048 bits or more, is what clients accept";
  if (EVP_PKEY_is_a(key, "ED25519") == 1 || EVP_PKEY_is_a(key, "ED448") == 1) return std::nullopt;
  const int bits = EVP_PKEY_get_bits(key);
  if (EVP_PKEY_is_a(key, "RSA") == 1) {
    if (bits >= 2048) return std::nullopt;
    return "the RSA key is weak: it has " + std::to_string(bits) + " bits" + wanted;
  }
  if (EVP_PKEY_is_a(key, "EC") == 1) {
    std::array<char, 64> group{};
    std::size_t size = 0;
    if (EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) != 1)
      return "the key's curve has no name" + wanted;
    const std::string_view name(group.data(), size);
    if (name == SN_X9_62_prime256v1 || name == SN_secp384r1 || name == SN_secp521r1) return std::nullopt;
    return "TLS clients do not accept keys of the curve " + std::string(name) + wanted;
  }
  const char* type = EVP_PKEY_get0_type_name(key);
  return "certificates can't be issued with a key of type " + std::string(type != nullptr ? type : "unknown") + wanted;
}

bool is_self_signed(X509* certificate) { return (X509_get_extension_flags(certificate) & EXFLAG_SS) != 0; }

std::string name_text(const X509_NAME* name) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  // Control characters and bytes of other alphabets come out escaped: the text may go to a terminal.
  if (!bio || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) return "?";
  return std::string(bio_view(bio.get()));
}

std::string subject_text(X509* certificate) { return name_text(X509_get_subject_name(certificate)); }

}  // namespace sallyport::ca
