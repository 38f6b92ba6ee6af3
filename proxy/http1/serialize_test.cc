#include "proxy/http1/serialize.h"

#include <gtest/gtest.h>

#include <string>

#include "proxy/http1/parser.h"

namespace sallyport::http1 {
namespace {

using namespace std::string_literals;

std::string request_with(const Framing& framing) {
  request::HeaderList headers;
  std::string out;
  EXPECT_TRUE(serialize_request(out, "POST", "/a", "b", headers, framing));
  return out;
}

TEST(SerializeRequest, WritesTheHead) {
  request::HeaderList headers;
  headers.add("Accept", "*/*");
  headers.add("x-EMPTY", "");
  std::string out = "before|";
  ASSERT_TRUE(serialize_request(out, "GET", "/a?b", "api.example.com:8443", headers, {}));
  EXPECT_EQ(out, "before|GET /a?b HTTP/1.1\r\nHost: api.example.com:8443\r\nAccept: */*\r\nx-EMPTY: \r\n\r\n");
}

TEST(SerializeRequest, WritesEachFraming) {
  const std::string begin = "POST /a HTTP/1.1\r\nHost: b\r\n";
  EXPECT_EQ(request_with({}), begin + "\r\n");
  EXPECT_EQ(request_with({.body = BodyKind::length, .content_length = 0}), begin + "Content-Length: 0\r\n\r\n");
  EXPECT_EQ(request_with({.body = BodyKind::length, .content_length = UINT64_MAX}),
            begin + "Content-Length: 18446744073709551615\r\n\r\n");
  EXPECT_EQ(request_with({.body = BodyKind::chunked}), begin + "Transfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(request_with({.keep_alive = false}), begin + "Connection: close\r\n\r\n");
  EXPECT_EQ(request_with({.keep_alive_spoken = true}), begin + "Connection: keep-alive\r\n\r\n");
  EXPECT_EQ(request_with({.upgrade_websocket = true}), begin + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
  EXPECT_EQ(request_with({.te_trailers = true}), begin + "TE: trailers\r\nConnection: TE\r\n\r\n");
  EXPECT_EQ(request_with({.keep_alive = false, .te_trailers = true}),
            begin + "TE: trailers\r\nConnection: close, TE\r\n\r\n");
}

TEST(SerializeResponse, WritesTheHead) {
  request::HeaderList headers;
  headers.add("Server", "x");
  std::string out;
  ASSERT_TRUE(serialize_response(out, 404, "Not Found", headers, {.body = BodyKind::length, .content_length = 3}));
  EXPECT_EQ(out, "HTTP/1.1 404 Not Found\r\nServer: x\r\nContent-Length: 3\r\n\r\n");
  out.clear();
  ASSERT_TRUE(serialize_response(out, 200, "", headers, {.body = BodyKind::until_close}));
  EXPECT_EQ(out, "HTTP/1.1 200 \r\nServer: x\r\nConnection: close\r\n\r\n");
  out.clear();
  ASSERT_TRUE(serialize_response(out, 101, "Switching Protocols", headers, {.upgrade_websocket = true}));
  EXPECT_EQ(out, "HTTP/1.1 101 Switching Protocols\r\nServer: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
}

TEST(SerializeTrailers, WritesTheLastChunkAndTheFields) {
  request::HeaderList trailers;
  std::string out;
  ASSERT_TRUE(serialize_trailers(out, trailers));
  EXPECT_EQ(out, "0\r\n\r\n");
  trailers.add("X-Sum", "1");
  out.clear();
  ASSERT_TRUE(serialize_trailers(out, trailers));
  EXPECT_EQ(out, "0\r\nX-Sum: 1\r\n\r\n");
}

TEST(Serialize, RefusesWhatWouldInjectALineOrASecondFraming) {
  const struct {
    std::string name;
    std::string value;
  } fields[] = {
      {"X", "a\r\nY: b"},
      {"X", "a\nb"},
      {"X", "a\rb"},
      {"X", "a\0b"s},
      {"X", "\x7f"},
      {"X\r\nY", "a"},
      {"X:", "a"},
      {"X ", "a"},
      {"", "a"},
      {"Host", "a"},
      {"Content-Length", "1"},
      {"transfer-encoding", "chunked"},
      {"Connection", "close"},
      {"Upgrade", "h2c"},
      {"Content_Length", "5"},
      {"TE", "gzip"},
  };
  for (const auto& field : fields) {
    request::HeaderList headers;
    headers.add("Good", "good");
    headers.add(field.name, field.value);
    std::string out = "kept";
    EXPECT_FALSE(serialize_request(out, "GET", "/", "a", headers, {})) << field.name;
    EXPECT_FALSE(serialize_response(out, 200, "OK", headers, {})) << field.name;
    EXPECT_FALSE(serialize_trailers(out, headers)) << field.name;
    EXPECT_EQ(out, "kept");
  }
}

TEST(Serialize, RefusesStartLinesThatAreNone) {
  const request::HeaderList none;
  std::string out = "kept";
  EXPECT_FALSE(serialize_request(out, "", "/", "a", none, {}));
  EXPECT_FALSE(serialize_request(out, "GET /x HTTP/1.1\r\nA:", "/", "a", none, {}));
  EXPECT_FALSE(serialize_request(out, "GET", "", "a", none, {}));
  EXPECT_FALSE(serialize_request(out, "GET", "/ HTTP/1.1\r\nX: ", "a", none, {}));
  EXPECT_FALSE(serialize_request(out, "GET", "/a b", "a", none, {}));
  EXPECT_FALSE(serialize_request(out, "GET", "/\xc3\xbc", "a", none, {}));
  EXPECT_FALSE(serialize_request(out, "GET", "/", "", none, {}));
  EXPECT_FALSE(serialize_request(out, "GET", "/", "a\r\nX: y", none, {}));
  EXPECT_FALSE(serialize_request(out, "GET", "/", "a b", none, {}));
  EXPECT_FALSE(serialize_request(out, "GET", "/", "a", none, {.body = BodyKind::until_close}));
  EXPECT_FALSE(serialize_response(out, 99, "", none, {}));
  EXPECT_FALSE(serialize_response(out, 600, "", none, {}));
  EXPECT_FALSE(serialize_response(out, 200, "OK\r\nX: y", none, {}));
  EXPECT_EQ(out, "kept");
}

TEST(Serialize, IsReadBackByTheParser) {
  request::HeaderList headers;
  headers.add("Accept", "*/*");
  std::string out;
  ASSERT_TRUE(serialize_request(out, "GET", "/a", "b", headers, {.upgrade_websocket = true}));
  std::size_t scanned = 0;
  RequestInfo info;
  request::RequestHead head;
  ParseError error;
  ASSERT_EQ(parse_request(out, scanned, info, head, error), Parse::complete) << error.text;
  EXPECT_TRUE(info.upgrade_websocket);
  EXPECT_EQ(info.head_size, out.size());
  EXPECT_EQ(head.headers.size(), 1u);
}

}  // namespace
}  // namespace sallyport::http1
