#pragma once
// The opening handshake of a WebSocket over HTTP/1.1 (RFC 6455 section 4), for the programs that are an end of it. No
// subprotocols, no extensions.

#include <string>
#include <string_view>

#include "base/error.h"
#include "proxy/net/read_buffer.h"
#include "proxy/net/stream.h"

namespace sallyport::http1 {

// The client's side. What came behind the head of the answer is left in the buffer. An answer that is no 101 is
// `refused`, with its status and the beginning of what it says.
net::Task<Result<void>> open_websocket(net::Stream& stream, net::ReadBuffer& buffer, std::string authority,
                                       std::string path, net::Deadline deadline);

// The server's side: waits for a request, and opens a WebSocket if it asks for one at `path`. Whatever else it is has
// been answered in plain text (400, 404, 426), and the connection is to be closed.
net::Task<Result<void>> accept_websocket(net::Stream& stream, net::ReadBuffer& buffer, std::string path,
                                         net::Deadline deadline);

}  // namespace sallyport::http1
