#include "proxy/net/web_rules.h"

#include <libpsl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "ca/openssl_ptr.h"
#include "policy-engine/request/address.h"
#include "proxy/net/certificate_fields.h"

namespace sallyport::net {

namespace {

using KeyUsesPtr = ca::OpensslPtr<EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free>;

// The names and addresses of the SAN as text, the addresses as RFC 5952 and RFC 3986 write them.
std::vector<std::string> names_of(X509* certificate) {
  std::vector<std::string> all;
  bool found = false;
  const auto names = extension<GeneralNamesPtr>(certificate, NID_subject_alt_name, found);
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) all.emplace_back(text_of(name->d.dNSName));
    if (name->type != GEN_IPADD) continue;
    const std::string_view bytes = text_of(name->d.iPAddress);
    if (std::array<std::uint8_t, 4> v4{}; bytes.size() == v4.size()) {
      std::ranges::copy(bytes, v4.begin());
      all.push_back(request::IpAddress::from_v4(v4).to_string());
    } else if (std::array<std::uint8_t, 16> v6{}; bytes.size() == v6.size()) {
      std::ranges::copy(bytes, v6.begin());
      all.push_back(request::IpAddress::from_v6(v6).to_string());
    }
  }
  return all;
}

std::string utf8_of(const ASN1_STRING* string) {
  unsigned char* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(&text, string);
  std::string copy;
  if (size > 0) copy.assign(reinterpret_cast<const char*>(text), static_cast<std::size_t>(size));
  OPENSSL_free(text);
  return copy;
}

std::optional<std::string> why_bad_common_name(X509* server, const std::vector<std::string>& names) {
  const X509_NAME* subject = X509_get_subject_name(server);
  for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) {
    const ASN1_STRING* value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    if (std::ranges::find(names, utf8_of(value)) == names.end()) {
      return "its common name is none of the names in its subjectAltName, letter by letter (BR section 7.1.4.3)";
    }
  }
  return std::nullopt;
}

std::optional<std::string> why_bad_uses(X509* server) {
  bool found = false;
  const auto uses = extension<KeyUsesPtr>(server, NID_ext_key_usage, found);
  if (!uses) return "it has no extendedKeyUsage (BR section 7.1.2.7.6)";
  if (is_critical(server, NID_ext_key_usage)) return "its extendedKeyUsage is critical (BR section 7.1.2.7.6)";
  for (int i = 0; i < sk_ASN1_OBJECT_num(uses.get()); ++i) {
    if (OBJ_obj2nid(sk_ASN1_OBJECT_value(uses.get(), i)) == NID_anyExtendedKeyUsage) {
      return "its extendedKeyUsage allows everything (BR section 7.1.2.7.10)";
    }
  }
  return std::nullopt;
}

// *.co.uk. A wildcard right below a suffix of the list's private part (*.s3.amazonaws.com) is what the owner of that
// suffix may have, and has: nothing in the certificate tells owners from others.
bool covers_a_registry(std::string_view name) {
  if (!name.starts_with("*.")) return false;
  std::string below(name.substr(2));
  std::ranges::transform(below, below.begin(), lower);
  return psl_is_public_suffix2(psl_builtin(), below.c_str(), PSL_TYPE_ICANN) == 1;
}

std::optional<std::string> why_not_a_server_of_the_web(X509* server) {
  const std::vector<std::string> names = names_of(server);
  if (auto why = why_bad_common_name(server, names)) return why;
  if (auto why = why_bad_uses(server)) return why;
  if (is_critical(server, NID_subject_alt_name) && X509_NAME_entry_count(X509_get_subject_name(server)) > 0) {
    return "its subjectAltName is critical though it has a subject (BR section 7.1.2.7.12)";
  }
  if (std::ranges::any_of(names, covers_a_registry)) {
    return "it has a wildcard for everybody's names, right below a public suffix (BR section 3.2.2.6)";
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> why_not_of_the_web(X509* certificate, ChainPlace place) {
  const EVP_PKEY* key = X509_get0_pubkey(certificate);
  if (EVP_PKEY_is_a(key, "RSA") == 1 && EVP_PKEY_get_bits(key) % 8 != 0) {
    return "the size of its RSA key is no multiple of 8 bits (BR section 6.1.5)";
  }
  if (place == ChainPlace::server) return why_not_a_server_of_the_web(certificate);
  if (place == ChainPlace::anchor && X509_get_ext_by_NID(certificate, NID_ext_key_usage, -1) >= 0) {
    return "it is a root with an extendedKeyUsage (BR section 7.1.2.1.2)";
  }
  return std::nullopt;
}

}  // namespace sallyport::net
