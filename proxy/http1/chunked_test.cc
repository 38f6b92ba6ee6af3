#include "proxy/http1/chunked.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <random>
#include <string>

#include "base/limits.h"

namespace sallyport::http1 {
namespace {

using testing::HasSubstr;
using Event = ChunkDecoder::Event;
using namespace std::string_literals;

struct Decoded {
  Event last = Event::more;
  std::string payload;
  std::string trailers;
  std::string rest;  // what the decoder left
  std::string error;
};

Decoded decode(std::string_view body, std::size_t step = 0) {
  ChunkDecoder decoder;
  Decoded decoded;
  for (std::size_t at = 0; at < body.size() && decoded.last == Event::more;) {
    const std::string piece(
        body.substr(at, step == 0 ? body.npos : step));  // an own buffer: reading past its end would show
    at += piece.size();
    std::string_view input = piece;
    std::string_view data;
    while ((decoded.last = decoder.next(input, data)) == Event::data) {
      EXPECT_FALSE(data.empty());
      decoded.payload += data;
    }
    if (decoded.last == Event::more) {
      EXPECT_TRUE(input.empty());
    } else {
      decoded.rest = std::string(input) + std::string(body.substr(at));
    }
  }
  for (const request::Header& field : decoder.trailers())
    decoded.trailers.append(field.name).append("=").append(field.value).append("|");
  decoded.error = decoder.error_text();
  return decoded;
}

TEST(ChunkDecoder, TakesBodiesApartHoweverTheyAreCut) {
  const struct {
    std::string body;
    std::string payload;
    std::string trailers;
  } cases[] = {
      {"0\r\n\r\n", "", ""},
      {"5\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", ""},
      {"A\r\n0123456789\r\n00a\r\n0123456789\r\n000\r\n\r\n", "01234567890123456789", ""},
      {"0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"2\r\n\r\n\r\n0\r\n\r\n", "\r\n", ""},
      {"5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello", ""},
      {"5;a=b;c=\"d;e\\\"\\\\\"\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"5 ;\ta = \t\"\xc3\xbc\t\" ; b\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"5;a=\"\"\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"0\r\nX-Sum: 1\r\ngrpc-status:0 \r\n\r\n", "", "X-Sum=1|grpc-status=0|"},
      {"1\r\na\r\n0;x\r\nX:\r\n\r\n", "a", "X=|"},
  };
  for (const auto& test : cases) {
    for (std::size_t step = 0; step <= test.body.size(); ++step) {
      const Decoded decoded = decode(test.body + "NEXT", step);
      ASSERT_EQ(decoded.last, Event::done) << test.body << decoded.error;
      EXPECT_EQ(decoded.payload, test.payload);
      EXPECT_EQ(decoded.trailers, test.trailers);
      EXPECT_EQ(decoded.rest, "NEXT");
    }
    for (std::size_t size = 0; size < test.body.size(); ++size) {
      EXPECT_EQ(decode(test.body.substr(0, size)).last, Event::more) << test.body << size;
    }
  }
}

TEST(ChunkDecoder, RefusesWhatTwoServersCouldReadInTwoWays) {
  const std::string long_extension(limits::kChunkLineBytesMax, 'a');
  const struct {
    std::string body;
    const char* says;
  } cases[] = {
      {"\r\n", "begin with its size"},
      {"\n", "begin with its size"},
      {" 5\r\nhello\r\n", "begin with its size"},
      {"g\r\n", "begin with its size"},
      {"-1\r\n", "begin with its size"},
      {"+5\r\n", "begin with its size"},
      {";a\r\n", "begin with its size"},
      {"0x5\r\n", "not a hex digit"},
      {"5h\r\n", "not a hex digit"},
      {"5,\r\n", "not a hex digit"},
      {"5\0\r\n"s, "not a hex digit"},
      {"5\nhello\r\n", "not a hex digit"},
      {"5 \r\nhello\r\n", "ends where it should not"},
      {"5\t\r\nhello\r\n", "ends where it should not"},
      {"5 5\r\n", "malformed"},
      {"5\rhello", "does not end with CRLF"},
      {"5\r\r\n", "does not end with CRLF"},
      {"00000000000000005\r\n", "too many digits"},
      {"1000000000000001\r\n", "too large"},
      {"ffffffffffffffff\r\n", "too large"},
      {"10000000000000000\r\n", "too many digits"},
      // Extensions: CVE-2025-55315 and CVE-2025-43859 began with an LF in one.
      {"5;\r\n", "ends where it should not"},
      {"5;a=\r\n", "ends where it should not"},
      {"5;a=b \r\n", "ends where it should not"},
      {"5;a \r\n", "ends where it should not"},
      {"5;;a\r\n", "extension"},
      {"5;a;\r\n", "ends where it should not"},
      {"5;=b\r\n", "extension"},
      {"5;a\nb\r\n", "extension"},
      {"5;\n", "extension"},
      {"5;a=\n", "extension"},
      {"5;a=b\n", "extension"},
      {"5;a\rb\r\n", "does not end with CRLF"},
      {"5;a=\"\n\"\r\n", "extension"},
      {"5;a=\"\r\n\"\r\n", "ends where it should not"},
      {"5;a=\"\\\n\"\r\n", "extension"},
      {"5;a=\"\\\r\n\"\r\n", "ends where it should not"},
      {"5;a=\"b\"c\r\n", "extension"},
      {"5;a=\"b\r\n", "ends where it should not"},
      {"5;a=\"\0\"\r\n"s, "extension"},
      {"5;a=\"\x7f\"\r\n", "extension"},
      {"5;a=b\"c\"\r\n", "extension"},
      {"5;a b\r\n", "extension"},
      {"5;a=b c\r\n", "extension"},
      {"5;\xc3\xbc\r\n", "extension"},
      {"5;" + long_extension + "\r\n", "too long"},
      {"5;a=\"" + long_extension, "too long"},
      {"5;" + std::string(300, ' '), "too long"},
      // The end of a chunk.
      {"5\r\nhello\n0\r\n\r\n", "not followed by CRLF"},
      {"5\r\nhello0\r\n\r\n", "not followed by CRLF"},
      {"5\r\nhello\r0\r\n\r\n", "not followed by CRLF"},
      {"5\r\nhelloX\r\n0\r\n\r\n", "not followed by CRLF"},
      {"5\r\nhello\r\n\r\n", "begin with its size"},
      // Trailers.
      {"0\r\n\n", "LF alone"},
      {"0\r\nA: b\n\r\n", "LF alone"},
      {"0\r\nA: b\n\n", "LF alone"},
      {"0\r\nA: b\rC: d\r\n\r\n", "CR"},
      {"0\r\n\rX\r\n\r\n", ""},
      {"0\r\nA : b\r\n\r\n", "before the colon"},
      {"0\r\nA: b\r\n c\r\n\r\n", "folded"},
      {"0\r\nA\r\n\r\n", "no colon"},
      {"0\r\nA: \0\r\n\r\n"s, "control"},
      {"0\r\nContent-Length: 5\r\n\r\n", "frames or routes"},
      {"0\r\ntransfer-encoding: chunked\r\n\r\n", "frames or routes"},
      {"0\r\nHost: a\r\n\r\n", "frames or routes"},
      {"0\r\nX: 1\r\nContent_Length: 5\r\n\r\n", "frames or routes"},
      {"0\r\nX: " + std::string(limits::kTrailerBytesMax, 'a') + "\r\n\r\n", "too long"},
  };
  for (const auto& test : cases) {
    for (const std::size_t step : {0u, 1u, 3u}) {
      const Decoded decoded = decode(test.body, step);
      ASSERT_EQ(decoded.last, Event::error) << test.body;
      EXPECT_THAT(decoded.error, HasSubstr(test.says)) << test.body;
      EXPECT_EQ(decoded.trailers, "");
    }
  }
}

TEST(ChunkDecoder, DropsTrailersThatMustBeSeenBeforeTheBody) {
  const Decoded decoded = decode(
      "0\r\nAuthorization: x\r\nX-Sum: 1\r\nCookie: x\r\nSet-Cookie: x\r\nContent-Type: x\r\nContent-Encoding: "
      "x\r\nTE: x\r\n"
      "Connection: x\r\nKeep-Alive: x\r\nProxy-Authorization: x\r\nUpgrade: x\r\nExpect: x\r\nIf-Match: x\r\nRange: "
      "x\r\n"
      "Cache-Control: x\r\nTrailer: x\r\nMax-Forwards: x\r\nSallyport-Tag: x\r\nx-amz-checksum-crc32: y\r\n\r\n");
  ASSERT_EQ(decoded.last, Event::done) << decoded.error;
  EXPECT_EQ(decoded.trailers, "X-Sum=1|x-amz-checksum-crc32=y|");
}

TEST(ChunkDecoder, LimitsTheNumberOfTrailers) {
  std::string body = "0\r\n";
  for (std::size_t i = 0; i < limits::kHeaderCountMax; ++i) body += "a:\r\n";
  EXPECT_EQ(decode(body + "\r\n").last, Event::done);
  EXPECT_EQ(decode(body + "a:\r\n\r\n").last, Event::error);
}

TEST(ChunkDecoder, HandsThePayloadOutAsViewsIntoTheInput) {
  ChunkDecoder decoder;
  const std::string body = "5\r\nhello\r\n0\r\n\r\n";
  std::string_view input = body;
  std::string_view data;
  ASSERT_EQ(decoder.next(input, data), Event::data);
  EXPECT_EQ(data.data(), body.data() + 3);
}

TEST(ChunkDecoder, StaysAtItsEndAndStartsAgainAfterReset) {
  ChunkDecoder decoder;
  std::string_view data;
  std::string_view input = "0\r\nX: 1\r\n\r\n5\r\n";
  ASSERT_EQ(decoder.next(input, data), Event::done);
  ASSERT_EQ(decoder.next(input, data), Event::done);
  EXPECT_EQ(input, "5\r\n");
  EXPECT_EQ(decoder.trailers().size(), 1u);
  decoder.reset();
  EXPECT_TRUE(decoder.trailers().empty());
  input = "x";
  ASSERT_EQ(decoder.next(input, data), Event::error);
  ASSERT_EQ(decoder.next(input, data), Event::error);
  decoder.reset();
  EXPECT_EQ(decoder.error_text(), "");
  input = "3\r\nabc\r\n0\r\n\r\n";
  ASSERT_EQ(decoder.next(input, data), Event::data);
  EXPECT_EQ(data, "abc");
  ASSERT_EQ(decoder.next(input, data), Event::done);
}

TEST(ChunkLine, IsTheSizeInHex) {
  EXPECT_EQ(ChunkLine(1).view(), "1\r\n");
  EXPECT_EQ(ChunkLine(16'384).view(), "4000\r\n");
  EXPECT_EQ(ChunkLine(0xabcdef).view(), "abcdef\r\n");
  EXPECT_EQ(ChunkLine(SIZE_MAX).view(), "ffffffffffffffff\r\n");
}

TEST(ChunkLine, IsReadBackByTheDecoder) {
  const unsigned seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::string body;
    std::string payload;
    for (std::size_t chunks = random() % 8; chunks > 0; --chunks) {
      const std::string chunk(random() % 5'000 + 1, static_cast<char>(random()));
      payload += chunk;
      body.append(ChunkLine(chunk.size()).view()).append(chunk).append(kChunkEnd);
    }
    body += kLastChunk;
    const Decoded decoded = decode(body, random() % 3'000);
    ASSERT_EQ(decoded.last, Event::done) << "seed " << seed;
    ASSERT_EQ(decoded.payload, payload) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sallyport::http1
