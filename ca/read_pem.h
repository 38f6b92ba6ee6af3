#pragma once
// PEM files, read with errors that name the file and the remedy. Internal to ca/.

#include <vector>

#include "ca/authority.h"

namespace sallyport::ca {

// "ca.pem: why".
std::unexpected<Error> refuse_file(std::string_view path, std::string_view why);

// The certificates of a file, in order: 1 to limits::kCaChainMax. Other blocks and text between them are passed over.
Result<std::vector<X509Ptr>> read_certificates(OSSL_LIB_CTX* lib, PemFile file);

// The first private key of a file, in any of OpenSSL's forms. Never asks for a passphrase.
Result<EvpPkeyPtr> read_key(OSSL_LIB_CTX* lib, PemFile file);

}  // namespace sallyport::ca
