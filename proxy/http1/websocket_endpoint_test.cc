#include "proxy/http1/websocket_endpoint.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "proxy/http1/websocket_opening.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/test_peer.h"

namespace sallyport::http1 {
namespace {

using namespace std::chrono_literals;
using net::Deadline;
using net::Task;

// What one end has heard until its link ended.
struct Heard {
  std::vector<std::string> messages;
  std::optional<Error> end;
};

// One end of a connection that reads, and answers with as many messages as it is told.
struct End {
  End(net::Loop& loop, UniqueFd fd, FrameSender self, std::size_t max = limits::kLinkMessageBytesMax)
      : stream(loop, std::move(fd), self == FrameSender::client ? ErrorSource::controller : ErrorSource::downstream),
        socket(stream, self, max),
        writer(loop),
        reader(loop) {}

  void start() {
    writer.start(write(*this));
    reader.start(read(*this));
  }
  static Task<void> write(End& end) {
    [[maybe_unused]] const Result<void> written = co_await end.socket.write_queued();
  }
  static Task<void> read(End& end) {
    for (;;) {
      auto message = end.socket.try_receive();
      if (!message) {
        end.heard.end = message.error();
        co_return;
      }
      if (*message) {
        end.heard.messages.emplace_back(**message);
        continue;
      }
      const net::Wait wait = co_await end.socket.wait_readable(end.stream.loop().in(5s));
      if (wait != net::Wait::ready) {
        end.heard.end = Error{ErrorSource::internal, ErrorKind::timeout, "silence"};
        co_return;
      }
    }
  }

