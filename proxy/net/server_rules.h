#pragma once
// What a server's certificate and its chain must be: docs/certificates.md says it for people. The connections to
// upstream servers and the tests of the rules are set up by the same two functions.

#include <openssl/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "ca/openssl_ptr.h"
#include "policy-engine/request/address.h"

namespace sallyport::net {

// 112 bits: RSA 2048, EC 224, no SHA-1 or MD5 signatures in a chain.
inline constexpr int kServerSecurityLevel = 2;

// Who the server should be.
struct ServerRules {
  std::string_view host;                           // canonical; must not be empty
  std::optional<request::IpAddress> literal = {};  // set when the host is an IP address
  bool with_crl = false;  // the server's certificate must be covered by a CRL; the CAs are checked where there is one
};

// Sets purpose, strength, strictness and name. False when memory is short or there is no host: an empty name would
// switch the check of the name off.
bool set_rules(X509_VERIFY_PARAM* parameters, const ServerRules& rules);

// What a verification came to.
struct ChainVerdict {
  int error = 0;            // X509_V_ERR_…; 0 is X509_V_OK
  int depth = 0;            // of the certificate that failed; 0: the server's own
  ca::X509Ptr certificate;  // the one that failed; may be null
  bool own_ca = false;      // the guard's own CA turned up in what the server sent or in the chain built from it
  std::string complaint;    // what our own rules have against it, after "is not acceptable: "; empty: OpenSSL's text
  bool of_the_web = false;  // and that only because the chain ends in a root of the web

  bool good() const { return error == 0 && !own_ca; }
};

// Those of a store's certificates that the system's distributor chose (RootKind::web). The others were given.
using WebRoots = std::unordered_set<const X509*>;

// Instead of X509_verify_cert, which it calls. `verification` has its store, the server's certificates and the
// parameters of set_rules(). `own_ca` may be null. Changes the context's verify callback and its error.
ChainVerdict verify_server(X509_STORE_CTX* verification, const WebRoots& web_roots, X509* own_ca);

}  // namespace sallyport::net
