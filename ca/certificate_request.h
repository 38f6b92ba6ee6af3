#pragma once
// PKCS #10 requests (RFC 2986), of which nothing counts but the key: who signs says all the rest of a certificate.

#include <openssl/types.h>

#include <string>
#include <string_view>

#include "base/error.h"
#include "ca/openssl_ptr.h"

namespace sallyport::ca {

// In DER, for a key of make_p256_key().
Result<std::string> make_certificate_request(OSSL_LIB_CTX* lib, EVP_PKEY* key);

// A public key of P-256, which its owner has proved to hold.
struct RequestedKey {
  std::string point;  // uncompressed (SEC 1, section 2.3.3)
};
// The key of a request in DER that its owner has signed. ErrorKind::malformed: it is none, has something behind it, or
// is longer than limits::kCertificateRequestBytesMax; unverified: it is not signed with its key; refused: a key that is
// not P-256, spells its curve out instead of naming it, or is compressed. What this costs is three times what
// Authority::sign_intermediate() does with it.
Result<RequestedKey> key_of_request(OSSL_LIB_CTX* lib, std::string_view der);

}  // namespace sallyport::ca
