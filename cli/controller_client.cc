#include "cli/controller_client.h"

#include <optional>

#include "base/limits.h"
#include "proxy/http1/https_call.h"

namespace sallyport::cli {

namespace {

struct Calling {
  net::Loop loop;
  std::unique_ptr<http1::HttpsClient> client;
  std::optional<Result<http1::HttpsReply>> reply;
};

net::Task<void> call_and_stop(Calling& calling, const http1::HttpsServer& server, const http1::HttpsCall& call) {
  calling.reply.emplace(co_await calling.client->call(server, call, limits::kAdminAnswerBytesMax * 2,
                                                      calling.loop.in(limits::kControllerCallTimeout)));
  calling.loop.stop();
}

}  // namespace

Result<ControllerReply> call_controller(const ControllerAccess& access, const ControllerCall& call) {
  std::optional<http1::HttpsServer> server = http1::parse_https_url(access.url);
  if (!server) {
    return fail(ErrorSource::controller, ErrorKind::invalid,
                access.url + ": the admin API's URL is https://HOST:PORT, like https://127.0.0.1:7444");
  }
  server->ca_file = access.ca_file;
  http1::HttpsCall wanted{.method = call.method, .target = call.target, .body = call.body};
  if (!access.token.empty()) wanted.headers.emplace_back("Authorization", "Bearer " + access.token);
  if (!call.content_type.empty()) wanted.headers.emplace_back("Content-Type", call.content_type);
  if (!call.if_match.empty()) wanted.headers.emplace_back("If-Match", call.if_match);
  Calling calling;
  auto client = http1::HttpsClient::create(calling.loop);
  if (!client) return std::unexpected(std::move(client.error()));
  calling.client = std::move(*client);
  calling.loop.spawn(call_and_stop(calling, *server, wanted));
  calling.loop.run();
  calling.loop.drop_tasks();
  if (!*calling.reply) return std::unexpected(std::move(calling.reply->error()));
  http1::HttpsReply& reply = **calling.reply;
  return ControllerReply{reply.status, std::string(reply.header("etag")), std::string(reply.header("sallyport-row")),
                         std::move(reply.body)};
}

}  // namespace sallyport::cli
