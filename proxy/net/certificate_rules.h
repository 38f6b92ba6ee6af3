#pragma once
// What RFC 5280 demands of certificates and OpenSSL leaves unchecked, also where it is asked to be strict.

#include <openssl/types.h>

#include <optional>
#include <string>
#include <string_view>

namespace sallyport::net {

enum class ChainPlace {
  server,  // what the server is known by
  issuer,  // between the two
  anchor,  // the end of the chain, which is trusted (RFC 5280 section 6.1.1 (d))
};

// Who decided that the end of a chain is to be trusted.
enum class RootKind {
  web,    // the system's distributor: the CA/Browser Forum's Baseline Requirements bind it and whom it certifies
  given,  // a person: with --upstream-ca, as caBundle, or among the system's own additions
};

// What is wrong with a certificate of a chain of several, as a clause that goes on after "is not acceptable: ".
// Nothing when nothing is.
std::optional<std::string> why_unacceptable(X509* certificate, ChainPlace place, RootKind root);

// The name constraints of a CA, asked for the host itself: a server's wildcard may stay within them and yet cover a
// host that they exclude. `host` is a canonical name.
std::optional<std::string> why_outside(X509* authority, std::string_view host);

// Whether TLS is used with this kind of key today: RSA, ECDSA and EdDSA.
bool is_common_key(X509* certificate);

// The same for a CRL, which must have a number (RFC 5280 section 5.2.3).
std::optional<std::string> why_unacceptable(const X509_CRL* crl);

}  // namespace sallyport::net
