#include "proxy/http2/heads.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "proxy/http2/field_writer.h"

namespace sallyport::http2 {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

HeaderBlock block_of(const Fields& fields, std::size_t bytes_max = limits::kHeadBytesMax) {
  HeaderBlock block(bytes_max);
  for (const auto& [name, value] : fields) block.add(name, value);
  return block;
}

Fields request_with(const Fields& more) {
  Fields fields{{":method", "GET"}, {":scheme", "https"}, {":authority", "a.example"}, {":path", "/p"}};
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

struct Parsed {
  bool good = false;
  http1::ParseError error;
  RequestInfo info;
  request::RequestHead head;
  HeaderBlock block{0};
};

std::unique_ptr<Parsed> parse(const Fields& fields, request::Scheme scheme = request::Scheme::https) {
  auto parsed = std::make_unique<Parsed>();
  parsed->block = block_of(fields);
  parsed->good = parse_request(parsed->block, scheme, parsed->info, parsed->head, parsed->error);
  return parsed;
}

TEST(Http2Heads, ReadsARequest) {
  const auto parsed = parse(request_with({{"x-a", "1"}, {"content-length", "7"}, {"te", "trailers"}, {"x-b", ""}}));
  ASSERT_TRUE(parsed->good) << parsed->error.text;
  EXPECT_EQ(parsed->head.method, "GET");
  EXPECT_EQ(parsed->head.target, "/p");
  EXPECT_EQ(parsed->head.authority, "a.example");
  ASSERT_EQ(parsed->head.headers.size(), 2U);
  EXPECT_EQ(parsed->head.headers[0].name, "x-a");
  EXPECT_EQ(parsed->info.content_length, 7U);
  EXPECT_TRUE(parsed->info.accepts_trailers);
}

TEST(Http2Heads, JoinsCookiesAndTakesHostForAuthority) {
  Fields fields{{":method", "GET"}, {":scheme", "http"}, {":path", "/"},   {"host", "a.example"},
                {"cookie", "a=1"},  {"x", "y"},          {"cookie", "b=2"}};
  const auto parsed = parse(fields, request::Scheme::http);
  ASSERT_TRUE(parsed->good) << parsed->error.text;
  EXPECT_EQ(parsed->head.authority, "a.example");
  ASSERT_NE(parsed->head.headers.find("cookie"), nullptr);
  EXPECT_EQ(parsed->head.headers.find("cookie")->value, "a=1; b=2");
  EXPECT_EQ(parsed->head.headers.count("cookie"), 1U);
}

TEST(Http2Heads, EmptyCrumbsOfCookiesLeaveNothingBehind) {
  const auto parsed = parse(request_with({{"cookie", ""}, {"cookie", "a=1"}, {"cookie", ""}, {"cookie", ""}}));
  ASSERT_TRUE(parsed->good) << parsed->error.text;
  ASSERT_EQ(parsed->head.headers.size(), 1U);
  EXPECT_EQ(parsed->head.headers[0].value, "a=1");
}

TEST(Http2Heads, AcceptsAHostThatSaysTheSame) {
  EXPECT_TRUE(parse(request_with({{"host", "A.example"}}))->good);
  EXPECT_FALSE(parse(request_with({{"host", "b.example"}}))->good);
}

TEST(Http2Heads, RefusesEveryFieldThatHttp1WouldReadInItsOwnWay) {
  const Fields bad[] = {
      {{"transfer-encoding", "chunked"}},
      {{"connection", "x"}},
      {{"keep-alive", "1"}},
      {{"proxy-connection", "x"}},
      {{"upgrade", "h2c"}},
      {{"te", "gzip"}},
      {{"expect", "x"}},
      {{"content_length", "1"}},
      {{"transfer_encoding", "chunked"}},
      {{"content-length", "+1"}},
      {{"content-length", ""}},
      {{"content-length", "1"}, {"content-length", "1"}},
      {{"content-length", "9223372036854775808"}},
      {{"X", "1"}},
      {{"", "1"}},
      {{"a b", "1"}},
      {{"a:", "1"}},
      {{"a\r\nb", "1"}},
      {{"a", "1\r\nb: 2"}},
      {{"a", std::string("1\0", 2)}},
      {{"a", "1\n"}},
      {{"a", " 1"}},
      {{"a", "1\t"}},
      {{":path", "/q"}},
      {{"a", "1"}, {":path", "/q"}},
      {{":status", "200"}},
      {{":protocol", "websocket"}},
      {{"host", ""}},
      {{"host", "a.example"}, {"host", "a.example"}},
  };
  for (const Fields& more : bad) {
    EXPECT_FALSE(parse(request_with(more))->good) << more[0].first << ": " << more[0].second;
  }
}

TEST(Http2Heads, RefusesPseudoFieldsThatAreMissingOrOdd) {
  const Fields whole = request_with({});
  for (std::size_t i = 0; i < whole.size(); ++i) {
    Fields fields = whole;
    fields.erase(fields.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_FALSE(parse(fields)->good) << "without " << whole[i].first;
  }
  const std::pair<std::size_t, const char*> odd[] = {
      {0, "get"},  {0, "CONNECT"}, {0, "G T"},   {0, ""},  {0, "GET / HTTP/1.1\r\n"},
      {1, "http"}, {1, "HTTPS"},   {2, ""},      {3, ""},  {3, "p"},
      {3, "/a b"}, {3, "/\r\n"},   {3, "/\xff"}, {3, "*"}, {3, "https://a.example/"},
  };
  for (const auto& [at, value] : odd) {
    Fields fields = whole;
    fields[at].second = value;
    EXPECT_FALSE(parse(fields)->good) << fields[at].first << " " << value;
  }
}

TEST(Http2Heads, BoundsTheListAndTheTarget) {
  const auto many = parse(request_with(Fields(300, {"a", "b"})));
  EXPECT_EQ(many->error.reason, Reason::head_too_large);
  const auto large = parse(request_with({{"a", std::string(70'000, 'x')}}));
  EXPECT_EQ(large->error.reason, Reason::head_too_large);
  Fields fields = request_with({});
  fields[3].second = "/" + std::string(limits::kRequestTargetBytesMax, 'x');
  EXPECT_EQ(parse(fields)->error.reason, Reason::head_too_large);
  fields = request_with({});
  fields[0].second = std::string(limits::kMethodBytesMax, 'X');
  EXPECT_TRUE(parse(fields)->good);
  fields[0].second += 'X';
  EXPECT_EQ(parse(fields)->error.reason, Reason::unsupported_method);
}

TEST(Http2Heads, AnExtendedConnectIsAWebSocketAndAGet) {
  const Fields fields{{":method", "CONNECT"},      {":protocol", "websocket"}, {":scheme", "https"},
                      {":authority", "a.example"}, {":path", "/chat"},         {"sec-websocket-version", "13"},
                      {"sec-websocket-key", "x"}};
  const auto parsed = parse(fields);
  ASSERT_TRUE(parsed->good) << parsed->error.text;
  EXPECT_TRUE(parsed->info.websocket);
  EXPECT_EQ(parsed->head.method, "GET");
  EXPECT_EQ(parsed->head.target, "/chat");
  EXPECT_EQ(parsed->head.headers.find("sec-websocket-key"), nullptr);
  EXPECT_NE(parsed->head.headers.find("sec-websocket-version"), nullptr);
  EXPECT_FALSE(parse(request_with({}))->info.websocket);
}

TEST(Http2Heads, RefusesOtherConnectsAndOtherProtocols) {
  const auto connect = [](const Fields& more, std::string_view without = {}) {
    Fields fields{{":method", "CONNECT"},
                  {":protocol", "websocket"},
                  {":scheme", "https"},
                  {":authority", "a.example"},
                  {":path", "/chat"}};
    std::erase_if(fields, [&](const auto& field) { return field.first == without; });
    fields.insert(fields.end(), more.begin(), more.end());
    return parse(fields);
  };
  ASSERT_TRUE(connect({})->good);
  EXPECT_EQ(connect({}, ":protocol")->error.reason, Reason::unsupported_method);
  for (const char* other : {"connect-udp", "WebSocket", "websocket,h2c", ""}) {
    EXPECT_EQ(connect({{":protocol", other}}, ":protocol")->error.reason, Reason::unsupported_method) << other;
  }
  for (const char* needed : {":scheme", ":path", ":authority", ":method"}) {
    EXPECT_FALSE(connect({}, needed)->good) << needed;
  }
  EXPECT_FALSE(connect({{":protocol", "websocket"}})->good);
  EXPECT_FALSE(connect({{"content-length", "0"}})->good);
  EXPECT_FALSE(connect({{"expect", "100-continue"}})->good);
  EXPECT_FALSE(connect({{":method", "GET"}}, ":method")->good);
}

TEST(Http2Heads, RefusesWhatNghttp2LeftOut) {
  HeaderBlock block = block_of(request_with({}));
  block.spoil();
  RequestInfo info;
  request::RequestHead head;
  http1::ParseError error;
  EXPECT_FALSE(parse_request(block, request::Scheme::https, info, head, error));
}

TEST(Http2Heads, ReadsResponses) {
  ResponseInfo info;
  request::ResponseHead head;
  http1::ParseError error;
  EXPECT_TRUE(parse_response(block_of({{":status", "204"}, {"a", "b"}}), info, head, error));
  EXPECT_EQ(head.status, 204);
  for (const char* status : {"20", "2000", "099", "600", "101", "2x0", ""}) {
    EXPECT_FALSE(parse_response(block_of({{":status", status}}), info, head, error)) << status;
    EXPECT_EQ(error.reason, Reason::upstream_malformed);
  }
  EXPECT_FALSE(parse_response(block_of({{"a", "b"}}), info, head, error));
}

TEST(Http2Heads, TrailersKeepWhatMayStandThere) {
  request::HeaderList trailers;
  http1::ParseError error;
  const HeaderBlock good = block_of({{"grpc-status", "0"}, {"authorization", "x"}});
  ASSERT_TRUE(parse_trailers(good, trailers, error));
  ASSERT_EQ(trailers.size(), 1U);
  EXPECT_EQ(trailers[0].name, "grpc-status");
  for (const char* name : {"content-length", "host", "transfer-encoding", ":path", "A"}) {
    EXPECT_FALSE(parse_trailers(block_of({{name, "1"}}), trailers, error)) << name;
  }
}

std::string written(const FieldWriter& writer) {
  std::string text;
  for (const nghttp2_nv& field : writer.fields()) {
    text.append(reinterpret_cast<const char*>(field.name), field.namelen) += "=";
    text.append(reinterpret_cast<const char*>(field.value), field.valuelen) += ";";
  }
  return text;
}

TEST(Http2FieldWriter, AWebSocketIsAskedForByConnectAndWithoutItsKey) {
  FieldWriter writer;
  request::HeaderList headers;
  headers.add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
  headers.add("Sec-WebSocket-Version", "13");
  ASSERT_TRUE(writer.request({"GET", "a.example", "/chat", "websocket"}, headers, std::nullopt, false));
  EXPECT_EQ(written(writer),
            ":method=CONNECT;:protocol=websocket;:scheme=https;:authority=a.example;:path=/chat;"
            "sec-websocket-version=13;");
  ASSERT_TRUE(writer.request({"GET", "a.example", "/chat"}, headers, std::nullopt, false));
  EXPECT_EQ(written(writer).substr(0, 26), ":method=GET;:scheme=https;");
  EXPECT_NE(written(writer).find("sec-websocket-key="), std::string::npos);
}

TEST(Http2FieldWriter, WritesLowerCaseAndNothingThatFrames) {
  FieldWriter writer;
  request::HeaderList headers;
  headers.add("Content-Type", "text/plain");
  ASSERT_TRUE(writer.response(200, headers, 5));
  EXPECT_EQ(written(writer), ":status=200;content-type=text/plain;content-length=5;");
  for (const char* name : {"Connection", "Transfer-Encoding", "Content-Length", "Upgrade", "Keep-Alive", "a b", ":a"}) {
    request::HeaderList bad;
    bad.add(name, "1");
    EXPECT_FALSE(writer.response(200, bad, std::nullopt)) << name;
  }
  request::HeaderList split;
  split.add("a", "1\r\nb: 2");
  EXPECT_FALSE(writer.response(200, split, std::nullopt));
  EXPECT_FALSE(writer.response(101, headers, std::nullopt));
}

}  // namespace
}  // namespace sallyport::http2
