#pragma once
// Why a server's certificate was not good enough: the reason for records, and a sentence for people.

#include <openssl/types.h>

#include <string>
#include <string_view>

#include "proxy/net/upstream_tls.h"

namespace sallyport::net {

struct CertificateFailure {
  int error = 0;                // X509_V_ERR_…
  int depth = 0;                // 0: the server's own certificate
  X509* certificate = nullptr;  // the one that failed; may be null
  bool own_ca = false;          // the guard's CA turned up in the chain
  std::string_view roots;       // where the trusted roots came from
};

UpstreamFailure explain_certificate(const CertificateFailure& failure, const TlsTarget& target);

}  // namespace sallyport::net
