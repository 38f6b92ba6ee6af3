#include "proxy/http2/server_connection.h"

#include <algorithm>
#include <array>
#include <exception>

#include "base/limits.h"

namespace sallyport::http2 {

struct ServerConnection::Served {
  Served(ServerConnection& connection, request::Scheme scheme, std::int32_t id)
      : exchange(connection, scheme, id), stream_id(id), task(connection.loop()) {}
  ServerExchange exchange;
  std::int32_t stream_id;
  bool begun = false;  // its task has been started, or is about to be
  bool over = false;
  net::Concurrent task;  // last: its frame refers to the exchange
};

ServerConnection::ServerConnection(net::Stream& transport, request::Scheme scheme, Handlers handlers)
    : Connection(transport, Role::server),
      scheme_(scheme),
      handlers_(std::move(handlers)),
      idle_since_(transport.loop().now()) {}

ServerConnection::~ServerConnection() = default;

net::Task<void> ServerConnection::run(std::string_view early) {
  const std::array<nghttp2_settings_entry, 5> settings{{
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits::kH2StreamsMax},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits::kH2StreamWindow},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits::kHeadBytesMax},
      {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},  // for WebSocket (RFC 8441)
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  }};
  co_await work(early, settings);
  while (!served_.empty()) {
    // They have been told; a lookup or a connection attempt that one waits for has its own deadline.
    co_await served_.back()->task.join(loop().in(limits::kH2Look));
    reap();
  }
  if (thrown_) std::rethrow_exception(thrown_);
}

Stream* ServerConnection::on_new_stream(std::int32_t id) {
  asked_ = true;
  // nghttp2 holds the client to kH2StreamsMax streams. An exchange outlives its stream by the steps that end it, and
  // the client, who has its answer, may ask again meanwhile: so there are up to twice as many. Streams that are reset
  // while their exchanges wait for a server do not get past that.
  const bool room = served_.size() < 2 * limits::kH2StreamsMax && (served_.empty() || handlers_.admit());
  if (!room) {
    nghttp2_submit_rst_stream(session(), NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    return nullptr;
  }
  if (!std::exchange(busy_, true)) handlers_.on_busy(true);
  served_.push_back(std::make_unique<Served>(*this, scheme_, id));
  return &served_.back()->exchange;
}

void ServerConnection::begin(ServerExchange& exchange) {
  for (const auto& served : served_) {
    if (&served->exchange != &exchange || served->begun) continue;
    served->begun = true;
    beginning_.push_back(served.get());
  }
}

// A request that breaks the rules of HTTP/2 itself is not answered but reset; its record is made all the same.
void ServerConnection::on_complaint(std::int32_t id, std::string_view why) {
  for (const auto& served : served_) {
    if (served->stream_id != id || served->begun) continue;
    served->exchange.refuse(Reason::malformed_http, why);
    begin(served->exchange);
    return;
  }
}

void ServerConnection::after_read() {
  for (Served* served : std::exchange(beginning_, {})) served->task.start(serve(*served));
  if (finished_ > 0) wake_writer();
}

net::Task<void> ServerConnection::serve(Served& served) {
  try {
    co_await handlers_.serve(served.exchange);
  } catch (...) {
    // Out of memory, in all likelihood. Fails closed: the connection goes, and whoever runs it says why.
    thrown_ = std::current_exception();
    break_off();
  }
  served.exchange.leave();
  served.over = true;
  ++finished_;
  wake_writer();
}

// Not from within a served task.
void ServerConnection::reap() {
  std::erase_if(served_, [this](const auto& served) {
    const bool gone =
        served->begun ? served->over && !served->task.running() : served->exchange.closed() || served->exchange.error();
    if (gone && served->over) --finished_;
    return gone;
  });
  if (served_.empty() && busy_) {
    busy_ = false;
    idle_since_ = loop().now();
    handlers_.on_busy(false);
  }
}

net::Deadline ServerConnection::look_again() {
  if (in_header_block()) return block_began() + limits::kRequestHeadTimeout;
  if (served_.empty()) return idle_since_ + (asked_ ? limits::kKeepAliveTimeout : limits::kRequestHeadTimeout);
  return loop().in(limits::kH2Look);
}

void ServerConnection::look() {
  if (loop().now() < look_again()) return;
  if (in_header_block()) {
    terminate(NGHTTP2_ENHANCE_YOUR_CALM, "a request head did not arrive in time");
  } else if (served_.empty()) {
    terminate(NGHTTP2_NO_ERROR, {});
  }
}

void ServerConnection::lose_streams(const Error& error) {
  for (const auto& served : served_) {
    served->exchange.fail_with(error);
  }
  reap();
}

}  // namespace sallyport::http2
