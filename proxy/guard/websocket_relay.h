#pragma once
// A WebSocket after its handshake, over HTTP/1 or HTTP/2 on either side, relayed frame by frame in both directions.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "proxy/guard/tunnel.h"
#include "proxy/http1/websocket_frames.h"
#include "proxy/net/byte_stream.h"

namespace sallyport::guard {

struct WebSocketTerms {
  bool deflate = false;  // permessage-deflate was agreed on
  std::uint64_t message_bytes_max = 0;
};

struct WebSocketEnd {
  Result<void> moved;                         // an error if a side failed, or nothing moved for too long
  std::optional<http1::FrameProblem> broken;  // somebody broke the protocol or the size
  http1::FrameSender broken_by = http1::FrameSender::client;
  bool function_was_told = false;  // its side has ended in order; else its last frame may be half there
  std::string text;                // how it was closed, where that is worth saying
};

// Ends when both directions have, when one fails, or when a frame may not go on: then both sides get a close frame with
// the code, where one can stand, and their end. What follows a close frame is read away, and neither sent on nor judged
// (RFC 6455 section 5.5.1); when both have passed, or the guard has sent its own, the sides have limits::kLingerTimeout
// to end, too. The bytes count as those of a tunnel do.
net::Task<WebSocketEnd> relay_websocket(net::ByteStream& function, net::ByteStream& upstream, std::string_view early_up,
                                        std::string_view early_down, WebSocketTerms terms, TunnelBytes& bytes);

}  // namespace sallyport::guard
