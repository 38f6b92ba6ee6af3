// Connections of both roles, with the other side's frames by hand over a pair of sockets.

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "base/limits.h"
#include "proxy/http2/client_connection.h"
#include "proxy/http2/client_exchange.h"
#include "proxy/http2/server_connection.h"
#include "proxy/net/run_task_test.h"

namespace sallyport::http2 {
namespace {

using std::chrono::milliseconds;

enum Kind : unsigned char {
  kData,
  kHeaders,
  kPriority,
  kReset,
  kSettings,
  kPush,
  kPing,
  kGoaway,
  kWindow,
  kContinuation,
  kUnknown = 0xBB
};
constexpr unsigned char kEndStream = 1, kEndHeaders = 4, kPadded = 8;

std::string number(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

std::string frame(unsigned char kind, unsigned char flags = 0, std::uint32_t stream = 0,
                  std::string_view payload = {}) {
  std::string made = number(static_cast<std::uint32_t>(payload.size())).substr(1);
  made += static_cast<char>(kind);
  made += static_cast<char>(flags);
  return made + number(stream) + std::string(payload);
}

// A field that is not indexed (RFC 7541 section 6.2.2), of short texts.
std::string field(std::string_view name, std::string_view value) {
  std::string made(1, '\0');
  made += static_cast<char>(name.size());
  made += name;
  made += static_cast<char>(value.size());
  return made + std::string(value);
}

std::string request(std::string_view method = "GET") {
  return field(":method", method) + field(":scheme", "https") + field(":authority", "a.example") + field(":path", "/");
}

const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const std::string kHello = kPreface + frame(kSettings);

struct Frame {
  unsigned char kind, flags;
  std::uint32_t stream;
  std::string payload;
  std::uint32_t code(std::size_t at) const {
    std::uint32_t value = 0;
    for (std::size_t i = at; i < at + 4 && i < payload.size(); ++i)
      value = value << 8 | static_cast<unsigned char>(payload[i]);
    return value;
  }
};

std::vector<Frame> frames_of(std::string_view bytes) {
  std::vector<Frame> frames;
  const auto at = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])); };
  while (bytes.size() >= 9) {
    const std::size_t size = at(0) << 16 | at(1) << 8 | at(2);
    if (bytes.size() < 9 + size) break;
    frames.push_back({static_cast<unsigned char>(at(3)), static_cast<unsigned char>(at(4)),
                      at(5) << 24 | at(6) << 16 | at(7) << 8 | at(8), std::string(bytes.substr(9, size))});
    bytes.remove_prefix(9 + size);
  }
  return frames;
}

