#include "proxy/net/certificate_rules.h"

#include <openssl/x509v3.h>

#include <algorithm>
#include <array>

#include "ca/openssl_ptr.h"
#include "proxy/net/certificate_fields.h"

namespace sallyport::net {

namespace {

using AccessPtr = ca::OpensslPtr<AUTHORITY_INFO_ACCESS, AUTHORITY_INFO_ACCESS_free>;
using AuthorityKeyIdPtr = ca::OpensslPtr<AUTHORITY_KEYID, AUTHORITY_KEYID_free>;
using NameConstraintsPtr = ca::OpensslPtr<NAME_CONSTRAINTS, NAME_CONSTRAINTS_free>;

constexpr int kSerialOctetsMax = 20;
constexpr std::size_t kLabelBytesMax = 63;
constexpr std::size_t kNameBytesMax = 253;
constexpr std::string_view kAnotherAnchor =
    "; have it issued again with the same name and key, or trust the CA below it instead";

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

bool is_label(std::string_view label) {
  const auto letter_or_digit = [](char c) { return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9'); };
  return !label.empty() && label.size() <= kLabelBytesMax && letter_or_digit(label.front()) &&
         letter_or_digit(label.back()) &&
         std::ranges::all_of(label, [&](char c) { return letter_or_digit(c) || c == '-'; });
}

// The preferred name syntax (RFC 1034 section 3.5, as RFC 1123 section 2.1 widens it), which RFC 5280 section 4.2.1.6
// asks for.
bool is_name(std::string_view name) {
  if (name.size() > kNameBytesMax) return false;
  while (true) {
    const std::size_t dot = name.find('.');
    if (!is_label(name.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

bool is_presented_name(std::string_view name) { return is_name(name.starts_with("*.") ? name.substr(2) : name); }

std::optional<std::string> why_bad_serial(X509* certificate) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate);
  const int octets = ASN1_STRING_length(serial);
  const bool zero = std::ranges::all_of(text_of(serial), [](char c) { return c == 0; });
  if (!zero && octets <= kSerialOctetsMax && ASN1_STRING_type(serial) != V_ASN1_NEG_INTEGER) return std::nullopt;
  return "its serial number must be positive and of 20 octets at most (RFC 5280 section 4.1.2.2)";
}

std::optional<std::string> why_bad_names(X509* certificate) {
  bool found = false;
  const auto names = extension<GeneralNamesPtr>(certificate, NID_subject_alt_name, found);
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS && !is_presented_name(text_of(name->d.dNSName))) {
      return "a DNS name in its subjectAltName is none: only letters, digits, hyphens and dots make one (RFC 5280 "
             "section 4.2.1.6)";
    }
  }
  return std::nullopt;
}

bool any_bad_name(const STACK_OF(GENERAL_SUBTREE) * trees) {
  for (int i = 0; i < sk_GENERAL_SUBTREE_num(trees); ++i) {
    const GENERAL_NAME* base = sk_GENERAL_SUBTREE_value(trees, i)->base;
    // The empty name holds every name.
    if (base->type == GEN_DNS && !text_of(base->d.dNSName).empty() && !is_name(text_of(base->d.dNSName))) return true;
  }
  return false;
}

std::optional<std::string> why_bad_constraints(X509* certificate, RootKind root) {
  bool found = false;
  const auto constraints = extension<NameConstraintsPtr>(certificate, NID_name_constraints, found);
  if (!found) return std::nullopt;
  if (X509_check_ca(certificate) == 0) return "it has nameConstraints but is no CA (RFC 5280 section 4.2.1.10)";
  if (!constraints || (sk_GENERAL_SUBTREE_num(constraints->permittedSubtrees) <= 0 &&
                       sk_GENERAL_SUBTREE_num(constraints->excludedSubtrees) <= 0)) {
    return "its nameConstraints are empty or malformed (RFC 5280 section 4.2.1.10)";
  }
  if (any_bad_name(constraints->permittedSubtrees) || any_bad_name(constraints->excludedSubtrees)) {
    return "a DNS name in its nameConstraints is none; a constraint on names has no leading dot and no wildcard (RFC "
           "5280 section 4.2.1.10)";
  }
  // Public CAs may leave them uncritical (Baseline Requirements section 7.1.2.10.8); they are kept all the same.
  if (root == RootKind::given && !is_critical(certificate, NID_name_constraints)) {
    return "its nameConstraints are not critical (RFC 5280 section 4.2.1.10)";
  }
  return std::nullopt;
}

// Not X509_self_signed(), which believes the authorityKeyIdentifier.
bool names_itself(X509* certificate) {
  return X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
}

// A root that says of itself that another key, name or number has signed it.
std::optional<std::string> why_bad_own_issuer(X509* root) {
  bool found = false;
  const auto id = extension<AuthorityKeyIdPtr>(root, NID_authority_key_identifier, found);
  if (!found) return std::nullopt;
  const bool paired = id && (id->issuer == nullptr) == (id->serial == nullptr);
  if (paired && id->keyid != nullptr && X509_check_akid(root, id.get()) == X509_V_OK) return std::nullopt;
  return "it is a root whose authorityKeyIdentifier is not its own (RFC 5280 section 4.2.1.1)";
}

// Of what a person gives there is nobody else who has looked at it. Roots of the web are taken as they are.
std::optional<std::string> why_bad_given_anchor(X509* anchor) {
  const auto because = [](std::string_view what) { return std::string(what).append(kAnotherAnchor); };
  if (X509_get0_subject_key_id(anchor) == nullptr) {
    return because("it has no subjectKeyIdentifier (RFC 5280 section 4.2.1.2)");
  }
  if (!is_critical(anchor, NID_basic_constraints)) {
    return because("its basicConstraints are not critical (RFC 5280 section 4.2.1.9)");
  }
  if (!names_itself(anchor) && X509_get0_authority_key_id(anchor) == nullptr) {
    return because("it is no root, and it has no authorityKeyIdentifier (RFC 5280 section 4.2.1.1)");
  }
  return std::nullopt;
}

std::optional<std::string> why_bad_anchor(X509* anchor, RootKind root) {
  if (names_itself(anchor)) {
    if (auto why = why_bad_own_issuer(anchor)) return why;
  }
  return root == RootKind::given ? why_bad_given_anchor(anchor) : std::nullopt;
}

std::optional<std::string> why_bad_extensions(X509* certificate) {
  if ((X509_get_extension_flags(certificate) & EXFLAG_CA) != 0 &&
      (X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN) == 0) {
    return "it says that it is a CA, and its keyUsage that it is none (RFC 5280 section 4.2.1.9)";
  }
  bool found = false;
  const auto access = extension<AccessPtr>(certificate, NID_info_access, found);
  if (found && sk_ACCESS_DESCRIPTION_num(access.get()) <= 0) {
    return "its authorityInfoAccess is empty or malformed (RFC 5280 section 4.2.2.1)";
  }
  if (X509_get_ext_by_NID(certificate, NID_policy_constraints, -1) >= 0 &&
      !is_critical(certificate, NID_policy_constraints)) {
    return "its policyConstraints are not critical (RFC 5280 section 4.2.1.11)";
  }
  return std::nullopt;
}

bool any_holds(const STACK_OF(GENERAL_SUBTREE) * trees, std::string_view host, bool& any_dns) {
  for (int i = 0; i < sk_GENERAL_SUBTREE_num(trees); ++i) {
    const GENERAL_NAME* base = sk_GENERAL_SUBTREE_value(trees, i)->base;
    if (base->type != GEN_DNS) continue;
    any_dns = true;
    const std::string_view name = text_of(base->d.dNSName);
    if (name.empty() || same_name(name, host)) return true;
    if (host.size() > name.size() && host[host.size() - name.size() - 1] == '.' &&
        same_name(host.substr(host.size() - name.size()), name)) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::optional<std::string> why_unacceptable(X509* certificate, ChainPlace place, RootKind root) {
  if (auto why = why_bad_constraints(certificate, root)) return why;
  if (place == ChainPlace::anchor) return why_bad_anchor(certificate, root);
  if (auto why = why_bad_serial(certificate)) return why;
  if (auto why = why_bad_extensions(certificate)) return why;
  return place == ChainPlace::server ? why_bad_names(certificate) : std::nullopt;
}

std::optional<std::string> why_outside(X509* authority, std::string_view host) {
  bool found = false;
  const auto constraints = extension<NameConstraintsPtr>(authority, NID_name_constraints, found);
  if (!constraints) return std::nullopt;  // malformed ones are refused before: why_unacceptable() fails closed
  bool permitted_names = false;
  const bool permitted = any_holds(constraints->permittedSubtrees, host, permitted_names);
  bool excluded_names = false;
  if (any_holds(constraints->excludedSubtrees, host, excluded_names) || (permitted_names && !permitted)) {
    return "its nameConstraints do not allow it to issue certificates for this host";
  }
  return std::nullopt;
}

bool is_common_key(X509* certificate) {
  constexpr std::array kCommon = {"RSA", "RSA-PSS", "EC", "ED25519", "ED448"};
  const EVP_PKEY* key = X509_get0_pubkey(certificate);
  return key != nullptr &&
         std::ranges::any_of(kCommon, [&](const char* kind) { return EVP_PKEY_is_a(key, kind) == 1; });
}

std::optional<std::string> why_unacceptable(const X509_CRL* crl) {
  if (X509_CRL_get_ext_by_NID(crl, NID_crl_number, -1) >= 0) return std::nullopt;
  return "its issuer's CRL has no number (RFC 5280 section 5.2.3)";
}

}  // namespace sallyport::net
