#pragma once
// The key and its answer in the opening handshake of a WebSocket over HTTP/1 (RFC 6455 sections 4.1 and 4.2.2). Over
// HTTP/2 there is neither (RFC 8441 section 5): each side of the guard has its own.

#include <string>
#include <string_view>

namespace sallyport::http1 {

// What a Sec-WebSocket-Key has to be: 16 bytes in base64.
bool is_websocket_key(std::string_view key);
// The Sec-WebSocket-Accept that belongs to the key; empty if it can't be computed.
std::string websocket_accept(std::string_view key);
// A key of the guard's own; empty if there is no randomness: nothing is asked then.
std::string new_websocket_key();

}  // namespace sallyport::http1