// A pair of sockets: one is the connection's, the other one is spoken to by hand.
class Pair {
 public:
  Pair() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    ours = UniqueFd(ends[0]);
    theirs = UniqueFd(ends[1]);
  }
  void say(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(theirs.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  const std::vector<Frame>& heard() {
    char buffer[65536];
    for (ssize_t count; (count = ::recv(theirs.get(), buffer, sizeof buffer, 0)) > 0;) {
      bytes_.append(buffer, static_cast<std::size_t>(count));
    }
    frames_ = frames_of(bytes_);
    return frames_;
  }
  std::optional<Frame> first(unsigned char kind, std::uint32_t stream) {
    for (const Frame& one : heard()) {
      if (one.kind == kind && one.stream == stream) return one;
    }
    return std::nullopt;
  }
  UniqueFd ours, theirs;

 private:
  std::string bytes_;
  std::vector<Frame> frames_;
};

// The function's side of a guard that answers every request with 200, or never, and reads no body.
class Server {
 public:
  explicit Server(net::Loop& loop, bool answers = true) : loop_(loop), answers_(answers) {
    stream_.emplace(loop, std::move(pair.ours), ErrorSource::downstream);
    ServerConnection::Handlers handlers;
    handlers.serve = [this](ServerExchange& exchange) { return serve(exchange); };
    handlers.admit = [] { return true; };
    handlers.on_busy = [](bool) {};
    connection.emplace(*stream_, request::Scheme::https, std::move(handlers));
    loop.spawn(run());
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    pair.theirs.reset();
    while (!ended) net::run_for(loop_, milliseconds(5));
  }

  Pair pair;
  std::optional<ServerConnection> connection;
  std::vector<std::string> failures;
  std::size_t served = 0;
  bool ended = false;

 private:
  net::Task<void> run() {
    co_await connection->run({});
    ended = true;
  }
  net::Task<void> serve(ServerExchange& exchange) {
    ++served;
    if (exchange.failure()) failures.push_back(exchange.failure()->text);
    if (!answers_) {
      net::Event gone(loop_);
      exchange.watch_peer([&] { gone.set(); });
      co_await gone.wait(loop_.in(std::chrono::seconds(20)));
      co_return;
    }
    request::ResponseHead head;
    head.status = exchange.failure() ? 400 : 200;
    [[maybe_unused]] const Result<void> answered = co_await exchange.respond(head, {}, http::Chunk{{}, true});
  }

  net::Loop& loop_;
  bool answers_;
  std::optional<net::Stream> stream_;
};

struct Mistake {
  const char* what;
  std::string bytes;
  std::uint32_t code;  // of GOAWAY
};

TEST(Http2Server, MistakesOfTheConnectionEndItWithTheirCode) {
  const std::string open = frame(kHeaders, kEndHeaders, 1, request("POST"));
  const std::string ask = frame(kHeaders, kEndHeaders | kEndStream, 1, request());
  const std::string zero(4, '\0');
  const Mistake mistakes[] = {
      {"another preface", "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", NGHTTP2_PROTOCOL_ERROR},
      {"no SETTINGS behind the preface", kPreface + frame(kPing, 0, 0, std::string(8, 'x')), NGHTTP2_PROTOCOL_ERROR},
      {"a frame that is too large", kHello + frame(kUnknown, 0, 0, std::string(16'385, 'x')), NGHTTP2_FRAME_SIZE_ERROR},
      {"DATA for the connection", kHello + frame(kData, 0, 0, "x"), NGHTTP2_PROTOCOL_ERROR},
      {"DATA for a stream that is not open", kHello + frame(kData, 0, 1, "x"), NGHTTP2_PROTOCOL_ERROR},
      {"DATA with more padding than bytes", kHello + open + frame(kData, kPadded, 1, "\x05x"), NGHTTP2_PROTOCOL_ERROR},
      {"HEADERS for a server's stream", kHello + frame(kHeaders, kEndHeaders, 2, request()), NGHTTP2_PROTOCOL_ERROR},
      {"HEADERS for the connection", kHello + frame(kHeaders, kEndHeaders, 0, request()), NGHTTP2_PROTOCOL_ERROR},
      {"a header block that can't be decoded", kHello + frame(kHeaders, kEndHeaders, 1, "\xff\xff\xff\xff\xff\xff"),
       NGHTTP2_COMPRESSION_ERROR},
      {"CONTINUATION of nothing", kHello + frame(kContinuation, kEndHeaders, 1, request()), NGHTTP2_PROTOCOL_ERROR},
      {"a frame within a header block", kHello + frame(kHeaders, 0, 1, request()) + frame(kPing, 0, 0, "12345678"),
       NGHTTP2_PROTOCOL_ERROR},
      {"SETTINGS of a wrong size", kHello + frame(kSettings, 0, 0, "12345"), NGHTTP2_FRAME_SIZE_ERROR},
      {"SETTINGS for a stream", kHello + frame(kSettings, 0, 1), NGHTTP2_PROTOCOL_ERROR},
      {"a window that is too large", kHello + frame(kSettings, 0, 0, std::string("\0\4\xff\xff\xff\xff", 6)),
       NGHTTP2_FLOW_CONTROL_ERROR},
      {"a window that overflows", kHello + frame(kWindow, 0, 0, number(0x7FFFFFFF)), NGHTTP2_FLOW_CONTROL_ERROR},
      {"an update of nothing", kHello + frame(kWindow, 0, 0, zero), NGHTTP2_PROTOCOL_ERROR},
      {"an update of nothing for a stream", kHello + open + frame(kWindow, 0, 1, zero), NGHTTP2_PROTOCOL_ERROR},
      {"PING of a wrong size", kHello + frame(kPing, 0, 0, "1234567"), NGHTTP2_FRAME_SIZE_ERROR},
      {"PUSH_PROMISE", kHello + ask + frame(kPush, kEndHeaders, 1, number(2)), NGHTTP2_PROTOCOL_ERROR},
      {"RST_STREAM of a stream that never was", kHello + frame(kReset, 0, 5, zero), NGHTTP2_PROTOCOL_ERROR},
      {"RST_STREAM of a wrong size", kHello + open + frame(kReset, 0, 1, "123"), NGHTTP2_FRAME_SIZE_ERROR},
  };
  net::Loop loop;
  for (const Mistake& mistake : mistakes) {
    Server server(loop);
    server.pair.say(mistake.bytes);
    net::run_for(loop, milliseconds(20));
    const std::optional<Frame> goaway = server.pair.first(kGoaway, 0);
    ASSERT_TRUE(goaway) << mistake.what;
    EXPECT_EQ(goaway->code(4), mistake.code) << mistake.what << " " << goaway->payload.substr(8);
    EXPECT_FALSE(server.connection->complaint().empty()) << mistake.what;
  }
}

TEST(Http2Server, MistakesOfAStreamEndItAloneAndAreRecorded) {
  const std::string open = frame(kHeaders, kEndHeaders, 1, request("POST"));
  const std::string with_length = frame(kHeaders, kEndHeaders, 1, request("POST") + field("content-length", "3"));
  const Mistake mistakes[] = {
      {"a window that overflows", open + frame(kWindow, 0, 1, number(0x7FFFFFFF)), NGHTTP2_FLOW_CONTROL_ERROR},
      {"less content than announced", with_length + frame(kData, kEndStream, 1, "x"), NGHTTP2_PROTOCOL_ERROR},
      {"more content than announced", with_length + frame(kData, 0, 1, "xxxx"), NGHTTP2_PROTOCOL_ERROR},
      {"a field of one connection", frame(kHeaders, kEndHeaders | kEndStream, 1, request() + field("connection", "x")),
       NGHTTP2_PROTOCOL_ERROR},
      {"a protocol with GET", frame(kHeaders, kEndHeaders, 1, request() + field(":protocol", "websocket")),
       NGHTTP2_PROTOCOL_ERROR},
  };
  net::Loop loop;
  for (const Mistake& mistake : mistakes) {
    Server server(loop, false);
    server.pair.say(kHello + mistake.bytes);
    net::run_for(loop, milliseconds(20));
    const std::optional<Frame> reset = server.pair.first(kReset, 1);
    ASSERT_TRUE(reset) << mistake.what;
    EXPECT_EQ(reset->code(0), mistake.code) << mistake.what;
    EXPECT_FALSE(server.pair.first(kGoaway, 0)) << mistake.what;
    EXPECT_EQ(server.served, 1U) << mistake.what << ": it gets its record";
    server.pair.say(frame(kPing, 0, 0, "12345678"));
    net::run_for(loop, milliseconds(20));
    EXPECT_TRUE(server.pair.first(kPing, 0)) << mistake.what << ": the connection goes on";
  }
}

TEST(Http2Server, FramesThatNobodyKnowsAreIgnored) {
  net::Loop loop;
  Server server(loop);
  server.pair.say(kHello + frame(kUnknown, 0xFF, 0, "whatever") + frame(0x10, 0, 0, number(1) + "u=1") +
                  frame(kHeaders, kEndHeaders | kEndStream, 1, request()));
  net::run_for(loop, milliseconds(20));
  const std::optional<Frame> answer = server.pair.first(kHeaders, 1);
  ASSERT_TRUE(answer);
  EXPECT_NE(answer->flags & kEndStream, 0);
  EXPECT_FALSE(server.pair.first(kGoaway, 0));
}

// So many at once, each in a way of its own: what nghttp2 says nothing of is paid for, too.
TEST(Http2Server, AFloodOfAnyFrameUsesTheBudgetUp) {
  const std::string open = frame(kHeaders, kEndHeaders, 1, request("POST"));
  const std::string gone = frame(kHeaders, kEndHeaders | kEndStream, 1, request());
  const std::pair<const char*, std::pair<std::string, std::string>> floods[] = {
      {"unknown", {"", frame(kUnknown)}},
      {"unknown, with a payload", {"", frame(kUnknown, 0, 1, "x")}},
      {"priority updates", {"", frame(0x10, 0, 0, number(1) + "u=1")}},
      {"priority", {"", frame(kPriority, 0, 1, std::string(5, '\1'))}},
      {"origin", {"", frame(0x0c)}},
      {"settings", {"", frame(kSettings)}},
      {"acknowledgements", {"", frame(kPing, 1, 0, "12345678")}},
      {"empty data", {open, frame(kData, 0, 1)}},
      {"data of padding", {open, frame(kData, kPadded, 1, std::string("\3\0\0\0", 4))}},
      {"data for a stream that is over", {gone, frame(kData, 0, 1, "x")}},
      {"windows of a stream that is over", {gone, frame(kWindow, 0, 1, number(1))}},
  };
  net::Loop loop;
  for (const auto& [what, parts] : floods) {
    Server server(loop);
    server.pair.say(kHello + parts.first);
    net::run_for(loop, milliseconds(10));
    std::string many;
    for (int i = 0; i < 500; ++i) many += parts.second;
    std::size_t sent = 0;
    while (!server.pair.first(kGoaway, 0) && sent < 40'000) {
      server.pair.say(many);
      sent += 500;
      net::run_for(loop, milliseconds(1));
    }
    const std::optional<Frame> goaway = server.pair.first(kGoaway, 0);
    ASSERT_TRUE(goaway) << what;
    EXPECT_EQ(goaway->code(4), NGHTTP2_ENHANCE_YOUR_CALM) << what;
    EXPECT_GE(sent, 9'500U) << what << ": so many are let through";
    EXPECT_LE(sent, 16'000U) << what;
  }
}

TEST(Http2Server, RequestsAndBodiesEarnMoreThanTheyCost) {
  net::Loop loop;
  Server server(loop, false);
  server.pair.say(kHello + frame(kHeaders, kEndHeaders, 1, request("POST")));
  std::string many;
  for (int i = 0; i < 500; ++i) many += frame(kData, 0, 1, "x");
  for (int round = 0; round < 100; ++round) {  // 50,000 frames within the window of 65,535 bytes
    server.pair.say(many);
    net::run_for(loop, milliseconds(1));
  }
  EXPECT_FALSE(server.pair.first(kGoaway, 0));
}

// Windows are promised memory: of all connections together, and only to those that send bodies.
TEST(Http2Server, WindowsAreWidenedUntilTheWorkerHasPromisedEnough) {
  constexpr std::int64_t kMore = limits::kH2ConnectionWindow - 65'535;
  constexpr std::size_t kWide = limits::kH2WindowsPerWorkerMax / kMore;
  net::Loop loop;
  std::vector<std::unique_ptr<Server>> servers;
  const auto widened = [&] {
    std::size_t count = 0;
    for (const auto& server : servers) {
      const std::optional<Frame> update = server->pair.first(kWindow, 0);
      if (!update) continue;
      EXPECT_EQ(update->code(0), static_cast<std::uint32_t>(kMore));
      ++count;
    }
    return count;
  };
  for (std::size_t i = 0; i < kWide + 10; ++i) {
    servers.push_back(std::make_unique<Server>(loop, false));
    servers.back()->pair.say(kHello + frame(kHeaders, kEndHeaders, 1, request("POST")));
  }
  net::run_for(loop, milliseconds(50));
  EXPECT_EQ(widened(), 0U) << "no body, no wider window";
  for (const auto& server : servers) server->pair.say(frame(kData, 0, 1, "x"));
  net::run_for(loop, milliseconds(50));
  EXPECT_EQ(widened(), kWide);
  servers.erase(servers.begin(), servers.begin() + 5);
  for (const auto& server : servers) server->pair.say(frame(kData, 0, 1, "x"));
  net::run_for(loop, milliseconds(50));
  EXPECT_EQ(widened(), kWide) << "five have gone, and five others have come in their place";
}

TEST(Http2Server, MoreThanTheWindowIsNotTakenIn) {
  net::Loop loop;
  Server server(loop, false);
  server.pair.say(kHello + frame(kHeaders, kEndHeaders, 1, request("POST")));
  for (int i = 0; i < 6; ++i) {
    server.pair.say(frame(kData, 0, 1, std::string(16'384, 'x')));
    net::run_for(loop, milliseconds(5));
  }
  const std::optional<Frame> reset = server.pair.first(kReset, 1);
  const std::optional<Frame> goaway = server.pair.first(kGoaway, 0);
  ASSERT_TRUE(reset || goaway);
  EXPECT_EQ(reset ? reset->code(0) : goaway->code(4), NGHTTP2_FLOW_CONTROL_ERROR);
}

TEST(Http2Server, ADrainIsToldTwiceAndLetsStreamsEnd) {
  net::Loop loop;
  Server server(loop, false);
  server.pair.say(kHello + frame(kHeaders, kEndHeaders, 1, request("POST")));
  net::run_for(loop, milliseconds(20));
  server.connection->drain();
  net::run_for(loop, limits::kH2DrainNotice + milliseconds(100));
  std::vector<std::uint32_t> last;
  for (const Frame& one : server.pair.heard()) {
    if (one.kind == kGoaway) last.push_back(one.code(0));
  }
  EXPECT_EQ(last, (std::vector<std::uint32_t>{0x7FFFFFFF, 1}));
  server.pair.say(frame(kHeaders, kEndHeaders | kEndStream, 3, request()));
  net::run_for(loop, milliseconds(20));
  EXPECT_EQ(server.served, 1U) << "what came after the last call is not begun";
  EXPECT_FALSE(server.pair.first(kReset, 1));
}

// The server's side: one request under way on a connection to a server that speaks by hand.
class Client {
 public:
  explicit Client(net::Loop& loop) : loop_(loop) {
    stream_.emplace(loop, std::move(pair.ours), ErrorSource::upstream);
    connection = std::make_shared<ClientConnection>(*stream_);
    loop.spawn(run(connection));
    exchange.emplace(connection);
    loop.spawn(ask());
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() {
    pair.theirs.reset();
    while (!answer || !ended_) net::run_for(loop_, milliseconds(5));
    exchange.reset();
  }

  Pair pair;
  std::shared_ptr<ClientConnection> connection;
  std::optional<ClientExchange> exchange;
  std::optional<Result<http::UpstreamHead>> answer;

 private:
  net::Task<void> run(std::shared_ptr<ClientConnection> kept) {
    co_await kept->run();
    ended_ = true;
  }
  net::Task<void> ask() {
    request::RequestHead head;
    head.method = "GET";
    http::UpstreamExchange::Request request;
    request.head = &head;
    request.target = "/";
    request.authority = "a.example";
    const Result<void> sent = co_await exchange->send(request, http::Chunk{{}, true});
    EXPECT_TRUE(sent);
    answer = co_await exchange->read_head(response_, loop_.in(std::chrono::seconds(20)));
  }

  net::Loop& loop_;
  std::optional<net::Stream> stream_;
  request::ResponseHead response_;
  bool ended_ = false;
};

using Fitness = ClientConnection::Fitness;

TEST(Http2Client, WhatAServerMaySay) {
  struct Case {
    const char* what;
    std::string bytes;
    bool answered, unprocessed;
    Fitness fitness;
  };
  const std::string settings = frame(kSettings);
  const std::string good = frame(kHeaders, kEndHeaders | kEndStream, 1, field(":status", "200"));
  const Case cases[] = {
      {"an answer", settings + good, true, false, Fitness::good},
      {"HTTP/1", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, false, Fitness::broken},
      {"an answer without SETTINGS", good, false, false, Fitness::broken},
      {"HTTP_1_1_REQUIRED for the stream", settings + frame(kReset, 0, 1, number(NGHTTP2_HTTP_1_1_REQUIRED)), false,
       true, Fitness::http1_required},
      {"HTTP_1_1_REQUIRED for all", settings + frame(kGoaway, 0, 0, number(0) + number(NGHTTP2_HTTP_1_1_REQUIRED)),
       false, true, Fitness::http1_required},
      {"REFUSED_STREAM", settings + frame(kReset, 0, 1, number(NGHTTP2_REFUSED_STREAM)), false, true, Fitness::good},
      {"GOAWAY before it", settings + frame(kGoaway, 0, 0, number(0) + number(0)), false, true, Fitness::good},
      {"CANCEL", settings + frame(kReset, 0, 1, number(NGHTTP2_CANCEL)), false, false, Fitness::good},
      {"a push", settings + frame(kSettings, 1) + frame(kPush, kEndHeaders, 1, number(2) + request()), false, false,
       Fitness::broken},
      {"a header block that can't be decoded", settings + frame(kHeaders, kEndHeaders, 1, "\xff\xff\xff\xff\xff\xff"),
       false, false, Fitness::broken},
      {"DATA before the head", settings + frame(kData, 0, 1, "x"), false, false, Fitness::broken},
      {"a status of no digits", settings + frame(kHeaders, kEndHeaders | kEndStream, 1, field(":status", "2x0")), false,
       false, Fitness::good},
      {"a switch of protocols", settings + frame(kHeaders, kEndHeaders, 1, field(":status", "101")), false, false,
       Fitness::good},
      {"a setting that is withdrawn",
       frame(kSettings, 0, 0, std::string("\0\x08\0\0\0\1", 6)) +
           frame(kSettings, 0, 0, std::string("\0\x08\0\0\0\0", 6)),
       false, false, Fitness::broken},
  };
  net::Loop loop;
  for (const Case& one : cases) {
    Client client(loop);
    net::run_for(loop, milliseconds(10));
    client.pair.say(one.bytes);
    net::run_for(loop, milliseconds(30));
    ASSERT_TRUE(client.answer) << one.what << ": who waits is told at once";
    EXPECT_EQ(client.answer->has_value(), one.answered) << one.what;
    EXPECT_EQ(client.exchange->unprocessed(), one.unprocessed) << one.what;
    EXPECT_EQ(client.connection->fitness(), one.fitness) << one.what;
    if (one.fitness != Fitness::good) EXPECT_FALSE(client.connection->usable()) << one.what;
  }
}

TEST(Http2Client, AServerThatHangsUpWithoutAWordSpeaksNoHttp2) {
  net::Loop loop;
  Client client(loop);
  net::run_for(loop, milliseconds(10));
  client.pair.theirs.reset();
  net::run_for(loop, milliseconds(20));
  ASSERT_TRUE(client.answer);
  EXPECT_FALSE(client.answer->has_value());
  EXPECT_EQ(client.connection->fitness(), Fitness::broken);
}

TEST(Http2Client, WebSocketsAreTakenWhereTheSettingsSaySo) {
  net::Loop loop;
  for (const char value : {'\0', '\1'}) {
    Client client(loop);
    EXPECT_FALSE(client.connection->takes_websocket());
    client.pair.say(frame(kSettings, 0, 0, std::string("\0\x08\0\0\0", 5) + value));
    net::run_for(loop, milliseconds(20));
    EXPECT_EQ(client.connection->takes_websocket(), value == 1);
  }
}

}  // namespace
}  // namespace sallyport::http2
