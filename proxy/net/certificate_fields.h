#pragma once
// Reading the fields of a certificate, for the rules about them.

#include <openssl/x509v3.h>

#include <string_view>

#include "ca/openssl_ptr.h"

namespace sallyport::net {

using GeneralNamesPtr = ca::OpensslPtr<GENERAL_NAMES, GENERAL_NAMES_free>;

// Null where the extension is missing, malformed or there twice; `found` tells the first from the others.
template <class Owner>
Owner extension(X509* certificate, int nid, bool& found) {
  int critical = -1;
  Owner value(static_cast<typename Owner::pointer>(X509_get_ext_d2i(certificate, nid, &critical, nullptr)));
  found = critical != -1;
  return value;
}

inline bool is_critical(X509* certificate, int nid) {
  X509_EXTENSION* found = X509_get_ext(certificate, X509_get_ext_by_NID(certificate, nid, -1));
  return found != nullptr && X509_EXTENSION_get_critical(found) == 1;
}

inline std::string_view text_of(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<std::size_t>(ASN1_STRING_length(string))};
}

// Of ASCII only, as names are compared (RFC 4343).
inline char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

}  // namespace sallyport::net
