#include "proxy/http1/https_call.h"

#include <optional>

#include "policy-engine/request/head.h"
#include "policy-engine/request/host.h"
#include "proxy/http1/client_exchange.h"
#include "proxy/net/dial.h"
#include "proxy/net/resolver.h"
#include "proxy/net/tls_kdf.h"
#include "proxy/net/upstream_tls.h"

namespace sallyport::http1 {

using net::Task;

namespace {

std::unexpected<Error> unavailable(const HttpsServer& server, const std::string& text) {
  return fail(ErrorSource::controller, ErrorKind::unavailable, "https://" + server.authority + ": " + text);
}

Task<Result<HttpsReply>> exchange(net::Stream& stream, const HttpsServer& server, const HttpsCall& call,
                                  std::size_t body_bytes_max, net::Deadline deadline) {
  ClientExchange client;
  client.attach(stream);
  request::RequestHead head;
  head.method = call.method;
  for (const auto& [name, value] : call.headers) head.headers.add(name, value);
  ClientExchange::Request wanted;
  wanted.head = &head;
  wanted.target = call.target;
  wanted.authority = server.authority;
  if (!call.body.empty()) wanted.body = {.kind = http::BodyInfo::Kind::sized, .length = call.body.size()};
  const auto sent = co_await client.send(wanted, {.data = call.body, .end = true});
  // It may have answered what it did not want to read.
  if (!sent && sent.error().kind == ErrorKind::timeout) co_return unavailable(server, sent.error().text);
  HttpsReply reply;
  request::ResponseHead answer;
  http::UpstreamHead info;
  do {
    const auto read = co_await client.read_head(answer, deadline);
    if (!read) co_return unavailable(server, (sent ? read.error() : sent.error()).text);
    info = *read;
  } while (info.status < 200);
  reply.status = info.status;
  for (const request::Header& header : answer.headers) {
    reply.headers.emplace_back(std::string(header.name), std::string(header.value));
  }
  for (bool end = info.body.kind == http::BodyInfo::Kind::empty; !end;) {
    const auto chunk = co_await client.read_body(deadline);
    if (!chunk) co_return unavailable(server, chunk.error().text);
    if (reply.body.size() + chunk->data.size() > body_bytes_max)
      co_return unavailable(server, "its answer is too large");
    reply.body += chunk->data;
    end = chunk->end;
  }
  client.detach();
  co_return reply;
}

}  // namespace

std::optional<HttpsServer> parse_https_url(std::string_view url) {
  constexpr std::string_view kScheme = "https://";
  constexpr std::uint16_t kPort = 443;
  if (!url.starts_with(kScheme)) return std::nullopt;
  url.remove_prefix(kScheme.size());
  if (url.ends_with('/')) url.remove_suffix(1);
  const auto authority = request::parse_authority(url);
  if (!authority || (authority->port && *authority->port == 0)) return std::nullopt;
  return HttpsServer{authority->host.name, std::string(url), authority->port.value_or(kPort), {}};
}

std::string_view HttpsReply::header(std::string_view name) const {
  for (const auto& [each, value] : headers) {
    if (request::name_equals(each, name)) return value;
  }
  return {};
}

HttpsClient::HttpsClient(net::Loop& loop) : loop_(loop), lib_(OSSL_LIB_CTX_new()) {}
HttpsClient::~HttpsClient() = default;

Result<std::unique_ptr<HttpsClient>> HttpsClient::create(net::Loop& loop) {
  std::unique_ptr<HttpsClient> made(new HttpsClient(loop));
  if (!made->lib_) return fail(ErrorSource::internal, ErrorKind::limit, "out of memory for OpenSSL");
  net::provide_key_schedule(made->lib_);
  auto resolver = net::make_resolver(loop, {});
  if (!resolver) return std::unexpected(std::move(resolver.error()));
  made->resolver_ = std::move(*resolver);
  auto tls = net::UpstreamTls::create(made->lib_.get(), {});
  if (!tls) return std::unexpected(std::move(tls.error()));
  made->tls_ = std::move(*tls);
  return made;
}

Task<Result<HttpsReply>> HttpsClient::call(const HttpsServer& server, const HttpsCall& call, std::size_t body_bytes_max,
                                           net::Deadline deadline) {
  net::UpstreamRequest wanted;
  wanted.host = server.host;
  wanted.literal = request::IpAddress::parse(server.host);
  wanted.port = server.port;
  wanted.enforce_addresses = false;  // whoever runs this program has named it
  const net::UpstreamResult dialled = co_await net::dial(loop_, *resolver_, wanted, {}, deadline);
  if (!dialled) co_return unavailable(server, dialled.error().text);
  net::Stream& stream = (*dialled)->stream();
  document::Endpoint endpoint;  // what the verification of servers takes its CA file from
  endpoint.name = server.host;
  endpoint.ca_bundle_file = server.ca_file;
  const net::TlsTarget target{.host = wanted.host,
                              .literal = wanted.literal,
                              .port = wanted.port,
                              .endpoint = server.ca_file.empty() ? nullptr : &endpoint,
                              .policy = nullptr,
                              .http1_only = true};
  auto ssl = tls_->connect_for(target);
  if (!ssl) co_return unavailable(server, ssl.error().text);
  const Result<void> shaken = co_await stream.handshake(std::move(*ssl), {}, deadline);
  if (!shaken) co_return unavailable(server, tls_->explain(stream.ssl(), target, shaken.error()).text);
  auto reply = co_await exchange(stream, server, call, body_bytes_max, deadline);
  co_return reply;
}

}  // namespace sallyport::http1
