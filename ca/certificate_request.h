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

// The key of a request in DER that its owner has signed. ErrorKind::malformed: it is none, has something behind it, or
// is longer than limits::kCertificateRequestBytesMax; unverified: it is not signed with its key; refused: a key that is
// not P-256, or spells its curve out instead of naming it.
Result<EvpPkeyPtr> key_of_request(OSSL_LIB_CTX* lib, std::string_view der);

}  // namespace sallyport::ca
