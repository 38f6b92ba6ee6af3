#include "proxy/net/client_hello.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "base/limits.h"
#include "ca/openssl_ptr.h"
#include "proxy/net/hello_builder_test.h"

namespace sallyport::net {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Outcome {
  HelloState state;
  std::string problem;
};

Outcome parse(const std::string& bytes) {
  ClientHelloParser parser;
  const HelloState state = parser.advance(bytes);
  return {state, parser.problem()};
}

std::string whole(const HelloBuilder& hello) { return record(hello.message()); }

TEST(ClientHello, ShowsNameProtocolsAndVersions) {
  ClientHelloParser parser;
  const std::string bytes = whole(HelloBuilder().replace(43, vector(number(0x3a3a, 2) + number(0x0304, 2), 1)));
  ASSERT_EQ(parser.advance(bytes), HelloState::complete) << parser.problem();
  const ClientHello& hello = parser.hello();
  ASSERT_TRUE(hello.sni);
  EXPECT_EQ(hello.sni->name, "api.example.com");
  EXPECT_FALSE(hello.sni->address);
  EXPECT_THAT(hello.alpn, ElementsAre("h2", "http/1.1"));
  EXPECT_TRUE(hello.offers_alpn("h2"));
  EXPECT_FALSE(hello.offers_alpn("h3"));
  EXPECT_EQ(hello.legacy_version, 0x0303);
  EXPECT_THAT(hello.supported_versions, ElementsAre(0x3a3a, 0x0304));
  EXPECT_FALSE(hello.has_ech);
  EXPECT_FALSE(hello.has_early_data);
  EXPECT_EQ(hello.bytes_consumed, bytes.size());
}

TEST(ClientHello, ItsViewsSurviveAMove) {
  ClientHello moved;
  {
    ClientHelloParser parser;
    ASSERT_EQ(parser.advance(whole(HelloBuilder())), HelloState::complete);
    moved = std::move(parser.hello());
  }
  EXPECT_THAT(moved.alpn, ElementsAre("h2", "http/1.1"));
}

TEST(ClientHello, TheNameIsMadeCanonical) {
  ClientHelloParser parser;
  ASSERT_EQ(parser.advance(whole(HelloBuilder().replace(0, server_name("API.Example.COM.")))), HelloState::complete);
  EXPECT_EQ(parser.hello().sni->name, "api.example.com");
}

TEST(ClientHello, AnAddressAsNameIsToldFromAName) {
  for (const std::string text : {"192.0.2.1", "2001:db8::1"}) {
    ClientHelloParser parser;
    ASSERT_EQ(parser.advance(whole(HelloBuilder().replace(0, server_name(text)))), HelloState::complete) << text;
    EXPECT_TRUE(parser.hello().sni->address) << text;
    EXPECT_EQ(parser.hello().sni->name, text);
  }
}

TEST(ClientHello, MayHaveNeitherNameNorExtensions) {
  HelloBuilder old;
  old.with_extensions = false;
  ClientHelloParser parser;
  ASSERT_EQ(parser.advance(whole(old)), HelloState::complete) << parser.problem();
  EXPECT_FALSE(parser.hello().sni);
  EXPECT_THAT(parser.hello().alpn, IsEmpty());

  HelloBuilder empty;
  empty.extensions.clear();
  EXPECT_EQ(parse(whole(empty)).state, HelloState::complete);
}

TEST(ClientHello, SeesEncryptedHelloAndEarlyData) {
  const std::vector<std::pair<std::uint16_t, std::string>> forms{
      {0xfe0d, std::string("\0\0\1\0\1\7", 6)}, {0xfe08, "draft"}, {0xfe0c, "draft"}, {0xffce, "esni"}};
  for (const auto& [type, data] : forms) {
    ClientHelloParser parser;
    ASSERT_EQ(parser.advance(whole(HelloBuilder().with(type, data))), HelloState::complete) << parser.problem();
    EXPECT_TRUE(parser.hello().has_ech) << type;
  }
  const std::string with_data = whole(HelloBuilder().with(42, "")) + record("0-RTT bytes", 23);
  ClientHelloParser parser;
  ASSERT_EQ(parser.advance(with_data), HelloState::complete);
  EXPECT_TRUE(parser.hello().has_early_data);
  EXPECT_EQ(parser.hello().bytes_consumed, with_data.size() - record("0-RTT bytes", 23).size());
}

// A key share of X25519MLKEM768 has 1216 bytes; GREASE (RFC 8701) is everywhere.
TEST(ClientHello, LargeKeySharesAndGreaseAreOrdinary) {
  HelloBuilder hello;
  hello.cipher_suites = number(0x8a8a, 2) + hello.cipher_suites;
  hello.replace(16, alpn({"\x4a\x4a", "h2"}));
  hello.with(0x0a0a, "").with(0x1a1a, std::string(1, '\0'));
  hello.with(51, vector(number(0x11ec, 2) + vector(std::string(1216, 'k'), 2), 2));
  hello.with(21, std::string(3'000, '\0'));
  ClientHelloParser parser;
  ASSERT_EQ(parser.advance(whole(hello)), HelloState::complete) << parser.problem();
  EXPECT_EQ(parser.hello().sni->name, "api.example.com");
}

TEST(ClientHello, AnyCutIntoRecordsGivesTheSame) {
  const std::string message = HelloBuilder().message();
  for (std::size_t size = 1; size <= message.size(); ++size) {
    ClientHelloParser parser;
    const std::string bytes = records(message, size);
    ASSERT_EQ(parser.advance(bytes), HelloState::complete) << size << ": " << parser.problem();
    EXPECT_EQ(parser.hello().sni->name, "api.example.com");
    EXPECT_EQ(parser.hello().bytes_consumed, bytes.size());
  }
}

// What OpenSSL sends, in two records and two segments, each cut at every place.
TEST(ClientHello, ARealHelloMayBeCutAnywhere) {
  const ca::SslCtxPtr context(SSL_CTX_new(TLS_client_method()));
  const ca::SslPtr ssl(SSL_new(context.get()));
  BIO* output = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), output);
  ASSERT_EQ(SSL_set_tlsext_host_name(ssl.get(), "api.example.com"), 1);
  ASSERT_LT(SSL_connect(ssl.get()), 0);
  char* data = nullptr;
  const long size = BIO_get_mem_data(output, &data);
  const std::string message = std::string(data, static_cast<std::size_t>(size)).substr(5);
  ASSERT_GT(message.size(), 200U);
  for (std::size_t at = 1; at < message.size(); ++at) {
    const std::string bytes = record(message.substr(0, at)) + record(message.substr(at));
    for (const std::size_t segment : {at, at + 4, at + 5, at + 9, bytes.size() - 1}) {
      ClientHelloParser parser;
      ASSERT_EQ(parser.advance(std::string_view(bytes).substr(0, segment)), HelloState::incomplete) << at;
      ASSERT_EQ(parser.advance(bytes), HelloState::complete) << at << ": " << parser.problem();
      ASSERT_EQ(parser.hello().sni->name, "api.example.com");
      ASSERT_EQ(parser.hello().bytes_consumed, bytes.size());
    }
  }
}

TEST(ClientHello, ALengthThatLiesIsNeverBelieved) {
  const std::string good = HelloBuilder().message();
  constexpr std::size_t kSession = 4 + 2 + 32, kSuites = kSession + 1 + 32, kCompression = kSuites + 2 + 4,
                        kBlock = kCompression + 2, kName = kBlock + 2;
  struct Field {
    const char* what;
    std::size_t at;
    int bytes;
  };
  for (const Field& field :
       {Field{"message", 1, 3}, Field{"session id", kSession, 1}, Field{"cipher suites", kSuites, 2},
        Field{"compression", kCompression, 1}, Field{"extensions", kBlock, 2}, Field{"first extension", kName + 2, 2},
        Field{"list of names", kName + 4, 2}, Field{"name", kName + 7, 2}}) {
    std::size_t right = 0, at = field.at;
    for (int i = 0; i < field.bytes; ++i) right = right << 8 | static_cast<std::uint8_t>(good[at++]);
    // Farther away a vector may end where another begins: a different hello, that everybody reads in the same way.
    for (std::size_t wrong = right - std::min<std::size_t>(right, 8); wrong <= right + 8; ++wrong) {
      if (wrong == right) continue;
      std::string bytes = good;
      bytes.replace(field.at, static_cast<std::size_t>(field.bytes), number(wrong, field.bytes));
      const HelloState state = parse(record(bytes)).state;
      const bool may_go_on = field.at == 1 && wrong > right;  // the rest of the message may come in another record
      EXPECT_EQ(state, may_go_on ? HelloState::incomplete : HelloState::malformed) << field.what << " " << wrong;
    }
  }
}

TEST(ClientHello, AnyCutIntoSegmentsGivesTheSame) {
  const std::string bytes = records(HelloBuilder().message(), 7);
  const std::uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    ClientHelloParser parser;
    std::size_t length = 0;
    while (length < bytes.size()) {
      ASSERT_EQ(parser.advance(std::string_view(bytes).substr(0, length)), HelloState::incomplete) << length;
      length = std::min(length + 1 + random() % 40, bytes.size());
    }
    ASSERT_EQ(parser.advance(bytes), HelloState::complete) << parser.problem();
    EXPECT_EQ(parser.hello().sni->name, "api.example.com");
  }
}

