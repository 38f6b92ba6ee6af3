#pragma once
// How a message of HTTP/1 ends, and what it says about its connection (RFC 9112 sections 6 and 9).

#include <cstdint>
#include <string_view>

namespace sallyport::http1 {

enum class BodyKind : std::uint8_t {
  none,
  length,  // exactly content_length bytes; 0 is a body, too: the sender said so
  chunked,
  until_close,  // responses only
};

// What the serialiser writes besides the fields of a head. A head that says nothing else is for an HTTP/1.1 peer that
// keeps the connection.
struct Framing {
  BodyKind body = BodyKind::none;
  std::uint64_t content_length = 0;
  bool keep_alive = true;                  // false: "Connection: close". until_close implies it
  bool keep_alive_spoken = false;          // "Connection: keep-alive", which an HTTP/1.0 client needs to hear
  bool upgrade_websocket = false;          // "Connection: Upgrade" and "Upgrade: websocket"; wins over keep_alive
  std::string_view websocket_key = {};     // with the upgrade of a request; empty: the head has one
  std::string_view websocket_accept = {};  // with that of a response; likewise
  bool te_trailers = false;                // requests only: "TE: trailers" and "Connection: TE"
};

}  // namespace sallyport::http1
