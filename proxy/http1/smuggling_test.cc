// What is known of request smuggling, as whole connections: the classes of published research (RFC 9112 section 11.2
// and what came after it), each with what has to become of the bytes. Every connection is read whole and byte by byte.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/limits.h"
#include "proxy/http1/chunked.h"
#include "proxy/http1/parser.h"

namespace sallyport::http1 {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;
using namespace std::string_literals;

const std::string kInner = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
const std::string kNext = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
const std::string kSize = std::to_string(kInner.size());
constexpr char kChunked[] = "Transfer-Encoding: chunked\r\n";
constexpr char kEnd[] = "0\r\n\r\n";

std::string post(const std::string& fields, const std::string& body = {}) {
  return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body;
}
std::string length(std::size_t bytes) { return "Content-Length: " + std::to_string(bytes) + "\r\n"; }
std::string chunk(const std::string& data) {
  return std::string(ChunkLine(data.size()).view()) + data + std::string(kChunkEnd);
}

// What a connection's bytes were taken for.
struct Reading {
  std::vector<std::string> messages;  // "METHOD target body" or "status body"
  std::string end;                    // "end": of the bytes. "closed": the last message said so. "waits": for the rest
                                      // of a message. Else what is wrong
  Reason reason = Reason::none;
};

// The payload of the message at the front of `in`, taken out. False if it is not whole, or wrong.
bool take_body(std::string_view& in, BodyKind kind, std::uint64_t length, std::string& body, Reading& reading) {
  if (kind == BodyKind::until_close) {
    body = in;
    in = {};
    return true;
  }
  if (kind != BodyKind::chunked) {
    const bool whole = in.size() >= length || kind == BodyKind::none;
    const std::size_t size = kind == BodyKind::none ? 0 : static_cast<std::size_t>(length);
    if (whole) body = in.substr(0, size);
    if (whole) in.remove_prefix(size);
    if (!whole) reading.end = "waits";
    return whole;
  }
  ChunkDecoder decoder;
  std::string_view data;
  for (;;) {
    switch (decoder.next(in, data)) {
      case ChunkDecoder::Event::data:
        body += data;
        break;
      case ChunkDecoder::Event::more:
        reading.end = "waits";
        return false;
      case ChunkDecoder::Event::done:
        return true;
      case ChunkDecoder::Event::error:
        reading.end = decoder.error_text();
        reading.reason = Reason::malformed_http;
        return false;
    }
  }
}

// `parse(input, scanned, error)` for ever longer pieces of `in`, `step` bytes more each time.
template <class ParseOne>
Parse parse_in_steps(std::string_view in, std::size_t step, ParseError& error, ParseOne parse) {
  std::size_t scanned = 0;
  for (std::size_t size = step;; size += step) {
    const Parse parsed = parse(in.substr(0, size), scanned, error);
    if (parsed != Parse::incomplete || size >= in.size()) return parsed;
  }
}

Reading read_requests(std::string_view in, std::size_t step) {
  Reading reading;
  reading.end = "end";
  while (!in.empty()) {
    RequestInfo info;
    request::RequestHead head;
    ParseError error;
    const Parse parsed = parse_in_steps(in, step, error, [&](std::string_view part, std::size_t& scanned, auto& wrong) {
      return parse_request(part, scanned, info, head, wrong);
    });
    if (parsed != Parse::complete) {
      reading.end = parsed == Parse::incomplete ? "waits" : std::string(error.text);
      reading.reason = error.reason;
      return reading;
    }
    in.remove_prefix(info.head_size);
    std::string body;
    if (!take_body(in, info.body, info.content_length, body, reading)) return reading;
    reading.messages.push_back(std::string(head.method) + " " + std::string(head.target) +
                               (body.empty() ? "" : " " + body));
    if (info.keep_alive) continue;
    reading.end = "closed";
    return reading;
  }
  return reading;
}

// The response to one request; what follows it is `end`: nobody has asked for it.
Reading read_response(std::string_view in, std::size_t step, bool request_was_head) {
  Reading reading;
  bool keep_alive = true;
  for (bool final = false; !final;) {
    ResponseInfo info;
    request::ResponseHead head;
    ParseError error;
    const Parse parsed = parse_in_steps(in, step, error, [&](std::string_view part, std::size_t& scanned, auto& wrong) {
      return parse_response(part, scanned, request_was_head, info, head, wrong);
    });
    if (parsed != Parse::complete) {
      reading.end = parsed == Parse::incomplete ? "waits" : std::string(error.text);
      reading.reason = error.reason;
      return reading;
    }
    in.remove_prefix(info.head_size);
    std::string body;
    if (!take_body(in, info.body, info.content_length, body, reading)) return reading;
    reading.messages.push_back(std::to_string(head.status) + (body.empty() ? "" : " " + body));
    keep_alive = keep_alive && info.keep_alive;
    final = !info.informational;
  }
  reading.end = !keep_alive ? "closed" : in.empty() ? "end" : "excess";
  return reading;
}

struct Taken {
  const char* why;
  std::string bytes;
  std::vector<std::string> requests;  // exactly these
  const char* end;
};

TEST(Smuggling, WhatHasOneReadingIsReadSo) {
  const Taken cases[] = {
      {"CL.0: the length counts also where a server would not expect content",
       "GET / HTTP/1.1\r\nHost: a\r\n" + length(kInner.size()) + "\r\n" + kInner + kNext,
       {"GET / " + kInner, "GET /next"},
       "end"},
      {"CL.0 with HEAD",
       "HEAD / HTTP/1.1\r\nHost: a\r\n" + length(kInner.size()) + "\r\n" + kInner + kNext,
       {"HEAD / " + kInner, "GET /next"},
       "end"},
      {"CL.0 with OPTIONS",
       "OPTIONS * HTTP/1.1\r\nHost: a\r\n" + length(kInner.size()) + "\r\n" + kInner + kNext,
       {"OPTIONS * " + kInner, "GET /next"},
       "end"},
      {"TE.0: chunks count with any method",
       "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(kChunked) + "\r\n" + chunk(kInner) + kEnd + kNext,
       {"GET / " + kInner, "GET /next"},
       "end"},
      {"0.CL: a length of zero ends the request at once", post(length(0), kInner), {"POST /", "GET /inner"}, "end"},
      {"no length at all is no content (RFC 9112 section 6.3)", post("", kInner), {"POST /", "GET /inner"}, "end"},
      {"leading zeros are digits", post("Content-Length: 000" + kSize + "\r\n", kInner), {"POST / " + kInner}, "end"},
      {"an end of chunks inside of sized content is content",
       post(length(kInner.size() + 5), kEnd + kInner) + kNext,
       {"POST / " + (kEnd + kInner), "GET /next"},
       "end"},
      {"an end of chunks inside of a chunk is content",
       post(kChunked, chunk(kEnd + kInner) + kEnd) + kNext,
       {"POST / " + (kEnd + kInner), "GET /next"},
       "end"},
      {"the coding's name has no case, and blanks around it are none of its",
       post("tRANSFER-eNCODING:\t cHUNKED \t\r\n", chunk(kInner) + kEnd),
       {"POST / " + kInner},
       "end"},
      {"zeros before a size and before the last one",
       post(kChunked, "0000000000000001\r\nx\r\n0000\r\n\r\n") + kNext,
       {"POST / x", "GET /next"},
       "end"},
      {"an extension is not a size",
       post(kChunked, "1;ff\r\nx\r\n0;5=\"0\\\"5\"\r\n\r\n") + kNext,
       {"POST / x", "GET /next"},
       "end"},
      {"a trailer is not a request",
       post(kChunked, "0\r\nGET: /inner\r\nX-A: 1\r\n\r\n") + kNext,
       {"POST /", "GET /next"},
       "end"},
      {"what follows the request that closes is not read",
       post("Connection: close\r\n") + kInner,
       {"POST /"},
       "closed"},
      {"what follows a request of HTTP/1.0 is not read", "GET / HTTP/1.0\r\n\r\n" + kInner, {"GET /"}, "closed"},
      {"keep-alive of a proxy is not the connection's",
       "GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n" + kInner,
       {"GET /"},
       "closed"},
      {"fields that only look like framing frame nothing",
       post("X-Transfer-Encoding: chunked\r\nContent-Encoding: chunked\r\nTE: chunked\r\nX-Content-Length: 99\r\n"
            "Content-Lengt: 99\r\nTrailer: Content-Length\r\nX-Sendfile: Content-Length: 99\r\n",
            kInner),
       {"POST /", "GET /inner"},
       "end"},
      {"escapes in a value are text (what a downgrade from HTTP/2 may have made of line ends)",
       post("X-A: b\\r\\nTransfer-Encoding: chunked%0d%0a\r\n", kInner),
       {"POST /", "GET /inner"},
       "end"},
      {"an upgrade that is not understood changes nothing",
       post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n" + length(kInner.size()),
            kInner) +
           kNext,
       {"POST / " + kInner, "GET /next"},
       "end"},
      {"an upgrade with content is a request with content",  // 0.CL of servers that stop parsing at Upgrade
       "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + length(kInner.size()) + "\r\n" +
           kInner + kNext,
       {"GET / " + kInner, "GET /next"},
       "end"},
      {"an expectation does not make the content another's",  // desynchronisation through Expect (2025)
       post("Expect: 100-continue\r\n" + length(kInner.size()), kInner) + kNext,
       {"POST / " + kInner, "GET /next"},
       "end"},
      {"an expectation without content means nothing",
       post("Expect: 100-continue\r\n", kInner),
       {"POST /", "GET /inner"},
       "end"},
      {"one empty line before a request is skipped",
       post(length(1), "x") + "\r\n" + kNext,
       {"POST / x", "GET /next"},
       "end"},
      {"a length that promises more waits; what is there is content",
       post(length(kInner.size() + 9), kInner),
       {},
       "waits"},
      {"content that is missing altogether is waited for", post(length(1)), {}, "waits"},
      {"chunks without their end are waited for", post(kChunked, chunk(kInner)), {}, "waits"},
      {"bytes above ASCII in a value are text to everybody",
       post("X-A: \xc4\x8d\xc4\x8a\r\n", kInner),
       {"POST /", "GET /inner"},
       "end"},
  };
  for (const Taken& test : cases) {
    for (const std::size_t step : {test.bytes.size(), std::size_t{1}, std::size_t{7}}) {
      const Reading reading = read_requests(test.bytes, step);
      EXPECT_THAT(reading.messages, ElementsAreArray(test.requests)) << test.why;
      EXPECT_EQ(reading.end, test.end) << test.why;
    }
  }
}