  net::Stream stream;
  WebSocketEndpoint socket;
  Heard heard;
  net::Concurrent writer, reader;
};

Task<void> until_over(net::Loop& loop, End& a, End& b) {
  co_await a.reader.join(loop.in(10s));
  co_await b.reader.join(loop.in(10s));
  loop.stop();
}

void run_until_over(net::Loop& loop, End& a, End& b) {
  loop.spawn(until_over(loop, a, b));
  loop.run();
}

TEST(WebSocketEndpoint, MessagesOfEverySizeArriveWholeInBothDirections) {
  net::Loop loop;
  auto [one, two] = net::testing::tcp_pair();
  End client(loop, std::move(one), FrameSender::client), server(loop, std::move(two), FrameSender::server);
  std::vector<std::string> messages;
  for (const std::size_t size :
       {0UL, 1UL, 125UL, 126UL, 65'535UL, 65'536UL, 1'000'000UL, limits::kLinkMessageBytesMax}) {
    std::string message(size, '\0');
    net::testing::fill_pattern(size, message);
    messages.push_back(std::move(message));
  }
  client.start();
  server.start();
  for (const std::string& message : messages) {
    client.socket.queue(message);
    server.socket.queue(message);
  }
  client.socket.close(1000, "done");
  run_until_over(loop, client, server);
  EXPECT_EQ(server.heard.messages, messages);
  EXPECT_EQ(client.heard.messages, messages);
  EXPECT_EQ(server.heard.end->kind, ErrorKind::closed);
  EXPECT_EQ(server.heard.end->text, "it closed the WebSocket with 1000: done");
  EXPECT_EQ(client.heard.end->text, "it closed the WebSocket with 1000");
}

TEST(WebSocketEndpoint, ManySmallMessagesGoOutTogether) {
  net::Loop loop;
  auto [one, two] = net::testing::tcp_pair();
  End client(loop, std::move(one), FrameSender::client);
  net::Stream other(loop, std::move(two), ErrorSource::upstream);
  client.start();
  for (int i = 0; i < 100; ++i) client.socket.queue(std::string(20, 'x'));
  std::string buffer(10'000, '\0');
  const auto got = net::testing::run(loop, other.read_some(buffer, loop.in(5s)));
  EXPECT_EQ(*got, 100U * (2 + 4 + 20)) << "one write, as one read tells";
}

TEST(WebSocketEndpoint, AFrameForManyIsMadeOnce) {
  net::Loop loop;
  auto [one, two] = net::testing::tcp_pair();
  End client(loop, std::move(one), FrameSender::client), server(loop, std::move(two), FrameSender::server);
  client.start();
  server.start();
  const auto frame = std::make_shared<const std::string>(WebSocketEndpoint::frame(std::string(70'000, 'u')));
  server.socket.queue("before");
  server.socket.queue_shared(frame);
  server.socket.queue("behind");
  server.socket.close(1000, "");
  run_until_over(loop, client, server);
  ASSERT_EQ(client.heard.messages.size(), 3U);
  EXPECT_EQ(client.heard.messages[0], "before");
  EXPECT_EQ(client.heard.messages[1], std::string(70'000, 'u'));
  EXPECT_EQ(client.heard.messages[2], "behind");
  EXPECT_EQ(frame.use_count(), 1) << "let go of when it is out";
}

TEST(WebSocketEndpoint, APingIsAnsweredAndIsNoMessage) {
  net::Loop loop;
  auto [one, two] = net::testing::tcp_pair();
  End server(loop, std::move(one), FrameSender::server);
  net::Stream other(loop, std::move(two), ErrorSource::upstream);
  server.start();
  const FrameMask mask{1, 2, 3, 4};
  std::string ping, payload = "there?";
  append_frame_header(ping, Opcode::ping, payload.size(), &mask);
  apply_mask(payload, mask);
  EXPECT_TRUE(net::testing::run(loop, other.write_all(ping + payload, loop.in(5s))));
  std::string buffer(100, '\0');
  const auto got = net::testing::run(loop, other.read_some(buffer, loop.in(5s)));
  EXPECT_EQ(buffer.substr(0, *got), "\x8A\x06there?");
  EXPECT_TRUE(server.heard.messages.empty());
  EXPECT_TRUE(server.socket.heard());
  EXPECT_FALSE(server.socket.heard());
}

TEST(WebSocketEndpoint, WhatBreaksTheProtocolIsToldAndEndsIt) {
  net::Loop loop;
  auto [one, two] = net::testing::tcp_pair();
  End server(loop, std::move(one), FrameSender::server);
  net::Stream other(loop, std::move(two), ErrorSource::upstream);
  server.start();
  EXPECT_TRUE(net::testing::run(loop, other.write_all("GET / HTTP/1.1\r\n\r\n", loop.in(5s))));
  std::string buffer(200, '\0');
  const auto got = net::testing::run(loop, other.read_some(buffer, loop.in(5s)));
  ASSERT_GE(*got, 4U);
  EXPECT_EQ(buffer.substr(0, 1), "\x88");
  EXPECT_EQ(buffer.substr(2, 2), "\x03\xEA") << "1002";
  EXPECT_EQ(server.heard.end->kind, ErrorKind::malformed);
}

TEST(WebSocketEndpoint, AnEndWithoutACloseFrameIsSaid) {
  net::Loop loop;
  auto [one, two] = net::testing::tcp_pair();
  End client(loop, std::move(one), FrameSender::client), server(loop, std::move(two), FrameSender::server);
  server.start();
  client.start();
  client.stream.shutdown_write();
  server.stream.shutdown_write();
  run_until_over(loop, client, server);
  EXPECT_EQ(server.heard.end->text, "it ended the connection without a close frame");
}

TEST(WebSocketEndpoint, NothingIsQueuedBehindAClose) {
  net::Loop loop;
  auto [one, two] = net::testing::tcp_pair();
  End client(loop, std::move(one), FrameSender::client), server(loop, std::move(two), FrameSender::server);
  client.start();
  server.start();
  client.socket.close(1001, "");
  client.socket.queue("too late");
  client.socket.close(1000, "again");
  run_until_over(loop, client, server);
  EXPECT_TRUE(server.heard.messages.empty());
  EXPECT_EQ(server.heard.end->text, "it closed the WebSocket with 1001");
}

struct Opened {
  std::optional<Result<void>> client, server;
};

Task<void> open(net::Stream& stream, net::ReadBuffer& buffer, std::string path, Opened& opened, net::Loop& loop) {
  opened.client.emplace(co_await open_websocket(stream, buffer, "controller.test", std::move(path), loop.in(5s)));
  if (opened.server) loop.stop();
}
Task<void> accept(net::Stream& stream, net::ReadBuffer& buffer, Opened& opened, net::Loop& loop) {
  opened.server.emplace(co_await accept_websocket(stream, buffer, "/v1/link", loop.in(5s)));
  if (opened.client) loop.stop();
}

// What both sides make of a handshake in which the client asks for `path`.
Opened open_at(std::string path) {
  net::Loop loop;
  auto [one, two] = net::testing::tcp_pair();
  net::Stream client(loop, std::move(one), ErrorSource::controller),
      server(loop, std::move(two), ErrorSource::downstream);
  net::ReadBuffer client_buffer, server_buffer;
  Opened opened;
  loop.spawn(open(client, client_buffer, std::move(path), opened, loop));
  loop.spawn(accept(server, server_buffer, opened, loop));
  loop.run();
  return opened;
}

TEST(WebSocketOpening, TheTwoSidesUnderstandEachOther) {
  const Opened opened = open_at("/v1/link");
  EXPECT_TRUE(*opened.client);
  EXPECT_TRUE(*opened.server);
}

TEST(WebSocketOpening, AnotherPathIsNotFound) {
  const Opened opened = open_at("/v2/link");
  ASSERT_FALSE(*opened.client);
  EXPECT_EQ(opened.client->error().kind, ErrorKind::refused);
  EXPECT_NE(opened.client->error().text.find("404"), std::string::npos) << opened.client->error().text;
}

// What a request is answered with that is no opening handshake, or a broken one.
std::string answer_to(const std::string& request) {
  net::Loop loop;
  auto [one, two] = net::testing::tcp_pair();
  net::Stream client(loop, std::move(one), ErrorSource::controller),
      server(loop, std::move(two), ErrorSource::downstream);
  net::ReadBuffer buffer;
  EXPECT_TRUE(net::testing::run(loop, client.write_all(request, loop.in(5s))));
  const auto accepted = net::testing::run(loop, accept_websocket(server, buffer, "/v1/link", loop.in(5s)));
  EXPECT_FALSE(accepted);
  std::string answer(1'000, '\0');
  const auto got = net::testing::run(loop, client.read_some(answer, loop.in(5s)));
  return answer.substr(9, *got >= 12 ? 3 : 0);
}

TEST(WebSocketOpening, WhatIsNoHandshakeIsAnsweredInPlainText) {
  const std::string upgrade = "Host: c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
  const std::string key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", version = "Sec-WebSocket-Version: 13\r\n";
  EXPECT_EQ(answer_to("GET /v1/link HTTP/1.1\r\nHost: c\r\n\r\n"), "426");
  EXPECT_EQ(answer_to("POST /v1/link HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n"), "426");
  EXPECT_EQ(answer_to("GET / HTTP/1.1\r\nHost: c\r\n\r\n"), "404");
  EXPECT_EQ(answer_to("GET /v1/link HTTP/1.1\r\n" + upgrade + version + "\r\n"), "400");
  EXPECT_EQ(answer_to("GET /v1/link HTTP/1.1\r\n" + upgrade + key + "\r\n"), "426");
  EXPECT_EQ(answer_to("GET /v1/link HTTP/1.1\r\n" + upgrade + key + "Sec-WebSocket-Version: 8\r\n\r\n"), "426");
  EXPECT_EQ(answer_to("GET /v1/link HTTP/1.1\r\n" + upgrade + key + key + version + "\r\n"), "400");
  EXPECT_EQ(answer_to("HELO\r\n\r\n"), "400");
}

}  // namespace
}  // namespace sallyport::http1
