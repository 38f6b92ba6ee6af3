#include "proxy/http1/websocket_endpoint.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/limits.h"
#include "base/random.h"

namespace sallyport::http1 {
namespace {

// Masks have to be unpredictable (RFC 6455 section 5.3), and asking the kernel for each would cost more than the rest.
// Nothing without randomness: then nothing is sent.
std::optional<FrameMask> new_mask() {
  constexpr std::size_t kMasks = 64;
  thread_local std::array<unsigned char, kMasks * sizeof(FrameMask)> spare;
  thread_local std::size_t used = spare.size();
  if (used == spare.size()) {
    if (!random_bytes(spare)) return std::nullopt;
    used = 0;
  }
  FrameMask mask;
  std::memcpy(mask.data(), spare.data() + used, mask.size());
  used += mask.size();
  return mask;
}

constexpr std::uint16_t kNoCode = 1005, kGoingAway = 1001;
constexpr std::size_t kReasonBytesMax = 123;  // of a close frame, besides its code

std::string words(const MessageReader::Next& close) {
  std::string text = "it closed the WebSocket with " + std::to_string(close.close_code);
  // A peer's bytes go into logs and onto terminals.
  std::string reason;
  for (const char c : close.payload) reason += c >= ' ' && c < 0x7F ? c : '?';
  if (!reason.empty()) text += ": " + reason;
  return text;
}

}  // namespace

WebSocketEndpoint::WebSocketEndpoint(net::Stream& stream, FrameSender self, std::size_t message_bytes_max,
                                     std::string_view already_read)
    : stream_(stream),
      self_(self),
      reader_(self == FrameSender::client ? FrameSender::server : FrameSender::client, message_bytes_max),
      to_write_(stream.loop()),
      room_(stream.loop()) {
  room_.set();
  while (!already_read.empty()) {
    const std::span<char> space = buffer_.space();
    if (space.empty() && !buffer_.grow(limits::kHeadBytesMax)) break;  // heads are no longer than that
    const std::size_t count = already_read.copy(space.data(), space.size());
    buffer_.filled(count);
    already_read.remove_prefix(count);
  }
}

Result<std::optional<std::string_view>> WebSocketEndpoint::tell(const MessageReader::Next& next) {
  switch (next.what) {
    case MessageReader::What::message:
      return std::optional(next.payload);
    case MessageReader::What::ping:
      queue_control(Opcode::pong, next.payload);
      break;
    case MessageReader::What::more:
    case MessageReader::What::pong:
      break;
    case MessageReader::What::closed: {
      Error error{stream_.source(), ErrorKind::closed, words(next)};
      close(next.close_code == kNoCode ? kGoingAway : next.close_code, {});
      return std::unexpected(std::move(error));
    }
    case MessageReader::What::broken:
      close(next.close_code, next.payload);
      return fail(stream_.source(), ErrorKind::malformed, "it broke RFC 6455: " + std::string(next.payload));
  }
  return std::nullopt;
}

Result<std::optional<std::string_view>> WebSocketEndpoint::try_receive() {
  std::size_t read = 0, told = 0;
  for (;;) {
    const std::string_view unread = buffer_.unread();
    const MessageReader::Next next = reader_.next({const_cast<char*>(unread.data()), unread.size()});
    buffer_.consume(next.consumed);
    if (next.what != MessageReader::What::more) {
      auto result = tell(next);
      if (!result || *result) return result;
      // Control frames alone never end by themselves.
      turn_over_ = ++told >= limits::kLinkMessagesPerTurn;
      if (turn_over_) return std::nullopt;
      continue;
    }
    turn_over_ = read >= limits::kFairnessBytes;
    if (turn_over_) return std::nullopt;
    buffer_.compact();
    const std::optional<Result<std::size_t>> got = stream_.try_read(buffer_.space());
    if (!got) {
      if (buffer_.empty()) buffer_.release();
      return std::nullopt;
    }
    if (!*got) return std::unexpected(got->error());
    if (**got == 0) return fail(stream_.source(), ErrorKind::closed, "it ended the connection without a close frame");
    heard_ = true;
    read += **got;
    buffer_.filled(**got);
  }
}

net::Task<net::Wait> WebSocketEndpoint::wait_readable(net::Deadline deadline) {
  if (turn_over_) {
    co_await stream_.loop().yield();
    co_return net::Wait::ready;
  }
  const net::Wait wait = co_await stream_.wait_readable(deadline);
  co_return wait;
}

void WebSocketEndpoint::count(std::size_t bytes) {
  queued_ += bytes;
  if (queued_ > limits::kLinkQueuedBytesPause) room_.reset();
  if (!to_write_.is_set()) to_write_.set();
}

// Null if nothing may be sent any more.
char* WebSocketEndpoint::begin_frame(Opcode opcode, std::size_t size) {
  if (closing_) return nullptr;
  const FrameMask* mask = nullptr;
  if (self_ == FrameSender::client) {
    const std::optional<FrameMask> fresh = new_mask();
    if (!fresh) {  // fails closed: a client may not send without
      stream_.abort();
      return nullptr;
    }
    mask_ = *fresh;
    mask = &mask_;
  }
  if (pieces_.empty() || pieces_.back().shared) pieces_.emplace_back();
  std::string& out = pieces_.back().own;
  const std::size_t before = out.size();
  append_frame_header(out, opcode, size, mask);
  out.resize(out.size() + size);
  count(out.size() - before);
  return out.data() + out.size() - size;
}

void WebSocketEndpoint::end_frame(std::size_t size) {
  if (self_ != FrameSender::client) return;
  std::string& out = pieces_.back().own;
  apply_mask(std::span(out).last(size), mask_);
}

void WebSocketEndpoint::queue_control(Opcode opcode, std::string_view payload) {
  char* to = begin_frame(opcode, payload.size());
  if (to == nullptr) return;
  payload.copy(to, payload.size());
  end_frame(payload.size());
}

void WebSocketEndpoint::queue_shared(std::shared_ptr<const std::string> frame) {
  if (closing_) return;
  const std::size_t bytes = frame->size();
  pieces_.push_back({.own = {}, .shared = std::move(frame)});
  count(bytes);
}

std::string WebSocketEndpoint::frame(std::string_view message) {
  std::string out;
  append_frame_header(out, Opcode::binary, message.size(), nullptr);
  out += message;
  return out;
}

void WebSocketEndpoint::ping() { queue_control(Opcode::ping, {}); }

void WebSocketEndpoint::close(std::uint16_t code, std::string_view reason) {
  std::string payload;
  payload += static_cast<char>(code >> 8);
  payload += static_cast<char>(code & 0xFF);
  payload += reason.substr(0, kReasonBytesMax);
  queue_control(Opcode::close, payload);
  closing_ = true;
  if (!to_write_.is_set()) to_write_.set();
}

net::Task<Result<void>> WebSocketEndpoint::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, limits::kLinkWritePieceBytes);
    const net::Deadline deadline = net::Clock::now() + limits::kLinkWriteTimeout;
    Result<void> written = co_await stream_.write_all(piece, deadline);
    if (!written) co_return written;
    bytes.remove_prefix(piece.size());
  }
  co_return Result<void>{};
}