struct Refused {
  const char* why;
  std::string bytes;
  const char* says;
  Reason reason = Reason::malformed_http;
};

// None of these becomes a request, and nothing behind them is looked at.
void expect_refused(const Refused& test) {
  for (const std::size_t step : {test.bytes.size() + kNext.size(), std::size_t{1}, std::size_t{7}}) {
    const Reading reading = read_requests(test.bytes + kNext, step);
    EXPECT_TRUE(reading.messages.empty()) << test.why << ": " << test.bytes;
    EXPECT_THAT(reading.end, HasSubstr(test.says)) << test.why << ": " << test.bytes;
    EXPECT_EQ(reading.reason, test.reason) << test.why << ": " << test.bytes;
  }
}

TEST(Smuggling, WhatFramesTwiceIsRefused) {
  const std::string chunks = chunk("x") + kEnd + kInner;
  const std::string field = "Transfer-Encoding: ";
  const Refused cases[] = {
      {"CL.TE", post(length(chunks.size()) + kChunked, chunks), "in one message"},
      {"TE.CL", post(kChunked + length(3), chunks), "in one message"},
      {"CL.TE with a length of zero", post(length(0) + kChunked, chunks), "in one message"},
      {"CL.CL", post(length(0) + length(kInner.size()), kInner), "more than one Content-Length"},
      {"CL.CL, equal: RFC 9110 lets it pass, and two lengths are one too many", post(length(1) + length(1), "x"),
       "more than one Content-Length"},
      {"CL.CL as a list", post("Content-Length: 1, 1\r\n", "x"), "not a number"},
      {"TE.TE, the second unknown", post(kChunked + field + "x\r\n", chunks), "more than one Transfer-Encoding"},
      {"TE.TE, the first unknown", post(field + "x\r\n" + kChunked, chunks), "exactly"},
      {"TE.TE as a list", post(field + "x, chunked\r\n", chunks), "exactly"},
      {"chunked is not last", post(field + "chunked, gzip\r\n", chunks), "exactly"},
      {"chunked is last: right, and yet read by few", post(field + "gzip, chunked\r\n", chunks), "exactly"},
      {"identity, which RFC 7230 took away", post(field + "identity\r\n", kInner), "exactly"},
      {"identity and a length", post(field + "identity\r\n" + length(kInner.size()), kInner), "exactly"},
      {"an empty list", post(field + ",\r\n" + length(1), "x"), "exactly"},
      {"a parameter", post(field + "chunked;x=y\r\n", chunks), "exactly"},
      {"quotes", post(field + "'chunked'\r\n", chunks), "exactly"},
      {"a prefix that a search would find", post(field + "notchunked\r\n", chunks), "exactly"},
      {"a suffix that a comparison of its length would not see", post(field + "chunkedfoo\r\n", chunks), "exactly"},
      {"a name cut short", post(field + "chunk\r\n", chunks), "exactly"},
      {"a letter that some fold to ASCII (U+017F, U+212A)",
       post(field + "chun\xe2\x84\xaa"
                    "ed\r\n",
            chunks),
       "exactly"},
      {"a no-break space",
       post(field + "\xc2\xa0"
                    "chunked\r\n",
            chunks),
       "exactly"},
      {"a vertical tab", post(field + "\vchunked\r\n", chunks), "control"},
      {"a form feed behind", post(field + "chunked\f\r\n", chunks), "control"},
      {"a null, where a string of C would end", post(field + "chunked\0x\r\n"s, chunks), "control"},
      {"a null before the value", post(field + "\0chunked\r\n"s, chunks), "control"},
      {"a carriage return behind the value", post(field + "chunked\r\r\n", chunks), "CR that does not end"},
      {"the field behind a carriage return", post("X-A: b\rTransfer-Encoding: chunked\r\n", chunks),
       "CR that does not end"},
      {"the field behind a line feed", post("X-A: b\nTransfer-Encoding: chunked\r\n", chunks), "LF alone"},
      {"another field behind a line feed", post(field + "chunked\nX-A: b\r\n", chunks), "LF alone"},
      {"the value on a folded line", post("Transfer-Encoding:\r\n chunked\r\n", chunks), "exactly"},
      {"an end of the value on a folded line", post(field + "chunked\r\n , identity\r\n", chunks), "folded"},
      {"the field as a folded line", post("X-A: b\r\n Transfer-Encoding: chunked\r\n", chunks), "folded"},
      {"the field as a folded line, with a tab", post("X-A: b\r\n\tTransfer-Encoding: chunked\r\n", chunks), "folded"},
      {"the colon on a folded line", post("Transfer-Encoding\r\n : chunked\r\n", chunks), "no colon"},
      {"a space before the colon", post("Transfer-Encoding : chunked\r\n", chunks), "before the colon"},
      {"a tab before the colon", post("Transfer-Encoding\t: chunked\r\n", chunks), "before the colon"},
      {"a null before the colon", post("Transfer-Encoding\0: chunked\r\n"s, chunks), "field name"},
      {"a null before the name", post("\0Transfer-Encoding: chunked\r\n"s, chunks), "field name"},
      {"a vertical tab before the name", post("\vTransfer-Encoding: chunked\r\n", chunks), "field name"},
      {"a soft hyphen in the name",
       post("Transfer\xad"
            "Encoding: chunked\r\n",
            chunks),
       "field name"},
      {"a byte order mark before the name", post("\xef\xbb\xbfTransfer-Encoding: chunked\r\n", chunks), "field name"},
      {"a blank for the hyphen", post("Transfer Encoding: chunked\r\n", chunks), "before the colon"},
      {"an underscore for the hyphen", post("Transfer_Encoding: chunked\r\n", chunks), "hyphen"},
      {"a dot for the hyphen", post("Transfer.Encoding: chunked\r\n", chunks), "hyphen"},
      {"an underscore beside a good length", post(length(1) + "Content_Length: 5\r\n", "x"), "hyphen"},
      {"two colons", post("Transfer-Encoding:: chunked\r\n", chunks), "exactly"},
      {"an equals sign for the colon", post("Transfer-Encoding= chunked\r\n", chunks), "field name"},
      {"in HTTP/1.0, where it is unknown", "POST / HTTP/1.0\r\nHost: a\r\n" + std::string(kChunked) + "\r\n" + chunks,
       "HTTP/1.0"},
      {"in HTTP/1.0 kept alive",
       "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n" + std::string(kChunked) + "\r\n" + chunks,
       "HTTP/1.0"},
      {"named by Connection: a proxy would remove it",
       post("Connection: close, transfer-encoding\r\n" + std::string(kChunked), chunks), "not the connection's"},
      {"a length named by Connection", post("Connection: Content-Length\r\n" + length(1), "x"), "not the connection's"},
      {"a host named by Connection", post("Connection: host\r\n"), "not the connection's"},
      {"an expectation named by Connection", post("Connection: expect\r\nExpect: 100-continue\r\n" + length(1), "x"),
       "not the connection's"},
  };
  for (const Refused& test : cases) expect_refused(test);
}

