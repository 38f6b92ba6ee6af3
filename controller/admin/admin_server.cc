#include "controller/admin/admin_server.h"

#include <algorithm>

#include "base/limits.h"
#include "controller/link/server_identity.h"
#include "policy-engine/request/percent.h"
#include "proxy/http1/server_exchange.h"
#include "proxy/net/acceptor.h"
#include "proxy/net/tls_context.h"
#include "proxy/net/tls_kdf.h"

namespace sallyport::controller {

using net::Task;

namespace {

constexpr std::string_view kTicketsName = "admin";  // tickets are bound to it

AdminAnswer refusal(int status, std::string text) {
  return {.status = status, .content_type = "text/plain", .body = std::move(text) + "\n"};
}

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 409:
      return "Conflict";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 422:
      return "Unprocessable Content";
    case 503:
      return "Service Unavailable";
    default:
      return "Error";
  }
}

bool read_head(const request::RequestHead& head, AdminRequest& request) {
  request.method = head.method;
  for (const request::Header& header : head.headers) {
    if (request::name_equals(header.name, "authorization")) {
      constexpr std::string_view kBearer = "Bearer ";
      if (!request.token.empty() || !header.value.starts_with(kBearer)) return false;
      request.token = header.value.substr(kBearer.size());
    } else if (request::name_equals(header.name, "if-match")) {
      request.if_match = header.value;
    } else if (request::name_equals(header.name, kPassedOnHeader)) {
      request.passed_on = true;
    }
  }
  request.target = head.target;
  return read_target(head.target, request);
}

}  // namespace

bool read_target(std::string_view target, AdminRequest& request) {
  if (!target.starts_with('/')) return false;
  const std::size_t mark = target.find('?');
  std::string_view path = target.substr(1, mark == target.npos ? target.npos : mark - 1);
  while (!path.empty()) {
    const std::size_t end = path.find('/');
    const auto segment = request::percent_decoded(path.substr(0, end));
    if (!segment || segment->empty()) return false;
    request.path.push_back(*segment);
    path = end == path.npos ? std::string_view() : path.substr(end + 1);
  }
  std::string_view query = mark == target.npos ? std::string_view() : target.substr(mark + 1);
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const std::size_t equals = pair.find('=');
    const auto name = request::percent_decoded(pair.substr(0, equals));
    const auto value = request::percent_decoded(equals == pair.npos ? std::string_view() : pair.substr(equals + 1));
    if (!name || !value || !request.query.emplace(*name, *value).second) return false;
  }
  return true;
}

struct AdminServer::Impl {
  Options options;
  ca::LibCtxPtr lib;
  std::optional<ServerIdentity> identity;
  std::unique_ptr<net::ServerTls> tls;
  net::Loop loop;
  std::vector<std::unique_ptr<net::Acceptor>> acceptors;
  std::thread thread;

  Result<void> prepare();
  static Task<void> serve(Impl& self, UniqueFd fd, net::ConnectionSlot place);
  static Task<Result<void>> exchange(Impl& self, http1::ServerExchange& exchange);
  static Task<Result<void>> write(http1::ServerExchange& exchange, const AdminAnswer& answer);
};

Result<void> AdminServer::Impl::prepare() {
  if (options.key_pem.empty()) return {};
  lib.reset(OSSL_LIB_CTX_new());
  if (!lib) return fail(ErrorSource::internal, ErrorKind::limit, "out of memory for OpenSSL");
  net::provide_key_schedule(lib);
  auto loaded = ServerIdentity::load(lib.get(), options.certificates_pem, options.key_pem);
  if (!loaded) return std::unexpected(std::move(loaded.error()));
  identity.emplace(std::move(*loaded));
  auto made = net::ServerTls::create(lib.get(), {"http/1.1"});
  if (!made) return std::unexpected(std::move(made.error()));
  tls = std::move(*made);
  return {};
}

