#pragma once
// Why an exchange or a connection ended the way it did. The text is stable: it is the value of the
// sallyport-denied header, of "reason" in records, and of a metric label, so the set is closed and small.

#include <string_view>

namespace sallyport {

enum class Reason {
  none,  // allowed, nothing to say
  // Decided by policy: 403.
  host_not_allowed,       // no endpoint has this host
  port_not_allowed,       // an endpoint has the host, on other ports or with another scheme
  method_not_allowed,     // no rule of the endpoint has this method for any path
  path_not_allowed,       // no rule of the endpoint has this method and path
  action_not_allowed,     // no rule of the endpoint has this method, path and action
  flow_not_allowed,       // out of order, too often, or not in the function's flow graph
  flow_incomplete,        // an execution ended where its flow graph has no end
  address_not_allowed,    // the name resolves to an address that the endpoint does not allow
  host_mismatch,          // SNI, Host and the request target do not name one destination
  opaque_not_allowed,     // neither TLS nor HTTP
  websocket_not_allowed,  // the endpoint has websocket: {allow: false}
  ech_not_allowed,        // an encrypted ClientHello on a connection that would be passed through
  foreign_credential,     // the function sent a credential of its own where the binding refuses that
  placeholder_misuse,     // a placeholder somewhere else than its binding says
  loop,                   // the guard's own listener as destination
  tag_invalid,            // a message bears a tag that proves nothing, or is an event that can bear none
  tag_mismatch,           // the answer of another function is not to what this one was asked
  caller_not_allowed,     // a message to the function from somebody whom `inbound` does not name
  rate_limited,           // more often than a limit of the policy says: 429
  // The function's bytes were wrong: 400, 413, 431, 501 or a closed connection.
  malformed_tls,
  malformed_http,
  malformed_websocket,  // a frame of the function breaks RFC 6455, or a message is too large
  malformed_target,     // host or path that cannot be made canonical
  malformed_action,     // the API's action could be read in more than one way, or cannot be read
  head_too_large,
  unsupported_method,  // CONNECT, and methods with small letters
  downstream_tls,      // the handshake with the function failed: usually it does not trust the CA
  downstream_closed,   // the function went away before the exchange was complete
  downstream_timeout,
  // The credential or the upstream failed: 502, 503, 504.
  credential_unavailable,
  unresolvable,
  unreachable,       // connecting failed
  upstream_expired,  // certificate reasons, each its own
  upstream_not_yet_valid,
  upstream_wrong_host,
  upstream_self_signed,
  upstream_untrusted,  // unknown or missing issuer
  upstream_revoked,
  upstream_weak_key,
  upstream_own_ca,       // issued by the CA of this guard
  upstream_certificate,  // any other certificate error
  upstream_tls,          // the handshake failed otherwise
  upstream_malformed,    // the response broke HTTP's rules
  upstream_closed,       // closed or reset before the response was complete
  upstream_timeout,
  upstream_failing,  // not tried: it could not be connected to several times in a row
  upstream_proxy,    // the proxy of `upstreamProxy` could not be reached, or would not connect
  overloaded,        // a cap was reached
  shutting_down,
  internal,
  // The controller's, or for want of it: 403, and 503.
  entry_refused,    // no execution may begin with this message to the function
  controller_lost,  // it had to be asked and has not answered, and without it the request is not let through
  policy_expired,   // it has been gone for longer than its policy may be used without it
};

// "host-not-allowed" and so on; never empty except for Reason::none ("").
std::string_view to_string(Reason reason);

// The HTTP status that tells a client of it: 403, 400, 429, 431, 501, 502, 503 or 504.
int http_status(Reason reason);

}  // namespace sallyport