TEST(Smuggling, LengthsThatAreNotDigitsAreRefused) {
  for (const std::string& value : {"+5"s,
                                   "-5"s,
                                   "-0"s,
                                   "0x5"s,
                                   "5h"s,
                                   "5 5"s,
                                   "5\t5"s,
                                   "5,"s,
                                   ",5"s,
                                   "5;x"s,
                                   "5.0"s,
                                   "5e0"s,
                                   "'5'"s,
                                   "\"5\""s,
                                   "(5)"s,
                                   "5_0"s,
                                   "0b1"s,
                                   "0o5"s,
                                   "\xd9\xa5"s,
                                   "\xc2\xb2"s,
                                   "\xa0"s
                                   "5",
                                   "NaN"s,
                                   "Infinity"s,
                                   "nil"s,
                                   "five"s,
                                   ""s}) {
    expect_refused({"not digits", post("Content-Length: " + value + "\r\n", "xxxxx"), "Content-Length is"});
  }
  for (const std::string& value :
       {"9223372036854775808"s, "18446744073709551615"s, "18446744073709551616"s, "18446744073709551621"s,
        "4722366482869645213696"s, std::string(400, '9'), "000" + std::string(40, '1')}) {
    expect_refused({"wraps around in 64 bits", post("Content-Length: " + value + "\r\n", "xxxxx"), "too large"});
  }
  for (const std::string& value : {"5\v"s, "\f5"s, "5\0"s,
                                   "\0"
                                   "5"s,
                                   "5\x1c"s, "5\x7f"s}) {
    expect_refused({"a blank to some", post("Content-Length: " + value + "\r\n", "xxxxx"), "control"});
  }
}

