#include "proxy/http1/parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "base/limits.h"

namespace sallyport::http1 {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

struct Request {
  std::string text;  // the head points into it
  Parse result = Parse::incomplete;
  RequestInfo info;
  request::RequestHead head;
  ParseError error;
};

struct Response {
  std::string text;
  Parse result = Parse::incomplete;
  ResponseInfo info;
  request::ResponseHead head;
  ParseError error;
};

void parse(Request& request, std::string text) {
  std::size_t scanned = 0;
  request.text = std::move(text);
  request.result = parse_request(request.text, scanned, request.info, request.head, request.error);
}

void parse(Response& response, std::string text, bool request_was_head = false) {
  std::size_t scanned = 0;
  response.text = std::move(text);
  response.result =
      parse_response(response.text, scanned, request_was_head, response.info, response.head, response.error);
}

std::string fields_of(const request::HeaderList& headers) {
  std::string text;
  for (const request::Header& field : headers) text.append(field.name).append("=").append(field.value).append("|");
  return text;
}

// A request of these fields, which otherwise is a good one.
std::string get(const std::string& fields) { return "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n"; }
std::string ok(const std::string& fields) { return "HTTP/1.1 200 OK\r\n" + fields + "\r\n"; }

TEST(ParseConnect, ReadsWhatClientsSend) {
  for (
      const std::string& head :
      {"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Connection: Keep-Alive\r\n\r\n"s,
       "CONNECT a.example:443 HTTP/1.0\r\n\r\n"s,
       "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nProxy-Authorization: Basic eA==\r\nContent-Length: 0\r\n\r\n"s}) {
    Request request;
    std::size_t scanned = 0;
    request.text = head + "more";
    ASSERT_EQ(parse_connect(request.text, scanned, request.info, request.head, request.error), Parse::complete) << head;
    EXPECT_EQ(request.head.target, "a.example:443");
    EXPECT_EQ(request.info.head_size, head.size());
    EXPECT_EQ(fields_of(request.head.headers), "") << "nothing of it goes further";
  }
}

TEST(ParseConnect, RefusesTheRest) {
  for (const std::string& head :
       {"CONNECT a.example:443 HTTP/1.1\r\n\r\n"s, "CONNECT  a:443 HTTP/1.1\r\nHost: a\r\n\r\n"s,
        "connect a:443 HTTP/1.1\r\nHost: a\r\n\r\n"s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"s,
        "CONNECT a:443 HTTP/2.0\r\nHost: a\r\n\r\n"s, "CONNECT a:443 HTTP/1.1\nHost: a\n\n"s,
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"s,
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"s,
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"s, "CONNECT a:443\r\n\r\n"s}) {
    Request request;
    std::size_t scanned = 0;
    request.text = head;
    EXPECT_EQ(parse_connect(request.text, scanned, request.info, request.head, request.error), Parse::error) << head;
  }
}

TEST(ParseRequest, ReadsATypicalHead) {
  const std::string head =
      "POST /v1/charges?x=1 HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\nContent-Type:  text/plain \t\r\n"
      "Content-Length: 12\r\nX-Empty:\r\nX-Utf8: b\xc3\xbc"
      "cher\r\n\r\n";
  Request request;
  parse(request, head + "hello world!");
  ASSERT_EQ(request.result, Parse::complete) << request.error.text;
  EXPECT_EQ(request.head.method, "POST");
  EXPECT_EQ(request.head.target, "/v1/charges?x=1");
  EXPECT_EQ(request.head.authority, "api.example.com");
  EXPECT_EQ(fields_of(request.head.headers),
            "Accept=*/*|Content-Type=text/plain|X-Empty=|X-Utf8=b\xc3\xbc"
            "cher|");
  EXPECT_EQ(request.info.head_size, head.size());
  EXPECT_EQ(request.info.version_minor, 1);
  EXPECT_EQ(request.info.body, BodyKind::length);
  EXPECT_EQ(request.info.content_length, 12u);
  EXPECT_TRUE(request.info.keep_alive);
  EXPECT_FALSE(request.info.expect_continue);
}

TEST(ParseRequest, PointsIntoTheInput) {
  Request request;
  parse(request, get("X-A: value\r\n"));
  ASSERT_EQ(request.result, Parse::complete);
  EXPECT_EQ(request.head.headers[0].value.data(), request.text.data() + request.text.find("value"));
}

TEST(ParseRequest, TellsHowTheBodyEnds) {
  const struct {
    std::string text;
    BodyKind body;
    std::uint64_t length;
  } cases[] = {
      {get(""), BodyKind::none, 0},
      {get("Content-Length: 0\r\n"), BodyKind::length, 0},
      {get("content-length:007\r\n"), BodyKind::length, 7},
      {get("Content-Length: 9223372036854775807\r\n"), BodyKind::length, 9223372036854775807u},
      {get("Transfer-Encoding: chunked\r\n"), BodyKind::chunked, 0},
      {get("transfer-encoding:\t CHUNKED \r\n"), BodyKind::chunked, 0},
      {"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\n", BodyKind::length, 3},
  };
  for (const auto& test : cases) {
    Request request;
    parse(request, test.text);
    ASSERT_EQ(request.result, Parse::complete) << test.text << request.error.text;
    EXPECT_EQ(request.info.body, test.body) << test.text;
    EXPECT_EQ(request.info.content_length, test.length) << test.text;
    EXPECT_EQ(request.head.headers.size(), 0u) << test.text;
  }
}

TEST(ParseRequest, RefusesWhatTwoParsersCouldReadInTwoWays) {
  const struct {
    std::string text;
    const char* says;
  } cases[] = {
      // The request line.
      {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "CRLF"},
      {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "version"},
      {"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "CRLF"},
      {"GET / HTTP/1.1\nHost: a\r\n\r\n", "CRLF"},
      {"GET / HTTP/1.1\rHost: a\r\n\r\n", "CRLF"},
      {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "version"},
      {"GET /\r\n\r\n", "target"},  // HTTP/0.9
      {"GET /\n", "target"},
      {"GET / \r\n\r\n", "version"},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "version"},
      {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "version"},
      {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", "CRLF"},
      {"GET / HTTP/01.1\r\nHost: a\r\n\r\n", "version"},
      {"GET / HTTP/1,1\r\nHost: a\r\n\r\n", "version"},
      {"GET / http/1.1\r\nHost: a\r\n\r\n", "version"},
      {"GET / HTTPS/1.1\r\nHost: a\r\n\r\n", "version"},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "target"},
      {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n"s, "method"},
      {"G\xc3T / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {": / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"GET HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET \\x HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"s, "target"},
      {"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      {"GET /\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
      // TLS on a port where HTTP was expected.
      {"\x16\x03\x01\x02", "method"},
      // Field lines.
      {get("X-A : 1\r\n"), "before the colon"},
      {get("X-A\t: 1\r\n"), "before the colon"},
      {get("Transfer-Encoding : chunked\r\n"), "before the colon"},
      {get(" X-A: 1\r\n"), "folded"},
      {get("X-A: 1\r\n X-B: 2\r\n"), "folded"},
      {get("X-A: 1\r\n\t2\r\n"), "folded"},
      {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "folded"},
      {get(": 1\r\n"), "no name"},
      {get("X-A\r\n"), "no colon"},
      {get("X A: 1\r\n"), "before the colon"},
      {get("X(A: 1\r\n"), "field name"},
      {get("X\xc3\xbc: 1\r\n"), "field name"},
      {get("X\0A: 1\r\n"s), "field name"},
      {get("X-A: 1\n"), "LF alone"},
      {get("X-A: 1\nX-B: 2\r\n"), "LF alone"},
      {get("X-A: 1\rX-B: 2\r\n"), "CR that does not end"},
      {get("X-A: 1\r\r\n"), "CR that does not end"},
      {get("X-A: \0\r\n"s), "control"},
      {get("X-A: a\x0b"
           "b\r\n"),
       "control"},
      {get("X-A: a\x7f"
           "b\r\n"),
       "control"},
      {get("X-A: abcdefgh\x01"
           "ijklmnop\r\n"),
       "control"},
      {"GET / HTTP/1.1\r\nHost: a\r\n\rX", "CRLF"},
      {"GET / HTTP/1.1\r\nHost: a\r\n\n", "no colon"},
      // Host.
      {"GET / HTTP/1.1\r\n\r\n", "no Host"},
      {"GET http://a/ HTTP/1.1\r\n\r\n", "no Host"},
      {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "Host is empty"},
      {"GET / HTTP/1.1\r\nHost: \t \r\n\r\n", "Host is empty"},
      {"GET / HTTP/1.0\r\nHost:\r\n\r\n", "Host is empty"},
      {get("Host: a\r\n"), "more than one Host"},
      {get("hOST: b\r\n"), "more than one Host"},
      {"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "more than one Host"},
      // Content-Length.
      {get("Content-Length:\r\n"), "empty"},
      {get("Content-Length: +5\r\n"), "not a number"},
      {get("Content-Length: -1\r\n"), "not a number"},
      {get("Content-Length: 0x5\r\n"), "not a number"},
      {get("Content-Length: 5 5\r\n"), "not a number"},
      {get("Content-Length: 5, 5\r\n"), "not a number"},
      {get("Content-Length: 5,\r\n"), "not a number"},
      {get("Content-Length: 5.0\r\n"), "not a number"},
      {get("Content-Length: 1e3\r\n"), "not a number"},
      {get("Content-Length: \xef\xbc\x95\r\n"), "not a number"},
      {get("Content-Length: \xa0"
           "5\r\n"),
       "not a number"},
      {get("Content-Length: 9223372036854775808\r\n"), "too large"},
      {get("Content-Length: 18446744073709551621\r\n"), "too large"},
      {get("Content-Length: 99999999999999999999999999\r\n"), "too large"},
      {get("Content-Length: 5\r\nContent-Length: 5\r\n"), "more than one Content-Length"},
      {get("Content-Length: 5\r\ncontent-length: 6\r\n"), "more than one Content-Length"},
      {get("Content_Length: 5\r\n"), "hyphen"},
      {get("content-length: 5\r\nCONTENT_LENGTH: 6\r\n"), "hyphen"},
      // Transfer-Encoding: what Beast took for no body, and more.
      {get("Transfer-Encoding: xchunked\r\n"), "exactly"},
      {get("Transfer-Encoding: chunkedx\r\n"), "exactly"},
      {get("Transfer-Encoding: identity\r\n"), "exactly"},
      {get("Transfer-Encoding: chunked, identity\r\n"), "exactly"},
      {get("Transfer-Encoding: chunked, chunked\r\n"), "exactly"},
      {get("Transfer-Encoding: gzip, chunked\r\n"), "exactly"},
      {get("Transfer-Encoding: , chunked\r\n"), "exactly"},
      {get("Transfer-Encoding: chunked,\r\n"), "exactly"},
      {get("Transfer-Encoding: chunked;q=1\r\n"), "exactly"},
      {get("Transfer-Encoding: \"chunked\"\r\n"), "exactly"},
      {get("Transfer-Encoding:\r\n"), "exactly"},
      {get("Transfer-Encoding: \xa0"
           "chunked\r\n"),
       "exactly"},
      {get("Transfer-Encoding: \x0b"
           "chunked\r\n"),
       "control"},
      {get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "more than one Transfer-Encoding"},
      {get("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), "more than one Transfer-Encoding"},
      {get("Transfer_Encoding: chunked\r\n"), "hyphen"},
      {get("Transfer.Encoding: chunked\r\n"), "hyphen"},
      {get("CONTENT!LENGTH: 5\r\n"), "hyphen"},
      {get("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "in one message"},
      {get("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), "in one message"},
      {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"},
      // Connection.
      {get("Connection: close, Host\r\n"), "not the connection's"},
      {get("Connection: content-length\r\n"), "not the connection's"},
      {get("Connection: Authorization\r\n"), "not the connection's"},
      {get("Connection: cookie\r\n"), "not the connection's"},
      {get("Connection: x-amz-security-token\r\n"), "not the connection's"},
      {get("Connection: a b\r\n"), "not a token"},
      {get("Connection: \"close\"\r\n"), "not a token"},
      // Expect.
      {get("Expect: 100-continu\r\n"), "Expect"},
      {get("Expect: x 100-continue\r\n"), "Expect"},
      {get("Expect:\r\n"), "Expect"},
      {get("Expect: 100-continue\r\nExpect: 100-continue\r\n"), "Expect"},
  };
  for (const auto& test : cases) {
    Request request;
    parse(request, test.text);
    ASSERT_EQ(request.result, Parse::error) << test.text;
    EXPECT_EQ(request.error.reason, Reason::malformed_http) << test.text;
    EXPECT_THAT(std::string(request.error.text), HasSubstr(test.says)) << test.text;
  }
}

TEST(ParseRequest, DoesNotSupportConnect) {
  for (const char* text : {"CONNECT a:443 HTTP/1.1\r\n", "connect a:443 HTTP/1.1\r\n", "CONNECT "}) {
    Request request;
    parse(request, text);
    ASSERT_EQ(request.result, Parse::error) << text;
    EXPECT_EQ(request.error.reason, Reason::unsupported_method);
  }
}

TEST(ParseRequest, DoesNotSupportMethodsWithSmallLetters) {
  for (const char* text : {"get / HTTP/1.1\r\nHost: a\r\n\r\n", "GETa / HTTP/1.1\r\nHost: a\r\n\r\n", "heaD "}) {
    Request request;
    parse(request, text);
    ASSERT_EQ(request.result, Parse::error) << text;
    EXPECT_EQ(request.error.reason, Reason::unsupported_method);
  }
}

TEST(ParseRequest, DoesNotSupportMethodsThatNobodyRegisters) {
  for (const std::size_t size : {limits::kMethodBytesMax, limits::kMethodBytesMax + 1}) {
    Request request;
    const std::string text = std::string(size, 'X') + " / HTTP/1.1\r\nHost: a\r\n\r\n";
    parse(request, text);
    const bool good = size == limits::kMethodBytesMax;
    ASSERT_EQ(request.result, good ? Parse::complete : Parse::error) << size;
    if (!good) EXPECT_EQ(request.error.reason, Reason::unsupported_method);
  }
}

TEST(ParseRequest, TakesTheOtherFormsOfTargets) {
  for (const char* target : {"http://a/b", "HTTPS://a:1/", "http://a", "/", "//a", "/a?b#c"}) {
    Request request;
    const std::string text = "GET " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n\r\n";
    parse(request, text);
    EXPECT_EQ(request.result, Parse::complete) << target;
    EXPECT_EQ(request.head.target, target);
  }
  Request request;
  parse(request, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(request.result, Parse::complete);
}

TEST(ParseRequest, SkipsOneEmptyLineBeforeTheRequest) {
  Request request;
  const std::string text = "\r\n" + get("");
  parse(request, text);
  ASSERT_EQ(request.result, Parse::complete);
  EXPECT_EQ(request.info.head_size, text.size());
  EXPECT_EQ(request.head.method, "GET");
}

TEST(ParseRequest, LeavesWhatFollowsTheHeadAlone) {
  const std::string first = get("");
  Request request;
  const std::string text = first + "GET /second HTTP/1.1\r\n\0\x01"s;
  parse(request, text);
  ASSERT_EQ(request.result, Parse::complete);
  EXPECT_EQ(request.info.head_size, first.size());
}

TEST(ParseRequest, TakesTheFieldsOfTheConnectionOut) {
  Request request;
  const std::string text =
      get("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic "
          "x\r\nproxy-authenticate: y\r\n"
          "TE: deflate, trailers\r\nTrailer: X-Sum\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-Hop: 1\r\nX-Keep: 2\r\n"
          "Connection: Upgrade, HTTP2-Settings , te\r\nConnection: ,x-hop,, close\r\nx-hop: again\r\n");
  parse(request, text);
  ASSERT_EQ(request.result, Parse::complete) << request.error.text;
  EXPECT_EQ(fields_of(request.head.headers), "Trailer=X-Sum|X-Keep=2|");
  EXPECT_TRUE(request.info.accepts_trailers);
  EXPECT_TRUE(request.info.other_upgrade);
  EXPECT_FALSE(request.info.upgrade_websocket);
  EXPECT_FALSE(request.info.keep_alive);
}

TEST(ParseRequest, LimitsHowManyFieldsConnectionNames) {
  std::string options = "Connection: x";
  for (std::size_t i = 1; i < limits::kConnectionOptionsMax; ++i) options += ",x";
  Request request;
  parse(request, get(options + "\r\n"));
  EXPECT_EQ(request.result, Parse::complete);
  parse(request, get(options + ",x\r\n"));
  EXPECT_EQ(request.result, Parse::error);
  parse(request, get(options + "\r\nConnection: y\r\n"));
  EXPECT_EQ(request.result, Parse::error);
}

TEST(ParseRequest, KnowsWhetherTheConnectionIsKept) {
  const struct {
    const char* line;
    bool keep_alive;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Close\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-close\r\n\r\n", true},
      {"GET / HTTP/1.0\r\n\r\n", false},
      {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
      {"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false},
      {"GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n", false},
  };
  for (const auto& test : cases) {
    Request request;
    parse(request, test.line);
    ASSERT_EQ(request.result, Parse::complete) << test.line;
    EXPECT_EQ(request.info.keep_alive, test.keep_alive) << test.line;
  }
}

TEST(ParseRequest, KnowsUpgradesToWebSocket) {
  const struct {
    std::string text;
    bool websocket;
    bool other;
  } cases[] = {
      {get("Upgrade: websocket\r\nConnection: Upgrade\r\n"), true, false},
      {get("Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n"), true, false},
      {get("Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n"), true, false},
      {get("Upgrade: websocket\r\n"), false, true},
      {get("Connection: upgrade\r\n"), false, false},
      {get("Upgrade: h2c\r\nConnection: Upgrade\r\n"), false, true},
      {get("Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n"), false, true},
      {get("Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"), false, true},
      {get("Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"), false, true},
      {get("Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n"), false, true},
      {get("Upgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n"), false, true},
      {"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", false, true},
      {"GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", false, true},
  };
  for (const auto& test : cases) {
    Request request;
    parse(request, test.text);
    ASSERT_EQ(request.result, Parse::complete) << test.text;
    EXPECT_EQ(request.info.upgrade_websocket, test.websocket) << test.text;
    EXPECT_EQ(request.info.other_upgrade, test.other) << test.text;
    EXPECT_EQ(request.head.headers.size(), 0u);
  }
}

TEST(ParseRequest, PassesExpectContinueOnButNotFromHttp10) {
  Request request;
  parse(request, get("Expect: 100-Continue\r\nContent-Length: 1\r\n"));
  ASSERT_EQ(request.result, Parse::complete);
  EXPECT_TRUE(request.info.expect_continue);
  EXPECT_EQ(request.head.headers.count("expect"), 1u);
  parse(request, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
  ASSERT_EQ(request.result, Parse::complete);
  EXPECT_FALSE(request.info.expect_continue);
  EXPECT_EQ(request.head.headers.count("expect"), 0u);
}

TEST(ParseRequest, HasCapsOnEverythingThatGrows) {
  const std::string long_target = "/" + std::string(limits::kRequestTargetBytesMax - 1, 'a');
  Request request;
  parse(request, "GET " + long_target + " HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(request.result, Parse::complete);
  parse(request, "GET " + long_target + "a HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_EQ(request.result, Parse::error);
  EXPECT_EQ(request.error.reason, Reason::head_too_large);
  parse(request, "GET " + long_target + "a");
  EXPECT_EQ(request.error.reason, Reason::head_too_large);

  std::string fields;
  for (std::size_t i = 1; i < limits::kHeaderCountMax; ++i) fields += "a:\r\n";
  parse(request, get(fields));
  EXPECT_EQ(request.result, Parse::complete);
  EXPECT_EQ(request.head.headers.size(), limits::kHeaderCountMax - 1);
  parse(request, get(fields + "a:\r\n"));
  ASSERT_EQ(request.result, Parse::error);
  EXPECT_EQ(request.error.reason, Reason::head_too_large);

  const std::size_t fixed = get("X: \r\n").size();
  const std::string full = get("X: " + std::string(limits::kHeadBytesMax - fixed, 'a') + "\r\n");
  ASSERT_EQ(full.size(), limits::kHeadBytesMax);
  parse(request, full);
  EXPECT_EQ(request.result, Parse::complete);
  parse(request, get("X: a" + std::string(limits::kHeadBytesMax - fixed, 'a') + "\r\n"));
  ASSERT_EQ(request.result, Parse::error);
  EXPECT_EQ(request.error.reason, Reason::head_too_large);
}

// Every byte that is not in the alphabet of its place is refused, wherever in the place it stands.
TEST(ParseRequest, ChecksEveryByteOfMethodTargetNameAndValue) {
  const std::string token = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const bool is_token_char = c != 0 && token.find(c) != std::string::npos;
    const bool is_target_char = byte >= 0x21 && byte <= 0x7e;
    const bool is_value_char = byte == '\t' || (byte >= 0x20 && byte != 0x7f);
    for (std::size_t before = 0; before < 20; ++before) {
      const std::string word = std::string(before, 'x') + c + std::string(20 - before, 'y');
      Request request;
      std::string method = word;
      std::ranges::transform(method, method.begin(), [c](char one) { return one == c ? c : one == 'x' ? 'X' : 'Y'; });
      parse(request, method + " / HTTP/1.1\r\nHost: a\r\n\r\n");
      EXPECT_EQ(request.result == Parse::complete, is_token_char && !(c >= 'a' && c <= 'z')) << byte;
      parse(request, "GET /" + word + " HTTP/1.1\r\nHost: a\r\n\r\n");
      EXPECT_EQ(request.result == Parse::complete, is_target_char) << byte;
      if (c != ':') {
        parse(request, get("x" + word + ": 1\r\n"));
        EXPECT_EQ(request.result == Parse::complete, is_token_char) << byte;
      }
      parse(request, get("X: v" + word + "\r\n"));
      EXPECT_EQ(request.result == Parse::complete, is_value_char) << byte;
    }
  }
}

TEST(ParseRequest, GivesTheSameResultHoweverTheInputIsCut) {
  const std::string text = "\r\nPOST /a/b?c HTTP/1.1\r\nHost: example.com\r\nX-Long: " + std::string(300, 'v') +
                           "\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (std::size_t step = 1; step < 60; ++step) {
    Request request;
    std::size_t scanned = 0;
    for (std::size_t size = step; request.result == Parse::incomplete; size += step) {
      const std::string copy = text.substr(0, size);  // an own buffer: reading past its end would show
      request.result = parse_request(copy, scanned, request.info, request.head, request.error);
      ASSERT_EQ(request.result, size < text.size() ? Parse::incomplete : Parse::complete) << step << " " << size;
      if (request.result == Parse::complete) {
        EXPECT_EQ(request.info.head_size, text.size());
        EXPECT_EQ(request.info.body, BodyKind::chunked);
        EXPECT_EQ(request.head.method, "POST");
        EXPECT_EQ(request.head.headers[0].value, std::string(300, 'v'));
        EXPECT_EQ(scanned, 0u);
      }
    }
  }
}

TEST(ParseRequest, ReportsWrongBytesBeforeTheHeadIsComplete) {
  const struct {
    const char* text;
    std::size_t at_most;  // bytes that may be taken before the error
  } cases[] = {
      {"\x16\x03\x01\x02\x00\x01", 1},
      {" GET / HTTP/1.1\r\n", 1},
      {"GET / HTTP/1.1\nHost: a\nX: b\n", 15},
      {"GET / HTTP/2.0\r\nHost: a\r\nX: b\r\nX: b\r\n", 16},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nX: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\r\n", 64},
  };
  for (const auto& test : cases) {
    Request request;
    std::size_t scanned = 0;
    std::size_t size = 0;
    while (request.result == Parse::incomplete && size < std::string_view(test.text).size()) {
      request.result = parse_request({test.text, ++size}, scanned, request.info, request.head, request.error);
    }
    EXPECT_EQ(request.result, Parse::error) << test.text;
    EXPECT_LE(size, test.at_most) << test.text;
  }
}

TEST(ParseRequest, IsNotQuadraticForAClientThatSendsByteByByte) {
  const std::string text = get("X: " + std::string(60'000, 'a') + "\r\nY: " + std::string(5'000, 'b') + "\r\n");
  Request request;
  std::size_t scanned = 0;
  std::size_t size = 0;
  // A quadratic parser would look at two thousand million bytes here, minutes with the sanitizers on.
  while (request.result == Parse::incomplete) {
    request.result =
        parse_request(std::string_view(text).substr(0, ++size), scanned, request.info, request.head, request.error);
  }
  EXPECT_EQ(request.result, Parse::complete);
  EXPECT_EQ(size, text.size());
}

TEST(ParseRequest, IsIncompleteForEveryProperPrefix) {
  const std::string text = get("X-A: b\r\nConnection: close\r\n");
  for (std::size_t size = 0; size < text.size(); ++size) {
    Request request;
    parse(request, std::string(text, 0, size));
    EXPECT_EQ(request.result, Parse::incomplete) << size;
  }
  Request request;
  std::size_t scanned = 0;
  EXPECT_EQ(parse_request({}, scanned, request.info, request.head, request.error), Parse::incomplete);
}

TEST(ParseRequest, ForgetsTheLastHead) {
  Request request;
  parse(request, get("X: 1\r\nContent-Length: 5\r\nConnection: close\r\n"));
  parse(request, "GET /b HTTP/1.0\r\n\r\n");
  ASSERT_EQ(request.result, Parse::complete);
  EXPECT_TRUE(request.head.headers.empty());
  EXPECT_EQ(request.head.authority, "");
  EXPECT_EQ(request.info.body, BodyKind::none);
  EXPECT_EQ(request.info.content_length, 0u);
}

TEST(ParseResponse, ReadsATypicalHead) {
  const std::string text =
      "HTTP/1.1 404 Not Found\r\nServer: x\r\nContent-Length: 3\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n"
      "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n";
  Response response;
  parse(response, text + "abc");
  ASSERT_EQ(response.result, Parse::complete) << response.error.text;
  EXPECT_EQ(response.head.status, 404);
  EXPECT_EQ(response.head.reason, "Not Found");
  EXPECT_EQ(fields_of(response.head.headers), "Server=x|Set-Cookie=a=1|Set-Cookie=b=2|");
  EXPECT_EQ(response.info.head_size, text.size());
  EXPECT_EQ(response.info.body, BodyKind::length);
  EXPECT_EQ(response.info.content_length, 3u);
  EXPECT_TRUE(response.info.keep_alive);
  EXPECT_FALSE(response.info.informational);
}

TEST(ParseResponse, ReadsReasons) {
  const struct {
    const char* line;
    const char* reason;
  } cases[] = {
      {"HTTP/1.1 200 OK\r\n\r\n", "OK"},
      {"HTTP/1.1 200 \r\n\r\n", ""},
      {"HTTP/1.1 200\r\n\r\n", ""},
      {"HTTP/1.0 200 a b\tc\r\n\r\n", "a b\tc"},
      {"HTTP/1.1 200 \xc3\xa9\r\n\r\n", "\xc3\xa9"},
  };
  for (const auto& test : cases) {
    Response response;
    parse(response, test.line);
    ASSERT_EQ(response.result, Parse::complete) << test.line;
    EXPECT_EQ(response.head.reason, test.reason);
    EXPECT_EQ(response.head.status, 200);
  }
}

TEST(ParseResponse, TellsHowTheBodyEnds) {
  const struct {
    std::string text;
    bool request_was_head;
    BodyKind body;
    std::uint64_t length;
    bool keep_alive;
  } cases[] = {
      {ok("Content-Length: 5\r\n"), false, BodyKind::length, 5, true},
      {ok("Content-Length: 0\r\n"), false, BodyKind::length, 0, true},
      {ok("Transfer-Encoding: chunked\r\n"), false, BodyKind::chunked, 0, true},
      {ok("Transfer-Encoding: chunked\r\nConnection: close\r\n"), false, BodyKind::chunked, 0, false},
      {ok(""), false, BodyKind::until_close, 0, false},
      {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false, BodyKind::until_close, 0, false},
      {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", false, BodyKind::length, 1, true},
      {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false, BodyKind::length, 1, false},
      {ok("Content-Length: 5\r\n"), true, BodyKind::none, 5, true},
      {ok("Transfer-Encoding: chunked\r\n"), true, BodyKind::none, 0, true},
      {ok(""), true, BodyKind::none, 0, true},
      {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, BodyKind::none, 5, true},
      {"HTTP/1.1 204 No Content\r\n\r\n", false, BodyKind::none, 0, true},
      {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false, BodyKind::none, 0, true},
      // What may follow on such a connection is nobody's to tell.
      {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false, BodyKind::none, 5, false},
      {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false, BodyKind::none, 0, false},
      {"HTTP/1.1 100 Continue\r\n\r\n", false, BodyKind::none, 0, true},
      {"HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n", false, BodyKind::none, 7, false},
      {"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", false, BodyKind::length, 0, true},
  };
  for (const auto& test : cases) {
    Response response;
    parse(response, test.text, test.request_was_head);
    ASSERT_EQ(response.result, Parse::complete) << test.text << response.error.text;
    EXPECT_EQ(response.info.body, test.body) << test.text;
    EXPECT_EQ(response.info.content_length, test.length) << test.text;
    EXPECT_EQ(response.info.has_content_length, test.text.find("Content-Length") != std::string::npos) << test.text;
    EXPECT_EQ(response.info.keep_alive, test.keep_alive) << test.text;
  }
}

TEST(ParseResponse, KnowsInformationalAndSwitchingResponses) {
  Response response;
  parse(response, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
  EXPECT_TRUE(response.info.informational);
  EXPECT_FALSE(response.info.upgrade_websocket);
  parse(response,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        "x\r\n\r\n");
  EXPECT_FALSE(response.info.informational);
  EXPECT_TRUE(response.info.upgrade_websocket);
  EXPECT_EQ(fields_of(response.head.headers), "Sec-WebSocket-Accept=x|");
  parse(response, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n");
  EXPECT_FALSE(response.info.upgrade_websocket);
  parse(response, "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
  EXPECT_FALSE(response.info.upgrade_websocket);
}

TEST(ParseResponse, RefusesWhatTwoParsersCouldReadInTwoWays) {
  const struct {
    std::string text;
    const char* says;
  } cases[] = {
      {"\r\nHTTP/1.1 200 OK\r\n\r\n", "version"},
      {" HTTP/1.1 200 OK\r\n\r\n", "version"},
      {"http/1.1 200 OK\r\n\r\n", "version"},
      {"ICY 200 OK\r\n\r\n", "version"},
      {"HTTP/2 200\r\n\r\n", "version"},
      {"HTTP/1.2 200 OK\r\n\r\n", "version"},
      {"<html>", "version"},
      {"HTTP/1.1  200 OK\r\n\r\n", "three digits"},
      {"HTTP/1.1\t200 OK\r\n\r\n", "space"},
      {"HTTP/1.1 20 OK\r\n\r\n", "three digits"},
      {"HTTP/1.1 2000 OK\r\n\r\n", "space follows the status"},
      {"HTTP/1.1 +20 OK\r\n\r\n", "three digits"},
      {"HTTP/1.1 099 OK\r\n\r\n", "100 to 599"},
      {"HTTP/1.1 600 OK\r\n\r\n", "100 to 599"},
      {"HTTP/1.1 200\tOK\r\n\r\n", "space follows the status"},
      {"HTTP/1.1 200\nX: y\r\n\r\n", "space follows the status"},
      {"HTTP/1.1 200 OK\n\r\n", "CRLF"},
      {"HTTP/1.1 200 OK\rX\r\n\r\n", "CRLF"},
      {"HTTP/1.1 200 O\0K\r\n\r\n"s, "CRLF"},
      {"HTTP/1.1 200 OK\x7f\r\n\r\n", "CRLF"},
      {ok("A : b\r\n"), "before the colon"},
      {ok("A: b\r\n c\r\n"), "folded"},
      {ok("A: b\n"), "LF alone"},
      {ok("Content-Length: 5\r\nContent-Length: 5\r\n"), "more than one"},
      {ok("Content-Length: 5, 5\r\n"), "not a number"},
      {ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "in one message"},
      {ok("Transfer-Encoding: gzip, chunked\r\n"), "exactly"},
      {ok("Transfer-Encoding: identity\r\n"), "exactly"},
      {ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "more than one"},
      {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"},
      {ok("Connection: Set-Cookie\r\n"), "not the connection's"},
      {ok("X: " + std::string(limits::kHeadBytesMax, 'a') + "\r\n"), "too long"},
  };
  for (const auto& test : cases) {
    Response response;
    parse(response, test.text);
    ASSERT_EQ(response.result, Parse::error) << test.text;
    EXPECT_EQ(response.error.reason, Reason::upstream_malformed);
    EXPECT_THAT(std::string(response.error.text), HasSubstr(test.says)) << test.text;
  }
}

TEST(ParseResponse, GivesTheSameResultHoweverTheInputIsCut) {
  const std::string text = ok("Content-Length: 5\r\nX: " + std::string(100, 'x') + "\r\n");
  for (std::size_t step = 1; step < text.size(); ++step) {
    Response response;
    std::size_t scanned = 0;
    for (std::size_t size = step; response.result == Parse::incomplete; size += step) {
      const std::string copy = text.substr(0, size);
      response.result = parse_response(copy, scanned, false, response.info, response.head, response.error);
      ASSERT_EQ(response.result, size < text.size() ? Parse::incomplete : Parse::complete) << step << " " << size;
    }
    EXPECT_EQ(response.head.status, 200);
    EXPECT_EQ(response.info.content_length, 5u);
  }
}

}  // namespace
}  // namespace sallyport::http1
