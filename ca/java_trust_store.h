#pragma once
// A PKCS#12 trust store (RFC 7292) that Java reads as trusted certificates.

#include <span>
#include <string>
#include <string_view>

namespace sallyport::ca {

struct TrustedCertificate {
  std::string alias;     // unique without regard to case; ASCII
  std::string_view der;  // one certificate; not looked into
};

// Neither encrypted nor with a MAC: certificates are public, and a password that everyone knows protects nothing. Every
// Java version that knows PKCS#12 reads such a store, with any password or none.
std::string java_trust_store(std::span<const TrustedCertificate> certificates);

}  // namespace sallyport::ca