TEST(Smuggling, ChunksThatHaveTwoReadingsAreRefused) {
  const std::string rest = kEnd + kInner;
  const Refused cases[] = {
      {"a sign", "+1\r\nx\r\n", "begin with its size"},
      {"a negative size", "-1\r\nx\r\n", "begin with its size"},
      {"0x: zero to who stops at the x", "0x1\r\nx\r\n", "not a hex digit"},
      {"an underscore, a digit separator to some", "1_0\r\n0123456789abcdef\r\n", "not a hex digit"},
      {"a blank before the size", " 1\r\nx\r\n", "begin with its size"},
      {"a blank behind the size", "1 \r\nx\r\n", "ends where it should not"},
      {"a tab behind the size", "1\t\r\nx\r\n", "ends where it should not"},
      {"two sizes", "1 5\r\nx\r\n", "malformed"},
      {"an empty size: zero to some", "\r\nx\r\n", "begin with its size"},
      {"only an extension", ";a\r\nx\r\n", "begin with its size"},
      {"a null behind the size", "1\0\r\nx\r\n"s, "not a hex digit"},
      {"a vertical tab", "1\v\r\nx\r\n", "not a hex digit"},
      {"wraps to 1 in 64 bits", "10000000000000001\r\nx\r\n", "too many digits"},
      {"wraps to 1 in 32 bits", "f00000000f0000001\r\nx\r\n", "too large"},
      {"-1 in 64 bits", "ffffffffffffffff\r\nx\r\n", "too large"},
      {"the smallest negative in 64 bits", "8000000000000000\r\nx\r\n", "too large"},
      {"zeros without end", std::string(17, '0') + "1\r\nx\r\n", "too many digits"},
      {"a line feed for the end of the line", "1\nx\r\n", "not a hex digit"},
      {"a carriage return alone for it", "1\rx\r\n", "does not end with CRLF"},
      {"two carriage returns", "1\r\r\nx\r\n", "does not end with CRLF"},
      {"TERM.EXT: a line feed in an extension ends the line to some", "1;\nx\r\n" + rest, "extension"},
      {"EXT.TERM: and is part of the extension to others", "2;a\nxx\r\n50\r\n" + rest, "extension"},
      {"a carriage return in an extension", "2;a\rxx\r\n", "does not end with CRLF"},
      {"a line feed in quotes", "2;a=\"\n\"\r\nxx\r\n", "extension"},
      {"a line end in quotes", "2;a=\"\r\n\"\r\nxx\r\n", "ends where it should not"},
      {"quotes that are not closed", "2;a=\"b\r\nxx\r\n", "ends where it should not"},
      {"a null in an extension", "2;a\0b\r\nxx\r\n"s, "extension"},
      {"an extension without end", "2;" + std::string(70'000, 'a'), "too long"},
      {"SPILL: two bytes behind the data are skipped by some", "1\r\nxyz\r\n", "not followed by CRLF"},
      {"ONE-TWO: a line feed behind the data", "1\r\nx\n0\r\n\r\n", "not followed by CRLF"},
      {"TWO-ONE: a carriage return behind the data", "1\r\nx\r0\r\n\r\n", "not followed by CRLF"},
      {"nothing behind the data", "1\r\nx0\r\n\r\n", "not followed by CRLF"},
      {"ZERO-TWO: the line end of the data is the data's own", "2\r\nx\r\n0\r\n\r\n", "not followed by CRLF"},
      {"data shorter than its size swallow the next size", "5\r\nx\r\n0\r\n\r\n", "not followed by CRLF"},
      {"the last chunk ended by line feeds", "1\r\nx\r\n0\n\n", "not a hex digit"},
      {"the last empty line is a line feed", "1\r\nx\r\n0\r\n\n", "LF alone"},
      {"a last chunk with a sign", "1\r\nx\r\n-0\r\n\r\n", "begin with its size"},
      {"a trailer that frames", "0\r\nContent-Length: 9\r\n\r\n", "frames or routes"},
      {"a trailer that frames, merged by some", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "frames or routes"},
      {"a trailer that routes", "0\r\nHost: b\r\n\r\n", "frames or routes"},
      {"a trailer that frames, in disguise", "0\r\nContent_Length: 9\r\n\r\n", "frames or routes"},
      {"a request for a trailer", "0\r\n" + kInner, "before the colon"},
      {"a trailer ended by a line feed", "0\r\nX: y\n\r\n", "LF alone"},
      {"a carriage return in a trailer", "0\r\nX: y\rZ: z\r\n\r\n", "CR that does not end"},
      {"a folded trailer", "0\r\nX: y\r\n z\r\n\r\n", "folded"},
      {"a trailer without a name", "0\r\n: y\r\n\r\n", "no name"},
      {"a trailer with a null", "0\r\nX: \0\r\n\r\n"s, "control"},
      {"trailers without end", "0\r\nX: " + std::string(limits::kTrailerBytesMax, 'y') + "\r\n\r\n", "too long"},
  };
  for (const Refused& test : cases) expect_refused({test.why, post(kChunked, test.bytes), test.says, test.reason});
}

TEST(Smuggling, HeadsThatHaveTwoReadingsAreRefused) {
  const Refused cases[] = {
      {"a blank before the first field: part of the request line to some",
       "GET / HTTP/1.1\r\n Host: b\r\nHost: a\r\n\r\n", "folded"},
      {"a tab before it", "GET / HTTP/1.1\r\n\tX-A: b\r\nHost: a\r\n\r\n", "folded"},
      {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "more than one Host"},
      {"two equal hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "more than one Host"},
      {"no host", "GET / HTTP/1.1\r\n\r\n", "no Host"},
      {"no host, but a URL", "GET http://a/ HTTP/1.1\r\n\r\n", "no Host"},
      {"a host with a blank before its colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "before the colon"},
      {"a field without a name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "no name"},
      {"a field of HTTP/2", "GET / HTTP/1.1\r\nHost: a\r\n:path: /inner\r\n\r\n", "no name"},
      {"a name of HTTP/2 with a line end in it", "GET / HTTP/1.1\r\nHost: a\r\nx: y\r\nz\r\n\r\n", "no colon"},
      {"a name with a colon before it", "GET / HTTP/1.1\r\nHost: a\r\n:: b\r\n\r\n", "no name"},
      {"a line that is no field", "GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", "no colon"},
      {"a request in the place of a field", "GET / HTTP/1.1\r\nHost: a\r\nGET /inner HTTP/1.1\r\n\r\n",
       "before the colon"},
      {"line feeds only", "GET / HTTP/1.1\nHost: a\n\n", "CRLF"},
      {"the empty line is a line feed", "GET / HTTP/1.1\r\nHost: a\r\n\n", "no colon"},
      {"the empty line has a blank", "GET / HTTP/1.1\r\nHost: a\r\n \r\n", "folded"},
      {"two carriage returns for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", "CRLF"},
      {"a null in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n"s, "field name"},
      {"a byte above ASCII in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\xe4: b\r\n\r\n", "field name"},
      {"a preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "target"},
      {"HTTP/0.9", "GET /\r\n", "target"},
      {"HTTP/0.9 with a version", "GET / HTTP/0.9\r\n\r\n", "version"},
      {"a version with a blank behind it", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "CRLF"},
      {"a version with a second one", "GET / HTTP/1.1 HTTP/1.0\r\nHost: a\r\n\r\n", "CRLF"},
      {"a version in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", "version"},
      {"a version with two digits", "GET / HTTP/1.01\r\nHost: a\r\n\r\n", "CRLF"},
      {"a version of another year", "GET / HTTP/1.9\r\nHost: a\r\n\r\n", "version"},
      {"a blank in the target", "GET /a /b HTTP/1.1\r\nHost: a\r\n\r\n", "version"},
      {"a tab in the request line", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"a blank before the method", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"more than one empty line before it", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"a line feed before it", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"a carriage return before it", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "CRLF"},
      {"a null before it", "\0GET / HTTP/1.1\r\nHost: a\r\n\r\n"s, "method"},
      {"the rest of another's chunks before it", "0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"a method that some put into upper case", "post / HTTP/1.1\r\nHost: a\r\n\r\n", "small letters",
       Reason::unsupported_method},
      {"a tunnel", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT", Reason::unsupported_method},
      {"an expectation that some take for none", post("Expect: 100-continue, x\r\n" + length(1), "x"), "Expect"},
      {"an expectation behind junk", post("Expect: y 100-continue\r\n" + length(1), "x"), "Expect"},
      {"an empty expectation", post("Expect:\r\n" + length(1), "x"), "Expect"},
      {"two expectations", post("Expect: 100-continue\r\nExpect: x\r\n" + length(1), "x"), "Expect"},
      {"an expectation with a parameter", post("Expect: 100-continue;a\r\n" + length(1), "x"), "Expect"},
      {"more fields than anybody counts", post([] {
         std::string fields;
         for (std::size_t i = 0; i <= limits::kHeaderCountMax; ++i) fields += "X-A: b\r\n";
         return fields;
       }()),
       "too many fields", Reason::head_too_large},
      {"a head without end", post("X: " + std::string(limits::kHeadBytesMax, 'y') + "\r\n"), "too long",
       Reason::head_too_large},
  };
  for (const Refused& test : cases) expect_refused(test);
}

struct Answer {
  const char* why;
  std::string bytes;
  bool request_was_head;
  std::vector<std::string> responses;  // the last is the final one
  const char* end;                     // "end": the connection may carry another request. All else ends it
};

TEST(Smuggling, AResponseEndsWhereItSaysAndWhatFollowsEndsTheConnection) {
  const std::string poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
  const Answer cases[] = {
      {"one response", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, {"200 ok"}, "end"},
      {"a second one that nobody asked for",
       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + poison,
       false,
       {"200 ok"},
       "excess"},
      {"more content than was announced",
       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
       false,
       {"200 ok"},
       "excess"},
      {"an empty line behind it", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n", false, {"200 ok"}, "excess"},
      {"HEAD with content all the same", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true, {"200"}, "excess"},
      {"HEAD with chunks all the same",
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       true,
       {"200"},
       "excess"},
      {"204 with content", "HTTP/1.1 204 X\r\nContent-Length: 2\r\n\r\nok", false, {"204"}, "closed"},
      {"204 with chunks", "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, {"204"}, "closed"},
      {"304 with content", "HTTP/1.1 304 X\r\nContent-Length: 2\r\n\r\nok", false, {"304"}, "excess"},
      {"205 with content is sized like any other",
       "HTTP/1.1 205 X\r\nContent-Length: 2\r\n\r\nok",
       false,
       {"205 ok"},
       "end"},
      {"early hints, then the response",
       "HTTP/1.1 103 X\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
       false,
       {"103", "200 ok"},
       "end"},
      {"early hints that announce content: a response inside of it, and the place is lost",
       "HTTP/1.1 103 X\r\nContent-Length: " + std::to_string(poison.size()) + "\r\n\r\n" + poison + poison,
       false,
       {"103", "200 poison"},
       "closed"},
      {"a 100 with chunks",
       "HTTP/1.1 100 X\r\nTransfer-Encoding: chunked\r\n\r\n" + poison,
       false,
       {"100", "200 poison"},
       "closed"},
      {"HTTP/1.0 without a length lasts until the end",
       "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nok" + poison,
       false,
       {"200 ok" + poison},
       "closed"},
      {"HTTP/1.1 without a length, too", "HTTP/1.1 200 OK\r\n\r\nok" + poison, false, {"200 ok" + poison}, "closed"},
      {"a response inside of chunks is content",
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(poison) + kEnd,
       false,
       {"200 " + poison},
       "end"},
      {"length and chunks",
       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
       false,
       {},
       "Content-Length and Transfer-Encoding in one message"},
      {"HTTP/1.0 with chunks",
       "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
       false,
       {},
       "Transfer-Encoding in a message of HTTP/1.0"},
      {"two lengths",
       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\nok",
       false,
       {},
       "more than one Content-Length"},
      {"two lengths in a 304, where they announce nothing",
       "HTTP/1.1 304 X\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\n",
       false,
       {},
       "more than one Content-Length"},
      {"a negative length",
       "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + poison,
       false,
       {},
       "Content-Length is not a number"},
      {"an unknown coding",
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n" + poison,
       false,
       {},
       "Transfer-Encoding is not exactly 'chunked'"},
      {"a split response: a line feed in a value",
       "HTTP/1.1 200 OK\r\nLocation: /\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
       false,
       {},
       "a line ends with LF alone"},
      {"a split response: a carriage return in a value",
       "HTTP/1.1 200 OK\r\nLocation: /\rSet-Cookie: a=b\r\n\r\n",
       false,
       {},
       "a field value has a CR that does not end its line"},
      {"an empty line before the status",
       "\r\nHTTP/1.1 200 OK\r\n\r\n",
       false,
       {},
       "the version is not HTTP/1.1 or HTTP/1.0"},
      {"content before the status",
       "x\r\nHTTP/1.1 200 OK\r\n\r\n",
       false,
       {},
       "the version is not HTTP/1.1 or HTTP/1.0"},
      {"a folded field",
       "HTTP/1.1 200 OK\r\nX-A: b\r\n Content-Length: 2\r\n\r\nok",
       false,
       {},
       "a field line begins with whitespace (a folded line is not allowed)"},
      {"a blank before the colon",
       "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
       false,
       {},
       "whitespace stands before the colon of a field"},
      {"a bad chunk",
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n",
       false,
       {},
       "a chunk extension is malformed"},
      {"a trailer that frames",
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
       false,
       {},
       "a trailer frames or routes the message"},
  };
  for (const Answer& test : cases) {
    for (const std::size_t step : {test.bytes.size(), std::size_t{1}, std::size_t{7}}) {
      const Reading reading = read_response(test.bytes, step, test.request_was_head);
      EXPECT_THAT(reading.messages, ElementsAreArray(test.responses)) << test.why;
      EXPECT_EQ(reading.end, test.end) << test.why;
    }
  }
}

}  // namespace
}  // namespace sallyport::http1
