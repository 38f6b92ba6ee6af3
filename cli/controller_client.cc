#include "cli/controller_client.h"

#include <optional>

#include "base/limits.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/host.h"
#include "proxy/http1/client_exchange.h"
#include "proxy/net/dial.h"
#include "proxy/net/resolver.h"
#include "proxy/net/tls_kdf.h"
#include "proxy/net/upstream_tls.h"

namespace sallyport::cli {

namespace {

using net::Task;

struct Place {
  std::string host, authority;
  std::uint16_t port = 0;
};

std::unexpected<Error> unavailable(std::string text) {
  return fail(ErrorSource::controller, ErrorKind::unavailable, std::move(text));
}

Result<Place> place_of(const std::string& url) {
  constexpr std::string_view kScheme = "https://";
  std::string_view rest = url;
  if (rest.starts_with(kScheme)) {
    rest.remove_prefix(kScheme.size());
    if (rest.ends_with('/')) rest.remove_suffix(1);
    const auto authority = request::parse_authority(rest);
    if (authority && authority->port && *authority->port != 0) {
      return Place{authority->host.name, std::string(rest), *authority->port};
    }
  }
  return fail(ErrorSource::controller, ErrorKind::invalid,
              url + ": the admin API's URL is https://HOST:PORT, like https://127.0.0.1:7444");
}

class Caller {
 public:
  Caller(const ControllerAccess& access, const ControllerCall& call, Place place)
      : access_(access), call_(call), place_(std::move(place)) {
    endpoint_.name = "controller";
    endpoint_.ca_bundle_file = access.ca_file;
  }

  Result<ControllerReply> run() {
    lib_.reset(OSSL_LIB_CTX_new());
    if (!lib_) return fail(ErrorSource::internal, ErrorKind::limit, "out of memory for OpenSSL");
    net::provide_key_schedule(lib_);
    auto resolver = net::make_resolver(loop_, {});
    if (!resolver) return std::unexpected(std::move(resolver.error()));
    resolver_ = std::move(*resolver);
    auto tls = net::UpstreamTls::create(lib_.get(), {});
    if (!tls) return std::unexpected(std::move(tls.error()));
    tls_ = std::move(*tls);
    loop_.spawn(call_and_stop(*this));
    loop_.run();
    loop_.drop_tasks();
    return std::move(*result_);
  }

 private:
  static Task<void> call_and_stop(Caller& self) {
    self.result_.emplace(co_await self.connect());
    self.loop_.stop();
  }

  Task<Result<ControllerReply>> connect() {
    const net::Deadline deadline = loop_.in(limits::kControllerCallTimeout);
    net::UpstreamRequest wanted;
    wanted.host = place_.host;
    wanted.literal = request::IpAddress::parse(place_.host);
    wanted.port = place_.port;
    wanted.enforce_addresses = false;  // a person has named it
    const net::UpstreamResult dialled = co_await net::dial(loop_, *resolver_, wanted, {}, deadline);
    if (!dialled) co_return unavailable(access_.url + ": " + dialled.error().text);
    net::Stream& stream = (*dialled)->stream();
    const net::TlsTarget target{.host = wanted.host,
                                .literal = wanted.literal,
                                .port = wanted.port,
                                .endpoint = access_.ca_file.empty() ? nullptr : &endpoint_,
                                .policy = nullptr,
                                .http1_only = true};
    auto ssl = tls_->connect_for(target);
    if (!ssl) co_return unavailable(ssl.error().text);
    const Result<void> shaken = co_await stream.handshake(std::move(*ssl), {}, deadline);
    if (!shaken) co_return unavailable(access_.url + ": " + tls_->explain(stream.ssl(), target, shaken.error()).text);
    co_return co_await exchange(stream, deadline);
  }

  Task<Result<ControllerReply>> exchange(net::Stream& stream, net::Deadline deadline) {
    http1::ClientExchange client;
    client.attach(stream);
    request::RequestHead head;
    head.method = call_.method;
    const std::string authorization = "Bearer " + access_.token;
    if (!access_.token.empty()) head.headers.add("Authorization", authorization);
    if (!call_.content_type.empty()) head.headers.add("Content-Type", call_.content_type);
    if (!call_.if_match.empty()) head.headers.add("If-Match", call_.if_match);
    http1::ClientExchange::Request wanted;
    wanted.head = &head;
    wanted.target = call_.target;
    wanted.authority = place_.authority;
    if (!call_.body.empty()) wanted.body = {.kind = http::BodyInfo::Kind::sized, .length = call_.body.size()};
    const auto sent = co_await client.send(wanted, {.data = call_.body, .end = true});
    // It may have answered what it did not want to read.
    if (!sent && sent.error().kind == ErrorKind::timeout) co_return std::unexpected(sent.error());
    ControllerReply reply;
    request::ResponseHead answer;
    http::UpstreamHead info;
    do {
      const auto read = co_await client.read_head(answer, deadline);
      if (!read) co_return unavailable(access_.url + ": " + (sent ? read.error() : sent.error()).text);
      info = *read;
    } while (info.status < 200);
    reply.status = info.status;
    if (const request::Header* const etag = answer.headers.find("etag")) reply.etag = etag->value;
    if (const request::Header* const row = answer.headers.find("sallyport-row")) reply.row = row->value;
    for (bool end = info.body.kind == http::BodyInfo::Kind::empty; !end;) {
      const auto chunk = co_await client.read_body(deadline);
      if (!chunk) co_return unavailable(access_.url + ": " + chunk.error().text);
      if (reply.body.size() + chunk->data.size() > limits::kAdminAnswerBytesMax * 2) {
        co_return unavailable(access_.url + ": its answer is too large");
      }
      reply.body += chunk->data;
      end = chunk->end;
    }
    client.detach();
    co_return reply;
  }

  const ControllerAccess& access_;
  const ControllerCall& call_;
  const Place place_;
  document::Endpoint endpoint_;  // what the verification of servers takes its CA file from
  ca::LibCtxPtr lib_;
  net::Loop loop_;
  std::unique_ptr<net::Resolver> resolver_;
  std::unique_ptr<net::UpstreamTls> tls_;
  std::optional<Result<ControllerReply>> result_;
};

}  // namespace

Result<ControllerReply> call_controller(const ControllerAccess& access, const ControllerCall& call) {
  auto place = place_of(access.url);
  if (!place) return std::unexpected(std::move(place.error()));
  return Caller(access, call, std::move(*place)).run();
}

}  // namespace sallyport::cli
