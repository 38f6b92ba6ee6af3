#pragma once
// Bytes both ways, unread: passed-through connections, and WebSocket after its 101.

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "proxy/net/stream.h"

namespace sallyport::guard {

struct TunnelBytes {
  std::uint64_t up = 0;    // from the function
  std::uint64_t down = 0;  // to the function
};

// Relays until both directions have ended, one has failed, or nothing moved for limits::kTunnelIdleTimeout. An end in
// one direction is passed on (half-close). `early_up` and `early_down` were read before and go first. The result is the
// first failure, if any; cancelling either stream ends it.
net::Task<Result<void>> tunnel(net::Stream& function, net::Stream& upstream, std::string_view early_up,
                               std::string_view early_down, TunnelBytes& bytes);

}  // namespace sallyport::guard
