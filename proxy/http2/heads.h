#pragma once
// Heads of HTTP/2 messages (RFC 9113 section 8), strictly, on top of what nghttp2 checks: what becomes a message of
// HTTP/1 must have one reading there, too. The same rules as in proxy/http1/parser.h, and the same results.

#include <cstdint>
#include <optional>

#include "policy-engine/request/head.h"
#include "proxy/http1/parser.h"
#include "proxy/http2/header_block.h"

namespace sallyport::http2 {

struct RequestInfo {
  std::optional<std::uint64_t> content_length;
  bool expect_continue = false;   // the field stays in the head
  bool accepts_trailers = false;  // "te: trailers"
  bool websocket = false;         // an extended CONNECT (RFC 8441); the head's method is GET, as it is in HTTP/1
};

struct ResponseInfo {
  std::optional<std::uint64_t> content_length;
};

// Fills `head` with views of the block; crumbs of cookies are joined (RFC 9113 section 8.2.3). False with `error` when
// the request is refused: a pseudo-header field that is missing, repeated, unknown or late, a scheme that is not the
// connection's, no authority, a Host that differs from :authority, a target that is no path (or "*" with OPTIONS), a
// method with small letters, CONNECT for anything but a
// WebSocket, a WebSocket with content, a name with capitals, whitespace around a value, a field that frames a message
// of HTTP/1 or belongs to one connection.
bool parse_request(const HeaderBlock& block, request::Scheme scheme, RequestInfo& info, request::RequestHead& head,
                   http1::ParseError& error);

// The same for a response, with the reason upstream_malformed.
bool parse_response(const HeaderBlock& block, ResponseInfo& info, request::ResponseHead& head,
                    http1::ParseError& error);

// Trailers: what frames or routes a message refuses them all, what means nothing behind a body is left out.
bool parse_trailers(const HeaderBlock& block, request::HeaderList& trailers, http1::ParseError& error);

}  // namespace sallyport::http2
