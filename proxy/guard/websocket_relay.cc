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

// Of both directions.
struct Relay {
  net::Deadline last_moved;
  // Set once nothing new can be said. What the sides had sent before they knew is read away until they end, too: a
  // connection that is closed with something unread is reset, and the reset overtakes the last words.
  std::optional<net::Deadline> over_by = {};
  // Of the guard's own close frames: no frame begins any more, but those that do.
  std::optional<std::uint16_t> close_code = {};
};

struct Direction {
  net::ByteStream& from;
  net::ByteStream& to;
  FrameSender sender;
  FrameChecker checker;
  std::uint64_t& bytes;
  Relay& relay;
  net::Event read_to_the_end;
  net::ReadBuffer in = {};  // holds memory only while a header is in it half
  bool writing = false;
  bool said_all = false;  // the close frame has passed, or the receiver takes no more: what still comes is read away
  bool ended = false;     // the receiver was told the end, or is being told
  std::uint64_t received = 0, read_away = 0;
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

net::Deadline idle_until(const Relay& relay, net::Loop& loop) {
  if (!relay.over_by) return relay.last_moved + limits::kTunnelIdleTimeout;
  return std::min(*relay.over_by, loop.in(limits::kLingerIdleTimeout));
}

void set_over(Direction& direction) {
  Relay& relay = direction.relay;
  if (!relay.over_by) relay.over_by = direction.from.loop().in(limits::kLingerTimeout);
}

net::Task<Result<void>> wait_for_bytes(Direction& direction) {
  net::Loop& loop = direction.from.loop();
  while (true) {
    const net::Deadline until = idle_until(direction.relay, loop);
    const net::Wait wait = co_await direction.from.wait_readable(until);
    if (wait == net::Wait::ready) co_return Result<void>();
    if (wait == net::Wait::cancelled) {
      co_return fail(direction.from.source(), ErrorKind::cancelled, "the WebSocket was closed");
    }
    // What has moved meanwhile in the other direction counts.
    if (direction.relay.over_by || idle_until(direction.relay, loop) <= loop.now()) {
      co_return fail(direction.from.source(), ErrorKind::timeout, "the WebSocket was idle too long");
    }
  }
}

// An orderly end, once. Half a frame has none: it must not look as if it had been meant.
void end(Direction& direction) {
  if (direction.ended || (direction.relay.close_code && !direction.said_all)) return;
  direction.ended = true;
  direction.to.shutdown_write();
}

// The guard's own close frame, unless the sender's has passed, and the end.
net::Task<void> tell(Direction& direction, std::uint16_t code) {
  const bool closed = direction.said_all;
  direction.said_all = true;
  if (closed || direction.ended) {
    end(direction);
    co_return;
  }
  direction.ended = true;
  const std::string frame = close_frame(direction.sender, code);
  Result<void> told = co_await direction.to.write_all(frame, direction.to.loop().in(limits::kLingerIdleTimeout));
  if (told) direction.to.shutdown_write();  // nobody is left to tell when it fails
}

// Tells both sides why it ends: the receiver of what broke the rules, and its sender as soon as no frame of the other
// one is half sent, which that direction sees to when there is one.
net::Task<void> close_both(Direction& direction, std::uint16_t code) {
  Direction& other = *direction.other;
  direction.relay.close_code = code;
  set_over(direction);
  co_await tell(direction, code);
  if (!other.writing && other.checker.at_boundary()) co_await tell(other, code);
}

// Of a side that failed: is it one that had said everything, in the direction `said`? Once a close frame has passed it
// does not matter how its sender goes: the other side is to read that frame.
bool has_gone_in_order(const Direction& direction, const Direction& said, const Error& error) {
  if (direction.relay.over_by || error.kind == ErrorKind::closed) return true;
  return error.kind == ErrorKind::reset && said.said_all;
}

// What may go on.
net::Task<Result<void>> write(Direction& direction, std::string_view bytes) {
  const bool over = direction.relay.over_by.has_value();
  const auto limit = over ? limits::kLingerTimeout : limits::kTunnelIdleTimeout;
  direction.writing = true;
  Result<void> written = co_await direction.to.write_all(bytes, direction.to.loop().in(limit));
  direction.writing = false;
  if (!written && has_gone_in_order(direction, *direction.other, written.error())) {
    // It takes nothing more, but what it said last is still on its way to the other.
    set_over(direction);
    direction.said_all = direction.ended = true;
    co_return Result<void>();
  }
  if (!written) co_return written;
  direction.bytes += bytes.size();
  direction.relay.last_moved = direction.from.loop().now();
  co_return Result<void>();
}

// Sends on what may go on of `bytes`; returns how much is done with: the rest comes again with more.
net::Task<Result<std::size_t>> pass(Direction& direction, std::string_view bytes) {
  std::size_t passes = 0;
  if (!direction.said_all) {
    FrameChecker::Checked checked;
    if (direction.relay.close_code) {
      checked.bytes = direction.checker.finish_frame(bytes);
    } else {
      checked = direction.checker.check(bytes);
    }
    direction.problem = checked.problem;
    passes = checked.bytes;
  }
  if (passes > 0) {
    Result<void> written = co_await write(direction, bytes.substr(0, passes));
    if (!written) co_return std::unexpected(written.error());
  }
  if (direction.checker.closed()) direction.said_all = true;
  if (direction.relay.close_code) {
    if (direction.checker.at_boundary()) co_await tell(direction, *direction.relay.close_code);
  } else if (direction.problem) {
    co_await close_both(direction, direction.problem->close_code);
  }
  if (direction.said_all && direction.other->said_all) set_over(direction);
  if (!direction.said_all) co_return passes;
  direction.read_away += bytes.size() - passes;
  co_return bytes.size();
}

// One piece. False at the end of the stream, or of the patience with what is only read away.
net::Task<Result<bool>> move_some(Direction& direction) {
  Result<void> waited = co_await wait_for_bytes(direction);
  if (!waited) co_return std::unexpected(waited.error());
  direction.in.compact();
  const net::Deadline deadline = idle_until(direction.relay, direction.from.loop());
  Result<std::size_t> read = co_await direction.from.read_some(direction.in.space(), deadline);
  if (!read && read.error().kind == ErrorKind::closed) co_return false;
  if (!read) co_return std::unexpected(read.error());
  if (*read == 0) co_return false;
  direction.in.filled(*read);
  direction.received += *read;
  Result<std::size_t> passed = co_await pass(direction, direction.in.unread());
  if (!passed) co_return std::unexpected(passed.error());
  direction.in.consume(*passed);
  if (direction.in.empty()) direction.in.release();
  if (direction.read_away <= limits::kLingerBytesMax) co_return true;
  co_return fail(direction.from.source(), ErrorKind::limit, "too much follows the close frame of the WebSocket");
}

// What was read behind the heads. Only part of a header can be left of it.
net::Task<Result<bool>> move_early(Direction& direction, std::string_view early) {
  if (early.empty()) co_return true;
  Result<std::size_t> passed = co_await pass(direction, early);
  if (!passed) co_return std::unexpected(passed.error());
  const std::string_view rest = early.substr(*passed);
  if (!rest.empty()) {
    std::ranges::copy(rest, direction.in.space().begin());
    direction.in.filled(rest.size());
  }
  co_return true;
}

// The other direction may be waiting since before it was over: it gets as long as one that knows.
net::Task<void> let_other_end(Direction& direction) {
  Direction& other = *direction.other;
  net::Loop& loop = direction.from.loop();
  while (!other.read_to_the_end.is_set()) {
    const std::uint64_t before = other.received;
    const net::Wait wait = co_await other.read_to_the_end.wait(idle_until(direction.relay, loop));
    if (wait == net::Wait::ready) co_return;
    if (other.received != before && *direction.relay.over_by > loop.now()) continue;
    direction.from.cancel();
    direction.to.cancel();
    co_return;
  }
}

// One side failed: the other one is to see it in the same way, and nothing goes on.
void break_off(Direction& direction, const Error& error) {
  direction.result = std::unexpected(error);
  const bool receiver = error.source == direction.to.source();
  if (error.kind == ErrorKind::reset) (receiver ? direction.from : direction.to).abort();
  direction.from.cancel();
  direction.to.cancel();
}

net::Task<void> pump(Direction& direction, std::string_view early) {
  std::uint64_t turn_ends = limits::kFairnessBytes;
  Result<bool> moved = co_await move_early(direction, early);
  while (moved && *moved) {
    moved = co_await move_some(direction);
    if (direction.received < turn_ends) continue;
    turn_ends = direction.received + limits::kFairnessBytes;
    co_await direction.to.loop().yield();
  }
  direction.read_to_the_end.set();
  if (!moved && !has_gone_in_order(direction, direction, moved.error())) {
    break_off(direction, moved.error());
    co_return;
  }
  end(direction);
  // A WebSocket is not used in one direction alone, whether a close frame has passed or not.
  set_over(direction);
  co_await let_other_end(direction);
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
  Relay relay{.last_moved = function.loop().now()};
  const auto checker = [&](FrameSender sender) { return FrameChecker(sender, terms.deflate, terms.message_bytes_max); };
  Direction up{.from = function,
               .to = upstream,
               .sender = FrameSender::client,
               .checker = checker(FrameSender::client),
               .bytes = bytes.up,
               .relay = relay,
               .read_to_the_end = net::Event(function.loop())};
  Direction down{.from = upstream,
                 .to = function,
                 .sender = FrameSender::server,
                 .checker = checker(FrameSender::server),
                 .bytes = bytes.down,
                 .relay = relay,
                 .read_to_the_end = net::Event(function.loop()),
                 .other = &up};
  up.other = &down;
  net::Concurrent uplink(function.loop());
  uplink.start(pump(up, early_up));
  co_await pump(down, early_down);
  // Ends by itself: by its own end, or by the cancelling of the other direction, or by the idle limit.
  co_await uplink.join(net::kNoDeadline);
  uplink.rethrow();
  WebSocketEnd end;
  end.function_was_told = down.ended;
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
