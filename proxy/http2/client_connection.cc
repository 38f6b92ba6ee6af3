#include "proxy/http2/client_connection.h"

#include <array>

#include "base/limits.h"

namespace sallyport::http2 {

ClientConnection::ClientConnection(net::Stream& transport)
    : Connection(transport, Role::client),
      ends_at_(transport.loop().in(limits::kUpstreamLifetimeMax)),
      idle_since_(transport.loop().now()) {}

ClientConnection::~ClientConnection() = default;

net::Task<void> ClientConnection::run() {
  const std::array<nghttp2_settings_entry, 4> settings{{
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits::kH2StreamWindow},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits::kHeadBytesMax},
  }};
  co_await work({}, settings);
}

bool ClientConnection::usable() const {
  if (retired_ || lost_ || over() || loop().now() >= ends_at_) return false;
  const std::uint32_t theirs = nghttp2_session_get_remote_settings(session(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  return streams_.size() < std::min(theirs, limits::kH2StreamsMax) &&
         nghttp2_session_check_request_allowed(session()) != 0;
}

void ClientConnection::retire() {
  retired_ = true;
  if (streams_.empty() && !lost_) terminate(NGHTTP2_NO_ERROR, {});
}

void ClientConnection::leave(Stream& stream) {
  std::erase(streams_, &stream);
  idle_since_ = loop().now();
  if (streams_.empty() && (retired_ || loop().now() >= ends_at_) && !lost_) terminate(NGHTTP2_NO_ERROR, {});
}

net::Deadline ClientConnection::look_again() {
  if (in_header_block()) return block_began() + limits::kRequestHeadTimeout;
  if (streams_.empty()) return idle_since_ + limits::kUpstreamIdleTimeout;
  return loop().in(limits::kH2Look);
}

void ClientConnection::look() {
  if (loop().now() < look_again()) return;
  terminate(NGHTTP2_NO_ERROR, {});
}

void ClientConnection::lose_streams(const Error& error) {
  lost_ = true;
  for (Stream* stream : std::vector(streams_)) stream->fail_with(error);
}

}  // namespace sallyport::http2
