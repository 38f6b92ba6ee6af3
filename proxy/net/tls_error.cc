#include "proxy/net/tls_error.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

namespace sallyport::net {

namespace {

// OpenSSL turns a received alert N into the reason 1000 + N.
std::optional<int> received_alert(unsigned long code) {
  const int reason = ERR_GET_REASON(code);
  if (ERR_GET_LIB(code) != ERR_LIB_SSL || reason < SSL_AD_REASON_OFFSET || reason > SSL_AD_REASON_OFFSET + 255)
    return {};
  return reason - SSL_AD_REASON_OFFSET;
}

std::string text_of(unsigned long code) {
  if (code == 0) return "the TLS library gave no reason";
  if (const char* reason = ERR_reason_error_string(code)) return reason;
  return "TLS library error " + std::to_string(code);
}

}  // namespace

TlsFailure take_tls_failure() {
  // The first entry is the cause; what follows says which layers it passed through.
  const unsigned long first = ERR_get_error();
  TlsFailure failure;
  failure.alert = received_alert(first);
  for (unsigned long code; (code = ERR_get_error()) != 0;) {
    if (!failure.alert) failure.alert = received_alert(code);
  }
  if (failure.alert) {
    failure.kind = ErrorKind::refused;
    failure.text = std::string("the peer sent the TLS alert '") + SSL_alert_desc_string_long(*failure.alert) + "'";
    return failure;
  }
  if (ERR_GET_LIB(first) == ERR_LIB_SSL && ERR_GET_REASON(first) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    failure.kind = ErrorKind::unverified;
  }
  failure.text = text_of(first);
  return failure;
}

}  // namespace sallyport::net
