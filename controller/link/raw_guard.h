#pragma once
// For tests and for load: a guard's connection by hand, many of them on one loop. What a guard never does, it does.

#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>

#include "base/limits.h"
#include "controller/link/links.h"
#include "proxy/http1/websocket_endpoint.h"
#include "proxy/http1/websocket_opening.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/stream.h"

namespace sallyport::controller::testing {

inline UniqueFd begin_connecting(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // In progress; what comes of it the handshake finds out.
  [[maybe_unused]] const int begun = ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  return fd;
}

class RawGuard {
 public:
  RawGuard(net::Loop& loop, SSL_CTX* context, std::uint16_t port)
      : stream_(loop, begin_connecting(port), ErrorSource::controller), context_(context), writer_(loop) {}

  net::Stream& stream() { return stream_; }
  http1::WebSocketEndpoint& socket() { return *socket_; }

  // TLS alone.
  net::Task<Result<void>> secure(net::Deadline deadline) {
    const net::Wait connected = co_await stream_.socket().wait_writable(deadline);
    if (connected != net::Wait::ready) co_return fail(ErrorSource::controller, ErrorKind::timeout, "not connected");
    net::SslPtr ssl(SSL_new(context_));
    SSL_set_connect_state(ssl.get());
    Result<void> shaken = co_await stream_.handshake(std::move(ssl), {}, deadline);
    co_return shaken;
  }

  // And the WebSocket.
  net::Task<Result<void>> open(net::Deadline deadline) {
    Result<void> secured = co_await secure(deadline);
    if (!secured) co_return secured;
    net::ReadBuffer buffer;
    Result<void> opened =
        co_await http1::open_websocket(stream_, buffer, "controller.test", std::string(kLinkPath), deadline);
    if (!opened) co_return opened;
    socket_.emplace(stream_, http1::FrameSender::client, limits::kLinkMessageBytesMax, buffer.unread());
    writer_.start(write(*socket_));
    co_return Result<void>{};
  }

  void send(const v1alpha1::Envelope& envelope) { socket_->queue(envelope.SerializeAsString()); }

  net::Task<Result<v1alpha1::Envelope>> receive(net::Deadline deadline) {
    for (;;) {
      auto message = socket_->try_receive();
      if (!message) co_return std::unexpected(std::move(message.error()));
      if (*message) {
        v1alpha1::Envelope envelope;
        envelope.ParseFromArray((*message)->data(), static_cast<int>((*message)->size()));
        co_return envelope;
      }
      const net::Wait wait = co_await socket_->wait_readable(deadline);
      if (wait != net::Wait::ready) co_return fail(ErrorSource::controller, ErrorKind::timeout, "nothing came");
    }
  }

  static v1alpha1::Envelope hello(const std::string& instance, const std::string& token = "token") {
    v1alpha1::Envelope envelope;
    envelope.mutable_register_()->set_version(kLinkVersion);
    envelope.mutable_register_()->set_join_token(token);
    envelope.mutable_register_()->set_application("shop");
    envelope.mutable_register_()->set_function("checkout");
    envelope.mutable_register_()->set_instance(instance);
    return envelope;
  }

  // All of it; what the controller answered, which is no Registered if it refused.
  net::Task<Result<v1alpha1::Envelope>> join(std::string instance, net::Deadline deadline,
                                             std::string token = "token") {
    const Result<void> opened = co_await open(deadline);
    if (!opened) co_return std::unexpected(opened.error());
    send(hello(instance, token));
    Result<v1alpha1::Envelope> answer = co_await receive(deadline);
    co_return answer;
  }

 private:
  static net::Task<void> write(http1::WebSocketEndpoint& socket) {
    [[maybe_unused]] const auto written = co_await socket.write_queued();
  }

  net::Stream stream_;
  SSL_CTX* context_;
  std::optional<http1::WebSocketEndpoint> socket_;
  net::Concurrent writer_;
};

}  // namespace sallyport::controller::testing
