#pragma once
// What is wrong with a certificate in the eyes of some client, as sentences: for `ca show` and for warnings at start.

#include <string>
#include <vector>

#include "ca/authority.h"

namespace sallyport::ca {

// For a CA certificate: what strict verifiers (Python 3.13 and newer, `openssl verify -x509_strict`) ask of a CA. For a
// leaf: the same for a server certificate. Empty when all is well.
std::vector<std::string> profile_problems(X509* certificate, TimePoint now);

// The same for a CA and its chain, each sentence with the subject that it is about; also a chain without its root.
std::vector<std::string> authority_problems(const Authority& authority, TimePoint now);

}  // namespace sallyport::ca
