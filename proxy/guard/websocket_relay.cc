#include "proxy/guard/websocket_relay.h"

#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "base/limits.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/read_buffer.h"

namespace sallyport::guard {
namespace {

using http1::FrameChecker;
using http1::FrameSender;

struct Direction {
  net::ByteStream& from;
  net::ByteStream& to;
  FrameSender sender;
  FrameChecker checker;
  std::uint64_t& bytes;
  net::Deadline& last_moved;  // of both directions
  bool& ending;               // likewise: close frames of the guard's own are being sent, and nothing else any more
  net::ReadBuffer in = {};    // holds memory only while a header is in it half
  bool writing = false;
  Result<void> result = {};
  std::optional<http1::FrameProblem> problem = {};
  Direction* other = nullptr;
};

// A close frame of the guard's own: masked towards the server, for which it stands in the client's place.
std::string close_frame(FrameSender as, std::uint16_t code) {
  std::string frame = {static_cast<char>(0x88), static_cast<char>(as == FrameSender::client ? 0x82 : 0x02)};
  std::array<unsigned char, 4> mask{};
  if (as == FrameSender::client) {
    // Hides nothing, it only has to be there; a failing generator leaves zeros.
    RAND_bytes(mask.data(), static_cast<int>(mask.size()));
    for (const unsigned char byte : mask) frame += static_cast<char>(byte);
  }
  frame += static_cast<char>((code >> 8) ^ mask[0]);
  frame += static_cast<char>((code & 0xFF) ^ mask[1]);
  return frame;
}

net::Task<Result<void>> wait_for_bytes(Direction& direction) {
  net::Loop& loop = direction.from.loop();
  while (true) {
    const net::Wait wait = co_await direction.from.wait_readable(direction.last_moved + limits::kTunnelIdleTimeout);
    if (wait == net::Wait::ready) co_return Result<void>();
    if (wait == net::Wait::cancelled) {
      co_return fail(direction.from.source(), ErrorKind::cancelled, "the WebSocket was closed");
    }
    if (direction.last_moved + limits::kTunnelIdleTimeout <= loop.now()) {
      co_return fail(direction.from.source(), ErrorKind::timeout, "the WebSocket was idle too long");
    }
  }
}

// Sends on what may go on of `bytes`; returns how much that was.
net::Task<Result<std::size_t>> pass(Direction& direction, std::string_view bytes) {
  if (direction.ending) co_return fail(direction.from.source(), ErrorKind::cancelled, "the WebSocket was closed");
  const FrameChecker::Checked checked = direction.checker.check(bytes);
  direction.problem = checked.problem;
  if (checked.bytes > 0) {
    direction.writing = true;
    const net::Deadline deadline = direction.to.loop().in(limits::kTunnelIdleTimeout);
    Result<void> written = co_await direction.to.write_all(bytes.substr(0, checked.bytes), deadline);
    direction.writing = false;
    if (!written) co_return std::unexpected(written.error());
    direction.bytes += checked.bytes;
    direction.last_moved = direction.from.loop().now();
  }
  co_return checked.bytes;
}

// One piece. False at the end of the stream, or of what may pass.
net::Task<Result<bool>> move_some(Direction& direction) {
  Result<void> waited = co_await wait_for_bytes(direction);
  if (!waited) co_return std::unexpected(waited.error());
  direction.in.compact();
  const net::Deadline deadline = direction.from.loop().in(limits::kTunnelIdleTimeout);
  Result<std::size_t> read = co_await direction.from.read_some(direction.in.space(), deadline);
  if (!read && read.error().kind == ErrorKind::closed) co_return false;
  if (!read) co_return std::unexpected(read.error());
  if (*read == 0) co_return false;
  direction.in.filled(*read);
  Result<std::size_t> passed = co_await pass(direction, direction.in.unread());
  if (!passed) co_return std::unexpected(passed.error());
  direction.in.consume(*passed);
  if (direction.in.empty()) direction.in.release();
  co_return !direction.problem;
}

// What was read behind the heads. Only part of a header can be left of it.
net::Task<Result<bool>> move_early(Direction& direction, std::string_view early) {
  if (early.empty()) co_return true;
  Result<std::size_t> passed = co_await pass(direction, early);
  if (!passed) co_return std::unexpected(passed.error());
  const std::string_view rest = early.substr(*passed);
  if (!direction.problem && !rest.empty()) {
    std::ranges::copy(rest, direction.in.space().begin());
    direction.in.filled(rest.size());
  }
  co_return !direction.problem;
}

// Tells both sides why it ends. The sender gets it only where no frame of the other one is half sent.
net::Task<void> close_both(Direction& direction) {
  Direction& other = *direction.other;
  direction.ending = true;
  const std::uint16_t code = direction.problem->close_code;
  const net::Deadline deadline = direction.to.loop().in(limits::kLingerIdleTimeout);
  // Nobody is left to tell when these fail.
  const std::string onward = close_frame(direction.sender, code);
  if (!direction.checker.closed()) {
    Result<void> told = co_await direction.to.write_all(onward, deadline);
    if (told) direction.to.shutdown_write();
  }
  if (other.writing || !other.checker.at_boundary() || other.checker.closed()) co_return;
  const std::string back = close_frame(other.sender, code);
  Result<void> told = co_await direction.from.write_all(back, deadline);
  if (told) direction.from.shutdown_write();
}

// One side failed: the other one is to see it in the same way. True when there is nothing to break off: a side that has
// ended in order takes nothing more, but what it said last is still on its way to the other.
bool break_off_other(Direction& direction, const Error& error) {
  const bool receiver = error.source == direction.to.source();
  if (error.kind == ErrorKind::reset) (receiver ? direction.from : direction.to).abort();
  return receiver && error.kind == ErrorKind::closed;
}

net::Task<void> pump(Direction& direction, std::string_view early) {
  std::uint64_t turn_ends = direction.bytes + limits::kFairnessBytes;
  Result<bool> moved = co_await move_early(direction, early);
  while (moved && *moved) {
    moved = co_await move_some(direction);
    if (direction.bytes < turn_ends) continue;
    turn_ends = direction.bytes + limits::kFairnessBytes;
    co_await direction.to.loop().yield();
  }
  if (!moved && break_off_other(direction, moved.error())) co_return;
  if (!moved) direction.result = std::unexpected(moved.error());
  if (moved && !direction.problem) {
    direction.to.shutdown_write();
    co_return;
  }
  if (direction.problem && !direction.ending) co_await close_both(direction);
  // Nothing that either side still sends can be understood, or sent on: both end.
  direction.from.cancel();
  direction.to.cancel();
}

void say_how_it_was_closed(const Direction& direction, WebSocketEnd& end) {
  const char* who = direction.sender == FrameSender::client ? "the function" : "the server";
  const std::optional<std::uint16_t> code = direction.checker.closed();
  if (!end.text.empty() || (code && (*code == 1000 || *code == 1001 || *code == 1005))) return;
  end.text = code ? std::string(who) + " closed the WebSocket with code " + std::to_string(*code) : std::string();
}

}  // namespace

net::Task<WebSocketEnd> relay_websocket(net::ByteStream& function, net::ByteStream& upstream, std::string_view early_up,
                                        std::string_view early_down, WebSocketTerms terms, TunnelBytes& bytes) {
  net::Deadline last_moved = function.loop().now();
  bool ending = false;
  const auto checker = [&](FrameSender sender) { return FrameChecker(sender, terms.deflate, terms.message_bytes_max); };
  Direction up{.from = function,
               .to = upstream,
               .sender = FrameSender::client,
               .checker = checker(FrameSender::client),
               .bytes = bytes.up,
               .last_moved = last_moved,
               .ending = ending};
  Direction down{.from = upstream,
                 .to = function,
                 .sender = FrameSender::server,
                 .checker = checker(FrameSender::server),
                 .bytes = bytes.down,
                 .last_moved = last_moved,
                 .ending = ending,
                 .other = &up};
  up.other = &down;
  net::Concurrent uplink(function.loop());
  uplink.start(pump(up, early_up));
  co_await pump(down, early_down);
  // Ends by itself: by its own end, or by the cancelling of the other direction, or by the idle limit.
  co_await uplink.join(net::kNoDeadline);
  uplink.rethrow();
  WebSocketEnd end;
  for (Direction* direction : {&up, &down}) {
    if (direction->problem && !end.broken) {
      end.broken = direction->problem;
      end.broken_by = direction->sender;
    }
    // The direction that failed for a cause of its own says why; "cancelled" is only the echo of the other.
    if (!direction->result && (end.moved || end.moved.error().kind == ErrorKind::cancelled))
      end.moved = direction->result;
  }
  if (!end.broken) {
    say_how_it_was_closed(up, end);
    say_how_it_was_closed(down, end);
  }
  co_return end;
}

}  // namespace sallyport::guard