// Quadratic work on 16 KiB would be 128 MiB of copying: a second and more under the sanitizers.
TEST(ClientHello, ArrivalByteByByteCostsNoMoreThanAtOnce) {
  const std::string bytes = records(HelloBuilder().with(21, std::string(15'000, '\0')).message(), 40);
  ClientHelloParser parser;
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t length = 1; length < bytes.size(); ++length) {
    ASSERT_EQ(parser.advance(std::string_view(bytes).substr(0, length)), HelloState::incomplete);
  }
  EXPECT_EQ(parser.advance(bytes), HelloState::complete);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(500));
}

TEST(ClientHello, OtherProtocolsAreNotTls) {
  for (const std::string_view bytes : {"GET / HTTP/1.1", "SSH-2.0-x", "\x16\x01", "\x16\x02\x01", "\x15\x04",
                                       "\x80\x2e\x02", "\xff\xff\x01\x05", "{"}) {
    EXPECT_EQ(parse(std::string(bytes)).state, HelloState::not_tls) << bytes;
  }
  EXPECT_EQ(parse(std::string(1, '\0')).state, HelloState::not_tls);
}

TEST(ClientHello, FewBytesLeaveItOpen) {
  for (const std::string_view bytes :
       {"", "\x16", "\x16\x03", "\x16\x03\x01", "\x15", "\x80", "\x80\x2e", "\x80\x2e\x01"}) {
    EXPECT_EQ(parse(std::string(bytes)).state, HelloState::incomplete);
  }
}

TEST(ClientHello, WhatIsMalformedSaysWhy) {
  const std::string good = HelloBuilder().message();
  const std::string two_names =
      vector(std::string(1, '\0') + vector("a.example", 2) + std::string(1, '\0') + vector("b.example", 2), 2);
  const std::string limit = "the limit " + std::to_string(limits::kClientHelloBytesMax);
  HelloBuilder bad_version, bad_session, odd_suites, no_suites, no_compression, deflate_only;
  bad_version.version = number(0x0202, 2);
  bad_session.session_id = std::string(33, 's');
  odd_suites.cipher_suites = "123";
  no_suites.cipher_suites = "";
  no_compression.compression = "";
  deflate_only.compression = "\x01";
  const std::vector<std::pair<std::string, std::string>> cases{
      {std::string("\x80\x2e\x01\x03\x01"), "SSLv2"},
      {std::string("\x80\x2e\x01\x00\x02", 5), "SSLv2"},
      {record("\x02\x28", 21), "type alert"},
      {record("\x01", 20), "type change_cipher_spec"},
      {record("data", 23), "type application data"},
      {record(good.substr(0, 50)) + record("\x01", 20) + record(good.substr(50)), "stands between its parts"},
      {record(good.substr(0, 50)) + record("") + record(good.substr(50)), "record is empty"},
      {record(""), "record is empty"},
      {std::string("\x16\x03\x01\x40\x01"), "longer than 16384"},
      {record(good.substr(0, 50)) + "\x16\x02\x01\x01\x01", "version is not one of TLS"},
      {record("\x02" + good.substr(1)), "another one"},
      {record(good + "x"), "bytes after the message"},
      {record(good + good), "bytes after the message"},
      {record(good.substr(0, 9)) + record(good.substr(9) + "\x0b"), "bytes after the message"},
      {record("\x01" + number(limits::kClientHelloBytesMax - 3, 3)), limit},
      {record("\x01\xff\xff\xff"), limit},
      {record('\x01' + number(0, 3)), "version is not one of TLS"},
      {whole(bad_version), "version is not one of TLS"},
      {whole(bad_session), "session id"},
      {whole(odd_suites), "cipher suites"},
      {whole(no_suites), "cipher suites"},
      {whole(no_compression), "compression"},
      {whole(deflate_only), "null compression"},
      {record('\x01' + vector(HelloBuilder().body() + "x", 3)), "extension block has a wrong length"},
      {record('\x01' + vector(HelloBuilder().body().substr(0, 100), 3)), "extension block has a wrong length"},
      {whole(HelloBuilder().with(16, alpn({"h2"}))), "extension 16 occurs twice"},
      {whole(HelloBuilder().with(0x0a0a, "").with(0x0a0a, "")), "extension 2570 occurs twice"},
      {whole(HelloBuilder().with(41, "psk").with(21, "")), "pre_shared_key extension is not the last"},
      {whole(HelloBuilder().replace(0, two_names)), "more than one entry"},
      {whole(HelloBuilder().replace(0, "")), "server_name extension has a wrong length"},
      {whole(HelloBuilder().replace(0, number(0, 2))), "server_name extension has a wrong length"},
      {whole(HelloBuilder().replace(0, server_name("a.example") + "x")), "server_name extension has a wrong length"},
      {whole(HelloBuilder().replace(0, vector("\x01" + vector("a.example", 2), 2))), "no host name"},
      {whole(HelloBuilder().replace(0, server_name(""))), "server name is empty"},
      {whole(HelloBuilder().replace(0, server_name(std::string("evil\0.example.com", 17)))), "NUL"},
      {whole(HelloBuilder().replace(0, server_name("a..example"))), "empty label"},
      {whole(HelloBuilder().replace(0, server_name("a b.example"))), "not a host name"},
      {whole(HelloBuilder().replace(0, server_name("[2001:db8::1]"))), "not a host name"},
      {whole(HelloBuilder().replace(0, server_name(std::string(300, 'a')))), "not a host name"},
      {whole(HelloBuilder().replace(16, "")), "ALPN extension has a wrong length"},
      {whole(HelloBuilder().replace(16, number(0, 2))), "ALPN extension has a wrong length"},
      {whole(HelloBuilder().replace(16, alpn({"h2", ""}))), "empty protocol name"},
      {whole(HelloBuilder().replace(16, vector("\x05h2", 2))), "ALPN list has a wrong length"},
      {whole(HelloBuilder().replace(43, vector("\x03", 1))), "supported_versions"},
      {whole(HelloBuilder().with(42, "x")), "early_data extension is not empty"},
      {whole(HelloBuilder().with(0xfe0d, "\x01")), "not of the outer form"},
      {whole(HelloBuilder().with(0xfe0d, "")), "not of the outer form"},
  };
  for (const auto& [bytes, why] : cases) {
    const Outcome outcome = parse(bytes);
    EXPECT_EQ(outcome.state, HelloState::malformed) << why;
    EXPECT_THAT(outcome.problem, HasSubstr(why));
    EXPECT_THAT(outcome.problem, ::testing::StartsWith("The TLS ClientHello is not acceptable: "));
  }
}

TEST(ClientHello, MalformedIsFinal) {
  ClientHelloParser parser;
  ASSERT_EQ(parser.advance(record("")), HelloState::malformed);
  EXPECT_EQ(parser.advance(whole(HelloBuilder())), HelloState::malformed);
}

TEST(ClientHello, NoChangedByteMakesItReadPastTheEnd) {
  const std::uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string good = records(HelloBuilder().with(42, "").message(), 60);
  std::size_t malformed = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good.substr(0, random() % 8 == 0 ? random() % good.size() : good.size());
    for (std::size_t change = 0; change < 1 + random() % 3 && !bytes.empty(); ++change) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    malformed += parse(bytes).state == HelloState::malformed ? 1 : 0;
  }
  EXPECT_GT(malformed, 1'000U);
}

}  // namespace
}  // namespace sallyport::net
