#include "proxy/http2/client_connection.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "proxy/http2/client_exchange.h"
#include "proxy/net/run_task_test.h"

namespace sallyport::http2 {
namespace {

using namespace std::chrono_literals;

// A connection to a server that does what the test says, byte by byte.
class Http2ClientExchange : public testing::Test {
 protected:
  Http2ClientExchange() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    transport_.emplace(loop_, UniqueFd(ends[0]), ErrorSource::upstream);
    server_.reset(ends[1]);
    connection_ = std::make_shared<ClientConnection>(*transport_);
    loop_.spawn(run(connection_));
    head_.method = "GET";
  }

  // A parameter of the coroutine holds it, and nothing else does once it has ended.
  static net::Task<void> run(std::shared_ptr<ClientConnection> connection) { co_await connection->run(); }

  void server_says(std::string_view bytes) {
    ASSERT_EQ(::send(server_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }

  Result<void> send(ClientExchange& exchange) {
    http::UpstreamExchange::Request request;
    request.head = &head_;
    request.target = "/";
    request.authority = "a.example";
    return net::run_task(loop_, exchange.send(request, {"", true}));
  }

  net::Loop loop_;
  std::optional<net::Stream> transport_;
  UniqueFd server_;
  std::shared_ptr<ClientConnection> connection_;
  request::RequestHead head_;
};

constexpr std::string_view kSettings("\0\0\0\4\0\0\0\0\0", 9);
constexpr std::string_view kGoawayNothingProcessed("\0\0\10\7\0\0\0\0\0\0\0\0\0\0\0\0\0", 17);

TEST_F(Http2ClientExchange, AnExchangeMayOutliveEverybodyElseWhoHoldsItsConnection) {
  auto exchange = std::make_unique<ClientExchange>(connection_);
  ASSERT_TRUE(send(*exchange));
  server_says(kSettings);
  server_.reset();
  net::run_for(loop_, 100ms);
  const std::weak_ptr<ClientConnection> connection = std::exchange(connection_, nullptr);
  EXPECT_FALSE(connection.expired());
  request::ResponseHead head;
  EXPECT_FALSE(net::run_task(loop_, exchange->read_head(head, loop_.in(1s))));
  exchange.reset();
  EXPECT_TRUE(connection.expired()) << "and the connection goes with it";
}

TEST_F(Http2ClientExchange, WhatTheServerHasNotProcessedMayBeSentAgain) {
  ClientExchange exchange(connection_);
  ASSERT_TRUE(send(exchange));
  server_says(std::string(kSettings) + std::string(kGoawayNothingProcessed));
  request::ResponseHead head;
  EXPECT_FALSE(net::run_task(loop_, exchange.read_head(head, loop_.in(5s))));
  EXPECT_TRUE(exchange.unprocessed());
  EXPECT_FALSE(connection_->usable());
}

}  // namespace
}  // namespace sallyport::http2
