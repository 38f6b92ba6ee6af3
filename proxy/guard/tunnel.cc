#include "proxy/guard/tunnel.h"

#include "base/limits.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/read_buffer.h"

namespace sallyport::guard {
namespace {

struct Direction {
  net::Stream& from;
  net::Stream& to;
  std::string_view early;
  std::uint64_t& bytes;
  net::Deadline& last_moved;  // of both directions
  Result<void> result;
};

// Waits until there is something to read, holding no buffer. A direction may rest as long as the other one moves.
net::Task<Result<void>> wait_for_bytes(Direction& direction) {
  net::Loop& loop = direction.from.loop();
  while (true) {
    net::Deadline idle_until = direction.last_moved + limits::kTunnelIdleTimeout;
    net::Wait wait = co_await direction.from.wait_readable(idle_until);
    if (wait == net::Wait::ready) co_return Result<void>();
    if (wait == net::Wait::cancelled)
      co_return fail(direction.from.source(), ErrorKind::cancelled, "the tunnel was closed");
    if (direction.last_moved + limits::kTunnelIdleTimeout <= loop.now()) {
      co_return fail(direction.from.source(), ErrorKind::timeout, "the tunnel was idle too long");
    }
  }
}

// One piece. False at the end of the stream; an end without close_notify is one too, as what is inside has its own
// framing.
net::Task<Result<bool>> move_some(Direction& direction) {
  Result<void> waited = co_await wait_for_bytes(direction);
  if (!waited) co_return std::unexpected(waited.error());
  net::Deadline deadline = direction.from.loop().in(limits::kTunnelIdleTimeout);
  net::ReadBuffer buffer;
  Result<std::size_t> read = co_await direction.from.read_some(buffer.space(), deadline);
  if (!read && read.error().kind == ErrorKind::closed) co_return false;
  if (!read) co_return std::unexpected(read.error());
  if (*read == 0) co_return false;
  buffer.filled(*read);
  Result<void> written = co_await direction.to.write_all(buffer.unread(), deadline);
  if (!written) co_return std::unexpected(written.error());
  direction.bytes += *read;
  direction.last_moved = direction.from.loop().now();
  co_return true;
}

net::Task<void> pump(Direction& direction) {
  net::Stream& to = direction.to;
  if (!direction.early.empty()) {
    direction.result = co_await to.write_all(direction.early, to.loop().in(limits::kTunnelIdleTimeout));
    direction.bytes += direction.early.size();
  }
  std::uint64_t turn_ends = direction.bytes + limits::kFairnessBytes;
  while (direction.result) {
    Result<bool> moved = co_await move_some(direction);
    if (!moved) {
      direction.result = std::unexpected(moved.error());
    } else if (!*moved) {
      to.shutdown_write();
      co_return;
    }
    if (direction.bytes >= turn_ends) {
      turn_ends = direction.bytes + limits::kFairnessBytes;
      co_await to.loop().yield();
    }
  }
  // One direction failed: what the other still carries has lost its context, so both end.
  direction.from.cancel();
  to.cancel();
}

}  // namespace

net::Task<Result<void>> tunnel(net::Stream& function, net::Stream& upstream, std::string_view early_up,
                               std::string_view early_down, TunnelBytes& bytes) {
  net::Deadline last_moved = function.loop().now();
  Direction up{function, upstream, early_up, bytes.up, last_moved, {}};
  Direction down{upstream, function, early_down, bytes.down, last_moved, {}};
  net::Concurrent uplink(function.loop());
  uplink.start(pump(up));
  co_await pump(down);
  // Ends by itself: by its own end, or by the cancelling of the other direction, or by the idle limit.
  co_await uplink.join(net::kNoDeadline);
  uplink.rethrow();
  // The direction that failed for a cause of its own says why; "cancelled" is only the echo of the other.
  if (!up.result && up.result.error().kind != ErrorKind::cancelled) co_return up.result;
  if (!down.result) co_return down.result;
  co_return up.result;
}

}  // namespace sallyport::guard
