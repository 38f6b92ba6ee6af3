#include "base/reason.h"

namespace sallyport {

std::string_view to_string(Reason reason) {
  switch (reason) {
    case Reason::none:
      return "";
    case Reason::host_not_allowed:
      return "host-not-allowed";
    case Reason::port_not_allowed:
      return "port-not-allowed";
    case Reason::method_not_allowed:
      return "method-not-allowed";
    case Reason::path_not_allowed:
      return "path-not-allowed";
    case Reason::address_not_allowed:
      return "address-not-allowed";
    case Reason::host_mismatch:
      return "host-mismatch";
    case Reason::opaque_not_allowed:
      return "opaque-not-allowed";
    case Reason::ech_not_allowed:
      return "ech-not-allowed";
    case Reason::foreign_credential:
      return "foreign-credential";
    case Reason::placeholder_misuse:
      return "placeholder-misuse";
    case Reason::loop:
      return "loop";
    case Reason::malformed_tls:
      return "malformed-tls";
    case Reason::malformed_http:
      return "malformed-http";
    case Reason::malformed_target:
      return "malformed-target";
    case Reason::head_too_large:
      return "head-too-large";
    case Reason::unsupported_method:
      return "unsupported-method";
    case Reason::downstream_tls:
      return "downstream-tls";
    case Reason::downstream_closed:
      return "downstream-closed";
    case Reason::downstream_timeout:
      return "downstream-timeout";
    case Reason::credential_unavailable:
      return "credential-unavailable";
    case Reason::unresolvable:
      return "unresolvable";
    case Reason::unreachable:
      return "unreachable";
    case Reason::upstream_expired:
      return "upstream-expired";
    case Reason::upstream_not_yet_valid:
      return "upstream-not-yet-valid";
    case Reason::upstream_wrong_host:
      return "upstream-wrong-host";
    case Reason::upstream_self_signed:
      return "upstream-self-signed";
    case Reason::upstream_untrusted:
      return "upstream-untrusted";
    case Reason::upstream_revoked:
      return "upstream-revoked";
    case Reason::upstream_weak_key:
      return "upstream-weak-key";
    case Reason::upstream_own_ca:
      return "upstream-own-ca";
    case Reason::upstream_certificate:
      return "upstream-certificate";
    case Reason::upstream_tls:
      return "upstream-tls";
    case Reason::upstream_malformed:
      return "upstream-malformed";
    case Reason::upstream_closed:
      return "upstream-closed";
    case Reason::upstream_timeout:
      return "upstream-timeout";
    case Reason::upstream_proxy:
      return "upstream-proxy";
    case Reason::overloaded:
      return "overloaded";
    case Reason::shutting_down:
      return "shutting-down";
    case Reason::internal:
      return "internal";
  }
  return "internal";
}

int http_status(Reason reason) {
  switch (reason) {
    case Reason::none:
      return 200;
    case Reason::host_not_allowed:
    case Reason::port_not_allowed:
    case Reason::method_not_allowed:
    case Reason::path_not_allowed:
    case Reason::address_not_allowed:
    case Reason::host_mismatch:
    case Reason::opaque_not_allowed:
    case Reason::ech_not_allowed:
    case Reason::foreign_credential:
    case Reason::placeholder_misuse:
    case Reason::loop:
      return 403;
    case Reason::malformed_tls:
    case Reason::malformed_http:
    case Reason::malformed_target:
    case Reason::downstream_tls:
    case Reason::downstream_closed:
      return 400;
    case Reason::downstream_timeout:
      return 408;
    case Reason::head_too_large:
      return 431;
    case Reason::unsupported_method:
      return 501;
    case Reason::credential_unavailable:
    case Reason::unresolvable:
    case Reason::unreachable:
    case Reason::upstream_expired:
    case Reason::upstream_not_yet_valid:
    case Reason::upstream_wrong_host:
    case Reason::upstream_self_signed:
    case Reason::upstream_untrusted:
    case Reason::upstream_revoked:
    case Reason::upstream_weak_key:
    case Reason::upstream_own_ca:
    case Reason::upstream_certificate:
    case Reason::upstream_tls:
    case Reason::upstream_malformed:
    case Reason::upstream_closed:
    case Reason::upstream_proxy:
      return 502;
    case Reason::upstream_timeout:
      return 504;
    case Reason::overloaded:
    case Reason::shutting_down:
      return 503;
    case Reason::internal:
      return 500;
  }
  return 500;
}

}  // namespace sallyport
