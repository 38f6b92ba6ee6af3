#include "proxy/http2/tunnel.h"

#include <algorithm>

#include "proxy/http2/connection.h"
#include "proxy/http2/stream.h"

namespace sallyport::http2 {

net::Loop& Tunnel::loop() { return stream_.connection_.loop(); }

ErrorSource Tunnel::source() const { return stream_.source_; }

net::Task<net::Wait> Tunnel::wait_readable(net::Deadline deadline) {
  if (rest_.empty()) stream_.give_back_window();
  while (true) {
    if (stream_.error_ && stream_.error_->kind == ErrorKind::cancelled) co_return net::Wait::cancelled;
    if (!rest_.empty() || !stream_.in_.empty() || stream_.remote_ended_ || stream_.error_) co_return net::Wait::ready;
    stream_.arrived_.reset();
    const net::Wait wait = co_await stream_.arrived_.wait(deadline);
    if (wait != net::Wait::ready) co_return wait;
  }
}

net::Task<Result<std::size_t>> Tunnel::read_some(std::span<char> buffer, net::Deadline deadline) {
  if (rest_.empty()) {
    Result<http::Chunk> chunk = co_await stream_.receive(deadline);
    if (!chunk) {
      // Only END_STREAM is an end: what the connection's took with it was broken off.
      Error error = chunk.error();
      if (error.kind == ErrorKind::closed) error.kind = ErrorKind::reset;
      co_return std::unexpected(std::move(error));
    }
    rest_ = chunk->data;
  }
  const std::size_t count = std::min(buffer.size(), rest_.size());
  std::ranges::copy(rest_.substr(0, count), buffer.begin());
  rest_.remove_prefix(count);
  co_return count;
}

net::Task<Result<void>> Tunnel::write_all(std::string_view bytes, net::Deadline deadline) {
  stream_.begin_send(bytes, false, nullptr);
  co_return co_await stream_.sent(deadline);
}

void Tunnel::shutdown_write() { stream_.begin_send({}, true, nullptr); }

void Tunnel::abort() {
  stream_.reset(NGHTTP2_CANCEL, {stream_.source_, ErrorKind::cancelled, "the other side was broken off"});
}

void Tunnel::cancel() { stream_.fail_with({stream_.source_, ErrorKind::cancelled, "given up by this program"}); }

}  // namespace sallyport::http2