Task<void> AdminServer::Impl::serve(Impl& self, UniqueFd fd, net::ConnectionSlot place) {
  const net::ConnectionSlot held = std::move(place);
  net::Stream stream(self.loop, std::move(fd), ErrorSource::downstream);
  if (self.tls) {
    auto ssl = self.tls->accept_for(self.identity->leaf(), kTicketsName);
    if (!ssl) co_return;
    const auto shaken = co_await stream.handshake(std::move(*ssl), {}, self.loop.in(limits::kHandshakeTimeout));
    if (!shaken) co_return;
    self.tls->completed(stream.ssl());
  }
  http1::ServerExchange exchange;
  exchange.attach(stream, {});
  for (;;) {
    const auto read = co_await exchange.read_request(self.loop.in(limits::kAdminIdleTimeout));
    if (!read) {
      const int status = read.error().answer ? http_status(read.error().reason) : 0;
      if (status != 0) co_await write(exchange, refusal(status, read.error().text));
      break;
    }
    if (*read == http1::ServerExchange::Read::end) break;
    const auto answered = co_await Impl::exchange(self, exchange);
    if (!answered || !exchange.can_continue()) break;
  }
  co_await exchange.linger();
  exchange.detach();
  stream.shutdown_write();
}

Task<Result<void>> AdminServer::Impl::exchange(Impl& self, http1::ServerExchange& exchange) {
  AdminRequest request;
  if (!read_head(exchange.head(), request)) {
    exchange.close_after();
    co_return co_await write(exchange, refusal(400, "the request's target or its Authorization can't be read"));
  }
  if (const auto refused = self.options.check(request)) {
    exchange.close_after();  // its body is not worth reading
    co_return co_await write(exchange, *refused);
  }
  const net::Deadline deadline = self.loop.in(limits::kAdminBodyTimeout);
  if (exchange.body().kind != http::BodyInfo::Kind::empty && exchange.expects_continue()) {
    request::ResponseHead go_on;
    go_on.status = 100;
    if (auto told = co_await exchange.inform(go_on); !told) co_return told;
  }
  for (bool end = exchange.body().kind == http::BodyInfo::Kind::empty; !end;) {
    const auto chunk = co_await exchange.read_body(deadline);
    if (!chunk) co_return std::unexpected(chunk.error());
    if (request.body.size() + chunk->data.size() > limits::kPolicyBytesMax) {
      exchange.close_after();
      co_return co_await write(exchange, refusal(413, "at most " + std::to_string(limits::kPolicyBytesMax) + " bytes"));
    }
    request.body += chunk->data;
    end = chunk->end;
  }
  if (!self.options.answer_later) co_return co_await write(exchange, self.options.answer(request));
  const AdminAnswer answer = co_await self.options.answer_later(self.loop, request);
  co_return co_await write(exchange, answer);
}

Task<Result<void>> AdminServer::Impl::write(http1::ServerExchange& exchange, const AdminAnswer& answer) {
  request::ResponseHead head;
  head.status = answer.status;
  head.reason = reason_of(answer.status);
  if (!answer.body.empty()) head.headers.add("Content-Type", answer.content_type);
  head.headers.add("Cache-Control", "no-store");
  for (const auto& [name, value] : answer.headers) head.headers.add(name, value);
  const bool bodyless = answer.status == 204;
  const http::BodyInfo body{.kind = bodyless ? http::BodyInfo::Kind::empty : http::BodyInfo::Kind::sized,
                            .length = answer.body.size()};
  co_return co_await exchange.respond(head, body, {.data = answer.body, .end = true});
}

Result<std::unique_ptr<AdminServer>> AdminServer::start(Options options, std::vector<UniqueFd> listening) {
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  if (auto prepared = impl->prepare(); !prepared) return std::unexpected(prepared.error());
  const net::ConnectionLimit limit(limits::kAdminConnectionsMax);
  for (UniqueFd& socket : listening) {
    net::Acceptor::Handlers handlers{.on_connection =
                                         [raw = impl.get()](UniqueFd fd, net::ConnectionSlot place) {
                                           raw->loop.spawn(Impl::serve(*raw, std::move(fd), std::move(place)));
                                         },
                                     .on_trouble = impl->options.on_trouble,
                                     .on_full = {}};
    impl->acceptors.push_back(
        std::make_unique<net::Acceptor>(impl->loop, std::move(socket), limit, std::move(handlers)));
  }
  impl->thread = std::thread([raw = impl.get()] {
    raw->loop.run();
    raw->loop.drop_tasks();
  });
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<void> AdminServer::show(const std::string& certificates_pem, const std::string& key_pem) {
  auto identity = ServerIdentity::load(impl_->lib.get(), certificates_pem, key_pem);
  if (!identity) return std::unexpected(std::move(identity.error()));
  impl_->loop.post([raw = impl_.get(), fresh = std::make_shared<ServerIdentity>(std::move(*identity))] {
    raw->identity = std::move(*fresh);
  });
  return {};
}

AdminServer::~AdminServer() {
  impl_->loop.stop();
  impl_->thread.join();
}

}  // namespace sallyport::controller
