#pragma once
// Requests over HTTP/2, as many at once as are asked for, on one connection. Each answer is looked at: its status, the
// length of its body and, with gRPC, its trailer grpc-status. One that is not as it should be ends the measurement.

#include <string>

#include "load/generator/client.h"
#include "load/generator/figures.h"

namespace sallyport::load {

struct Http2Load {
  std::string path;
  std::size_t streams = 1;   // under way at a time: a closed loop
  std::size_t requests = 1;  // in all
  bool grpc = false;         // unary calls with a message of `message_bytes`, which comes back; else GETs
  std::size_t message_bytes = 0;
};

// `context` must offer HTTP/2.
Result<Figures> http2_requests(SSL_CTX* context, const Target& target, const Http2Load& load);

}  // namespace sallyport::load