net::Task<Result<void>> WebSocketEndpoint::write_queued() {
  for (;;) {
    if (pieces_.empty()) {
      if (closing_) {
        stream_.shutdown_write();
        co_return Result<void>{};
      }
      to_write_.reset();
      co_await to_write_.wait(net::kNoDeadline);  // a link with nothing to send is a healthy one
      continue;
    }
    const std::vector<Piece> batch = std::exchange(pieces_, {});
    for (const Piece& piece : batch) {
      const std::string_view bytes = piece.shared ? std::string_view(*piece.shared) : std::string_view(piece.own);
      Result<void> written = co_await write(bytes);
      if (!written) {
        stream_.cancel();
        room_.set();  // for who waits there and would never be woken
        co_return written;
      }
      queued_ -= bytes.size();
    }
    if (queued_ <= limits::kLinkQueuedBytesPause) room_.set();
  }
}

net::Task<void> WebSocketEndpoint::read_away(net::Deadline deadline) {
  buffer_.release();
  for (;;) {
    const net::Wait wait = co_await stream_.wait_readable(deadline);
    if (wait != net::Wait::ready) co_return;
    const std::optional<Result<std::size_t>> got = stream_.try_read(buffer_.space());
    buffer_.release();
    if (got && (!*got || **got == 0)) co_return;
    co_await stream_.loop().yield();
  }
}

}  // namespace sallyport::http1
