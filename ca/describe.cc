#include "ca/describe.h"

#include <arpa/inet.h>

#include <array>

#include "ca/certificate_form.h"
#include "ca/profile.h"
#include "ca/read_pem.h"

namespace sallyport::ca {
namespace {

using GeneralNamesPtr = OpensslPtr<GENERAL_NAMES, GENERAL_NAMES_free>;

std::string hex(std::span<const unsigned char> bytes, bool colons) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string text;
  for (const unsigned char byte : bytes) {
    if (colons && !text.empty()) text += ':';
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::span<const unsigned char> bytes_of(const ASN1_STRING* string) {
  if (string == nullptr) return {};
  return {ASN1_STRING_get0_data(string), static_cast<std::size_t>(ASN1_STRING_length(string))};
}

std::string key_text(EVP_PKEY* key) {
  if (key == nullptr) return "unreadable";
  std::array<char, 64> group{};
  std::size_t size = 0;
  if (EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) == 1) {
    const std::string_view name(group.data(), size);
    const char* nist = EC_curve_nid2nist(OBJ_sn2nid(group.data()));
    return "EC " + (nist != nullptr ? std::string(nist) : std::string(name));
  }
  const char* type = EVP_PKEY_get0_type_name(key);
  return std::string(type != nullptr ? type : "unknown") + " " + std::to_string(EVP_PKEY_get_bits(key));
}

std::string ip_text(std::span<const unsigned char> bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = bytes.size() == 4 ? AF_INET : AF_INET6;
  if ((bytes.size() != 4 && bytes.size() != 16) ||
      inet_ntop(family, bytes.data(), text.data(), static_cast<socklen_t>(text.size())) == nullptr) {
    return hex(bytes, false);
  }
  return text.data();
}

std::vector<std::string> names_of(X509* certificate) {
  std::vector<std::string> names;
  const GeneralNamesPtr list(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(list.get()); ++i) {
    int type = 0;
    const void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(list.get(), i), &type);
    if (type == GEN_DNS) {
      const auto bytes = bytes_of(static_cast<const ASN1_STRING*>(value));
      names.emplace_back(bytes.begin(), bytes.end());
    } else if (type == GEN_IPADD) {
      names.push_back(ip_text(bytes_of(static_cast<const ASN1_STRING*>(value))));
    }
  }
  return names;
}

Description describe(X509* certificate, TimePoint now) {
  Description description;
  description.subject = name_text(X509_get_subject_name(certificate));
  description.issuer = name_text(X509_get_issuer_name(certificate));
  description.serial = hex(bytes_of(X509_get0_serialNumber(certificate)), false);
  description.ca = X509_check_ca(certificate) == 1;
  description.self_signed = is_self_signed(certificate);
  description.not_before = time_of(X509_get0_notBefore(certificate)).value_or(TimePoint{});
  description.not_after = time_of(X509_get0_notAfter(certificate)).value_or(TimePoint{});
  description.key = key_text(X509_get0_pubkey(certificate));
  description.subject_key_id = hex(bytes_of(X509_get0_subject_key_id(certificate)), true);
  description.authority_key_id = hex(bytes_of(X509_get0_authority_key_id(certificate)), true);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) == 1) {
    description.fingerprint_sha256 = hex(std::span(digest).first(size), true);
  }
  description.names = names_of(certificate);
  description.problems = profile_problems(certificate, now);
  return description;
}

}  // namespace

Result<std::vector<Description>> describe(PemFile file, TimePoint now) {
  auto certificates = read_certificates(nullptr, file);
  if (!certificates) return std::unexpected(certificates.error());
  std::vector<Description> descriptions;
  for (const X509Ptr& certificate : *certificates) descriptions.push_back(describe(certificate.get(), now));
  return descriptions;
}

}  // namespace sallyport::ca
