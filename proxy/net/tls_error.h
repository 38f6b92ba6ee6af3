#pragma once
// From OpenSSL's error queue to a sentence for people.

#include <optional>
#include <string>

#include "base/error.h"

namespace sallyport::net {

struct TlsFailure {
  ErrorKind kind = ErrorKind::malformed;
  std::string text;          // "the peer sent the TLS alert 'unknown CA'"
  std::optional<int> alert;  // RFC 8446 section 6, when the peer sent one
};

// Reads and empties this thread's error queue. Call it at once after the call that failed.
TlsFailure take_tls_failure();

}  // namespace sallyport::net
