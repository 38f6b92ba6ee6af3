#include "proxy/link/remote_link.h"

#include "base/limits.h"
#include "policy-engine/request/host.h"
#include "proxy/http1/websocket_opening.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/dial.h"
#include "proxy/net/tls_kdf.h"

namespace sallyport::link {

using http1::WebSocketEndpoint;
using net::Deadline;
using net::Task;

namespace {

constexpr std::uint16_t kNormal = 1000, kProtocolError = 1002;
constexpr std::string_view kPath = "/v1/link";

std::unexpected<Error> failed(const net::UpstreamFailure& failure) {
  return fail(ErrorSource::controller, ErrorKind::unavailable, failure.text);
}

std::unexpected<Error> no_url(const std::string& url) {
  return fail(ErrorSource::controller, ErrorKind::invalid,
              url + ": the controller's URL is wss://HOST:PORT, like wss://sallyport-controller.example:7443");
}

// The writer beside who reads. A failure wakes the other.
Task<void> write(WebSocketEndpoint& socket) { [[maybe_unused]] const auto written = co_await socket.write_queued(); }

}  // namespace

Result<RemoteOptions> parse_controller_url(const std::string& url) {
  constexpr std::string_view kScheme = "wss://";
  if (!url.starts_with(kScheme)) return no_url(url);
  std::string_view rest = std::string_view(url).substr(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const auto authority = request::parse_authority(rest);
  if (!authority || !authority->port || *authority->port == 0) return no_url(url);
  RemoteOptions options;
  options.host = authority->host.name;
  options.port = *authority->port;
  return options;
}

RemoteLink::RemoteLink(RemoteOptions options, Registration registration, LinkHandlers handlers)
    : GuardEnd(std::move(registration), std::move(handlers)),
      options_(std::move(options)),
      host_(options_.host),
      port_(options_.port) {
  endpoint_.name = "controller";
  endpoint_.ca_bundle_file = options_.ca_file;
}

Result<std::unique_ptr<RemoteLink>> RemoteLink::start(RemoteOptions options, Registration registration,
                                                      LinkHandlers handlers) {
  std::unique_ptr<RemoteLink> link(new RemoteLink(std::move(options), std::move(registration), std::move(handlers)));
  link->lib_.reset(OSSL_LIB_CTX_new());
  if (!link->lib_) return fail(ErrorSource::internal, ErrorKind::limit, "out of memory for OpenSSL");
  net::provide_key_schedule(link->lib_);
  auto resolver = net::make_resolver(link->loop(), link->options_.resolver);
  if (!resolver) return std::unexpected(std::move(resolver.error()));
  link->resolver_ = std::move(*resolver);
  auto tls = net::UpstreamTls::create(link->lib_.get(), {});
  if (!tls) return std::unexpected(std::move(tls.error()));
  link->tls_ = std::move(*tls);
  link->GuardEnd::start();
  return link;
}

RemoteLink::~RemoteLink() { stop(); }

Task<void> RemoteLink::run() {
  while (!stopping()) {
    const Result<void> ended = co_await connect();
    down(ended ? Error{ErrorSource::controller, ErrorKind::closed, "the link was closed"} : ended.error());
    if (follow()) continue;
    co_await loop().sleep_until(loop().in(next_wait()));
  }
}

// Several controllers share the applications, and each says who has one. That was said over TLS by a controller whose
// certificate is good, and where it leads to has to show one for its own host. Who leads nowhere, in a circle, or out
// of TLS is not followed: it begins anew with the controller that it was given.
bool RemoteLink::follow() {
  const auto next = parse_controller_url(take_elsewhere());
  const bool follows = next && hops_ < limits::kLinkHopsMax;
  hops_ = follows ? hops_ + 1 : 0;
  host_ = follows ? next->host : options_.host;
  port_ = follows ? next->port : options_.port;
  return follows;
}

Task<Result<void>> RemoteLink::connect() {
  const Deadline deadline = loop().in(limits::kLinkRegisterTimeout);
  Result<api::Envelope> hello = register_envelope();
  if (!hello) co_return std::unexpected(std::move(hello.error()));
  net::UpstreamRequest request;
  request.host = host_;
  request.literal = request::IpAddress::parse(host_);
  request.port = port_;
  request.enforce_addresses = false;  // who runs the guard has named it, and it is usually inside
  const net::UpstreamResult dialled = co_await net::dial(loop(), *resolver_, request, {}, deadline);
  if (!dialled) co_return failed(dialled.error());
  net::Stream& stream = (*dialled)->stream();
  const net::TlsTarget target{.host = request.host,
                              .literal = request.literal,
                              .port = request.port,
                              .endpoint = options_.ca_file.empty() ? nullptr : &endpoint_,
                              .policy = nullptr,
                              .http1_only = true};
  auto ssl = tls_->connect_for(target);
  if (!ssl) co_return failed(ssl.error());
  SSL_set_min_proto_version(ssl->get(), TLS1_3_VERSION);
  const Result<void> shaken = co_await stream.handshake(std::move(*ssl), {}, deadline);
  if (!shaken) co_return failed(tls_->explain(stream.ssl(), target, shaken.error()));
  Result<void> ended = co_await serve(stream, hello->SerializeAsString(), deadline);
  co_return ended;
}

Task<Result<void>> RemoteLink::serve(net::Stream& stream, std::string hello, Deadline deadline) {
  net::ReadBuffer buffer;
  const bool v6 = host_.find(':') != std::string::npos;
  const std::string authority = (v6 ? "[" + host_ + "]" : host_) + ":" + std::to_string(port_);
  Result<void> opened = co_await http1::open_websocket(stream, buffer, authority, std::string(kPath), deadline);
  if (!opened) co_return opened;
  WebSocketEndpoint socket(stream, http1::FrameSender::client, limits::kLinkMessageBytesMax, buffer.unread());
  buffer.release();
  net::Concurrent writer(loop());
  struct Current {
    WebSocketEndpoint*& place;
    ~Current() { place = nullptr; }
  };
  socket_ = &socket;
  const Current current{socket_};
  writer.start(write(socket));
  socket.queue(hello);
  Result<void> ended = co_await talk(socket, deadline);
  socket.close(ended || ended.error().kind != ErrorKind::malformed ? kNormal : kProtocolError, {});
  co_await writer.join(loop().in(limits::kLinkCloseTimeout / 4));
  co_return ended;
}

Task<Result<void>> RemoteLink::talk(WebSocketEndpoint& socket, Deadline registered_by) {
  Deadline heard = loop().now(), whole_by = net::kNoDeadline;
  for (std::size_t messages = 1;; ++messages) {
    auto message = socket.try_receive();
    if (socket.heard()) heard = loop().now();
    if (!message) co_return std::unexpected(std::move(message.error()));
    // Its pings are answered, which it may not read.
    if (socket.queued() > 2 * limits::kLinkQueuedBytesMax) {
      co_return fail(ErrorSource::controller, ErrorKind::limit, "the controller does not read what it is sent");
    }
    if (*message) {
      whole_by = net::kNoDeadline;
      api::Envelope envelope;
      if (!envelope.ParseFromArray((*message)->data(), static_cast<int>((*message)->size()))) {
        co_return fail(ErrorSource::controller, ErrorKind::malformed, "the controller sends what is no Envelope");
      }
      Result<void> taken = received(std::move(envelope));
      if (!taken) co_return taken;
      if (messages % limits::kLinkMessagesPerTurn == 0) co_await loop().yield();
      continue;
    }
    if (!socket.in_message()) whole_by = net::kNoDeadline;
    if (socket.in_message() && whole_by == net::kNoDeadline) whole_by = loop().in(limits::kLinkMessageTimeout);
    const Deadline silent = up() ? heard + silence_max() : registered_by;
    const net::Wait wait = co_await socket.wait_readable(std::min(silent, whole_by));
    if (wait == net::Wait::timeout) {
      co_return fail(ErrorSource::controller, ErrorKind::timeout, "nothing came from the controller in time");
    }
    if (wait == net::Wait::cancelled) {
      co_return fail(ErrorSource::controller, ErrorKind::reset, "the controller takes nothing of what it is sent");
    }
  }
}

void RemoteLink::transmit(std::string_view envelope) {
  if (socket_ != nullptr) socket_->queue(envelope);
}

std::size_t RemoteLink::backlog() const { return socket_ == nullptr ? 0 : socket_->queued(); }

// A pong is something that is heard, where the controller has nothing else to say.
void RemoteLink::probe() {
  if (socket_ != nullptr) socket_->ping();
}

void RemoteLink::hang_up() {
  if (socket_ != nullptr) socket_->close(kNormal, "the guard ends");
}

}  // namespace sallyport::link
