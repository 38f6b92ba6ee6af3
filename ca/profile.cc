#include "ca/profile.h"

#include <openssl/asn1.h>

#include "ca/certificate_form.h"

namespace sallyport::ca {
namespace {

using Problems = std::vector<std::string>;

bool has(X509* certificate, int nid) { return X509_get_ext_by_NID(certificate, nid, -1) >= 0; }

bool is_critical(X509* certificate, int nid) {
  const int index = X509_get_ext_by_NID(certificate, nid, -1);
  return index >= 0 && X509_EXTENSION_get_critical(X509_get_ext(certificate, index)) == 1;
}

void check_common(X509* certificate, TimePoint now, Problems& problems) {
  if ((X509_get_extension_flags(certificate) & EXFLAG_INVALID) != 0) {
    problems.emplace_back("an extension is malformed or stands there twice");
  }
  if (X509_get_version(certificate) != X509_VERSION_3) problems.emplace_back("it is not a version 3 certificate");
  const auto from = time_of(X509_get0_notBefore(certificate));
  const auto to = time_of(X509_get0_notAfter(certificate));
  if (!from || !to) problems.emplace_back("its validity can't be read");
  if (from && now < *from) problems.emplace_back("it is not valid yet");
  if (to && now >= *to) problems.emplace_back("it has expired");
  EVP_PKEY* key = X509_get0_pubkey(certificate);
  if (key == nullptr) problems.emplace_back("its public key can't be read");
  if (const auto weak = key != nullptr ? why_weak(key) : std::nullopt) problems.push_back(*weak);
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate);
  if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER) problems.emplace_back("its serial number is negative");
  if (ASN1_STRING_length(serial) > 20) problems.emplace_back("its serial number has more than 20 octets");
  if (is_self_signed(certificate)) return;
  int digest = NID_undef;
  if (X509_get_signature_info(certificate, &digest, nullptr, nullptr, nullptr) == 1 &&
      (digest == NID_sha1 || digest == NID_md5)) {
    problems.emplace_back("it is signed with SHA-1 or MD5, which clients refuse");
  }
  if (X509_get0_authority_key_id(certificate) == nullptr) {
    problems.emplace_back("it has no authorityKeyIdentifier: Python 3.13 and newer refuse it");
  }
}

void check_ca(X509* certificate, Problems& problems) {
  if (!is_critical(certificate, NID_basic_constraints)) {
    problems.emplace_back("basicConstraints is not critical: Python 3.13 and newer refuse it");
  }
  if (!has(certificate, NID_key_usage)) {
    problems.emplace_back("it has no keyUsage: Python 3.13 and newer refuse it");
  } else if ((X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN) == 0) {
    problems.emplace_back("its keyUsage does not allow keyCertSign");
  }
  if (X509_get0_subject_key_id(certificate) == nullptr) {
    problems.emplace_back("it has no subjectKeyIdentifier: Python 3.13 and newer refuse it");
  }
  if (X509_NAME_entry_count(X509_get_subject_name(certificate)) == 0) problems.emplace_back("its subject is empty");
}

void check_leaf(X509* certificate, Problems& problems) {
  if (!has(certificate, NID_subject_alt_name)) {
    problems.emplace_back("it has no subjectAltName: clients do not look for the host in the subject any more");
  } else if (X509_NAME_entry_count(X509_get_subject_name(certificate)) == 0 &&
             !is_critical(certificate, NID_subject_alt_name)) {
    problems.emplace_back("its subject is empty, but its subjectAltName is not critical");
  }
  if (has(certificate, NID_ext_key_usage) && (X509_get_extended_key_usage(certificate) & XKU_SSL_SERVER) == 0) {
    problems.emplace_back("its extendedKeyUsage does not allow serverAuth");
  }
  const auto from = time_of(X509_get0_notBefore(certificate));
  const auto to = time_of(X509_get0_notAfter(certificate));
  constexpr std::chrono::days kAppleMax{825};
  if (from && to && *to - *from > kAppleMax) {
    problems.emplace_back("it is valid for more than 825 days: Apple's clients refuse it");
  }
}

}  // namespace

std::vector<std::string> profile_problems(X509* certificate, TimePoint now) {
  Problems problems;
  check_common(certificate, now, problems);
  if (X509_check_ca(certificate) != 0) {
    check_ca(certificate, problems);
  } else {
    check_leaf(certificate, problems);
  }
  return problems;
}

std::vector<std::string> authority_problems(const Authority& authority, TimePoint now) {
  Problems problems;
  const auto add = [&](X509* certificate) {
    const std::string who = subject_text(certificate) + ": ";
    for (const std::string& problem : profile_problems(certificate, now)) problems.push_back(who + problem);
  };
  for (const X509Ptr& certificate : authority.path()) add(certificate.get());
  X509* last = authority.path().back().get();
  if (!is_self_signed(last)) {
    problems.push_back(subject_text(last) +
                       ": its issuer is not in the file. Node and other clients trust only a chain " +
                       "that ends in a root; append the root's certificate to the file");
  }
  return problems;
}

}  // namespace sallyport::ca
