#include "proxy/http2/client_connection.h"

#include <array>

#include "base/limits.h"

namespace sallyport::http2 {

ClientConnection::ClientConnection(net::Stream& transport)
    : Connection(transport, Role::client),
      ends_at_(transport.loop().in(limits::kUpstreamLifetimeMax)),
      idle_since_(transport.loop().now()),
      settings_until_(transport.loop().in(limits::kH2SettingsTimeout)),
      settled_(transport.loop()) {}

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
  if (retired_ || lost_ || fitness_ != Fitness::good || over() || loop().now() >= ends_at_) return false;
  const std::uint32_t theirs = nghttp2_session_get_remote_settings(session(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  return streams_.size() < std::min(theirs, limits::kH2StreamsMax) &&
         nghttp2_session_check_request_allowed(session()) != 0;
}

bool ClientConnection::takes_websocket() const {
  return settings_came_ &&
         nghttp2_session_get_remote_settings(session(), NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

void ClientConnection::on_settings() {
  settings_came_ = true;
  settled_.set();
}

void ClientConnection::on_http1_required() { fitness_ = Fitness::http1_required; }

// A server that broke the rules is listened to no longer: who waits for it need not wait for the connection's end.
void ClientConnection::after_read() {
  if (!complaint().empty() && !lost_)
    lose_streams({ErrorSource::upstream, ErrorKind::closed, "the server broke the rules of HTTP/2: " + complaint()});
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
  if (!settings_came_) return settings_until_;
  if (in_header_block()) return block_began() + limits::kRequestHeadTimeout;
  if (streams_.empty()) return idle_since_ + limits::kUpstreamIdleTimeout;
  return loop().in(limits::kH2Look);
}

void ClientConnection::look() {
  if (lost_ || loop().now() < look_again()) return;
  if (!settings_came_) {
    terminate(NGHTTP2_SETTINGS_TIMEOUT, "no SETTINGS came");
    after_read();
  } else if (in_header_block()) {
    terminate(NGHTTP2_ENHANCE_YOUR_CALM, "a head did not arrive in time");
    after_read();
  } else if (streams_.empty()) {
    terminate(NGHTTP2_NO_ERROR, {});
  }
}

void ClientConnection::lose_streams(const Error& error) {
  lost_ = true;
  const bool misspoke = (!settings_came_ && !retired_) || !complaint().empty();
  if (misspoke && fitness_ == Fitness::good) fitness_ = Fitness::broken;
  settled_.set();
  for (Stream* stream : std::vector(streams_)) stream->fail_with(error);
}

}  // namespace sallyport::http2
