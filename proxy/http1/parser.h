#pragma once
// Heads of HTTP/1 messages (RFC 9112), strictly: what two parsers could read in two ways is refused, never repaired.
// One pass, no copies: the views of a head point into the input.
//
// Both functions are called again with the same bytes and more until they no longer return incomplete. `scanned` is
// theirs: 0 before the first call for a head, else what the last call left there. It keeps a client that sends byte by
// byte from costing more than a constant factor, and still finds wrong bytes long before the head is complete. How
// early an error is reported depends on how the input was cut; nothing else does.
//
// A head that is longer than limits::kHeadBytesMax, has more fields than limits::kHeaderCountMax, or a target longer
// than limits::kRequestTargetBytesMax is an error. After an error the connection cannot be used any more.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/reason.h"
#include "policy-engine/request/head.h"
#include "proxy/http1/framing.h"
#include "proxy/http1/syntax.h"

namespace sallyport::http1 {

struct ParseError {
  Reason reason = Reason::none;  // of a request: malformed_http, head_too_large, unsupported_method; of a response:
                                 // upstream_malformed
  std::string_view text;         // for a person; static
};

struct RequestInfo {
  std::size_t head_size = 0;  // bytes of the input that the head took, with the empty line, and with one CRLF before it
  int version_minor = 1;      // 0 or 1
  BodyKind body = BodyKind::none;
  std::uint64_t content_length = 0;  // with BodyKind::length
  bool keep_alive = true;
  bool expect_continue = false;  // the client may wait for a 100 before it sends the body. The field stays in the head
  bool upgrade_websocket =
      false;  // GET, HTTP/1.1, no content, "Connection: Upgrade", "Upgrade: websocket" and nothing else
  bool other_upgrade =
      false;  // any other Upgrade field. It is not in the head: left alone, the request goes on without
  bool accepts_trailers = false;  // "TE: trailers"
};

struct ResponseInfo {
  std::size_t head_size = 0;
  int version_minor = 1;
  BodyKind body = BodyKind::none;
  // What Content-Length said. With BodyKind::none (HEAD, 304) it tells of the body that a GET would have had.
  bool has_content_length = false;
  std::uint64_t content_length = 0;
  bool keep_alive = true;  // false also when the body ends with the connection, or when a 1xx or 204 announces content
  bool informational = false;      // 1xx but 101: the final response is still to come
  bool upgrade_websocket = false;  // 101 with "Connection: Upgrade" and "Upgrade: websocket"
};

// head.headers has the fields that go on: without Host (head.authority), Content-Length, Transfer-Encoding, Connection
// and the fields that it names, Keep-Alive, Proxy-Connection, Proxy-Authorization, Proxy-Authenticate, TE and Upgrade.
// Trailer stays: it is no longer a field of the connection (RFC 9110 section 6.6.2), and some servers read only
// announced trailers.
//
// Host must be there once on HTTP/1.1 and is not looked into: parse_authority() does. The target is in origin-form,
// absolute-form (which the caller compares with Host) or "*" (OPTIONS only).
Parse parse_request(std::string_view input, std::size_t& scanned, RequestInfo& info, request::RequestHead& head,
                    ParseError& error);

// The same for a CONNECT, the request that parse_request() refuses for its method: the target is in authority-form
// (RFC 9112 section 3.2.3) and is not looked into, and there is no content. Any other method is an error.
Parse parse_connect(std::string_view input, std::size_t& scanned, RequestInfo& info, request::RequestHead& head,
                    ParseError& error);

// `request_was_head`: the response to a HEAD has no body. The same fields are taken out as from requests.
Parse parse_response(std::string_view input, std::size_t& scanned, bool request_was_head, ResponseInfo& info,
                     request::ResponseHead& head, ParseError& error);

}  // namespace sallyport::http1
