#include "policy-engine/request/host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <random>
#include <string>

namespace sallyport::request {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

std::string name_of(std::size_t bytes) {
  std::string name;
  while (name.size() < bytes) name += name.size() % 64 == 63 ? '.' : 'a';
  return name;
}

TEST(Host, GivesOneSpellingToEachName) {
  const struct {
    std::string text;
    std::string canonical;
  } cases[] = {
      {"example.com", "example.com"},       {"EXAMPLE.com", "example.com"},
      {"example.com.", "example.com"},      {"Example.Com.", "example.com"},
      {"localhost", "localhost"},           {"a_b.example", "a_b.example"},
      {"_dmarc.example", "_dmarc.example"}, {"xn--bcher-kva.example", "xn--bcher-kva.example"},
      {"1.example", "1.example"},           {"1.2.3.4.example", "1.2.3.4.example"},
      {"0x7f.example", "0x7f.example"},     {"a--b.example", "a--b.example"},
      {"example.c0m", "example.c0m"},       {"example.1a", "example.1a"},
      {name_of(253), name_of(253)},         {name_of(253) + ".", name_of(253)},
  };
  for (const auto& test : cases) {
    for (const bool bracketed : {false, true}) {
      const Result<Host> host = parse_host(test.text, bracketed);
      ASSERT_TRUE(host) << test.text << ": " << host.error().text;
      EXPECT_EQ(host->name, test.canonical);
      EXPECT_FALSE(host->address);
    }
  }
}

TEST(Host, GivesOneSpellingToEachAddress) {
  const struct {
    const char* text;
    bool bracketed;
    const char* canonical;
  } cases[] = {
      {"192.0.2.1", false, "192.0.2.1"},         {"192.0.2.1", true, "192.0.2.1"},
      {"[2001:DB8:0::1]", true, "2001:db8::1"},  {"2001:DB8:0::1", false, "2001:db8::1"},
      {"[::ffff:192.0.2.1]", true, "192.0.2.1"}, {"::ffff:c000:201", false, "192.0.2.1"},
  };
  for (const auto& test : cases) {
    const Result<Host> host = parse_host(test.text, test.bracketed);
    ASSERT_TRUE(host) << test.text << ": " << host.error().text;
    EXPECT_EQ(host->name, test.canonical);
    ASSERT_TRUE(host->address);
    EXPECT_EQ(host->address->to_string(), test.canonical);
  }
}

TEST(Host, NeverRepairs) {
  const struct {
    std::string text;
    const char* says;
  } cases[] = {
      {"", "empty"},
      {".", "empty label"},
      {"..", "empty label"},
      {"example..com", "empty label"},
      {".example.com", "empty label"},
      {"example.com..", "empty label"},
      {"-a.example", "hyphen"},
      {"a-.example", "hyphen"},
      {"a.-", "hyphen"},
      {std::string(64, 'a') + ".example", "63 bytes"},
      {name_of(254), "253 bytes"},
      {"evil.example\0.allowed.example"s, "0x00 at offset 12"},
      {"exa mple.com", "0x20"},
      {"example.com\r\n", "0x0D"},
      {"example.com\t", "0x09"},
      {"example.com%00", "0x25"},
      {"ex%61mple.com", "0x25"},
      {"example.com/", "0x2F"},
      {"example.com#", "0x23"},
      {"example.com?", "0x3F"},
      {"example.com\\", "0x5C"},
      {"*.example.com", "0x2A"},
      {"user@example.com", "0x40"},
      {"example.com\x7f", "0x7F"},
      {"b\xc3\xbc"
       "cher.example",
       "IDNA"},
      {"example\xe3\x80\x82"
       "com",
       "IDNA"},                          // the ideographic full stop, a dot to IDNA
      {"\xef\xbc\x91.example", "IDNA"},  // a full-width digit
      {"[example.com]", ""},             // CVE-2022-29188
      {"[192.0.2.1]", ""},
      {"[::1", ""},
      {"::1]", ""},
      {"[::1]x", ""},
      {"[::1%25eth0]", ""},
      {"[]", ""},
      {"[", ""},
      {"]", ""},
      {"2130706433", "ends in a number"},
      {"127.1", "ends in a number"},
      {"0177.0.0.1", "ends in a number"},
      {"0x7f.1", "ends in a number"},
      {"0x7f000001", "ends in a number"},
      {"0X7F", "ends in a number"},
      {"127.0.0.1.", "ends in a number"},
      {"127.0.0.0x1", "ends in a number"},
      {"1.2.3.4.5", "ends in a number"},
      {"256.256.256.256", "ends in a number"},
      {"example.09", "ends in a number"},
      {"example.0x", "ends in a number"},
  };
  for (const auto& test : cases) {
    for (const bool bracketed : {false, true}) {
      const Result<Host> host = parse_host(test.text, bracketed);
      ASSERT_FALSE(host) << test.text;
      EXPECT_EQ(host.error().source, ErrorSource::downstream);
      EXPECT_EQ(host.error().kind, ErrorKind::malformed);
      EXPECT_THAT(host.error().text, HasSubstr(test.says)) << test.text;
    }
  }
}

TEST(Host, TakesBracketsOnlyWhereTheyBelong) {
  EXPECT_FALSE(parse_host("[::1]", false));
  EXPECT_FALSE(parse_host("::1", true));
  EXPECT_FALSE(parse_host("fe80::1%eth0", false));
}

TEST(Host, IsCanonicalAfterOnceAndAgreesWithTheAddressParser) {
  const unsigned seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  const std::string_view pieces[] = {"a", "B", "0",  "1", "255", "0x",  ".",    ".", "-",
                                     "_", ":", "::", "[", "]",   "com", "xn--", "%", "\x80"};
  int accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string text;
    const std::size_t count = random() % 10 + 1;
    for (std::size_t i = 0; i < count; ++i) text += pieces[random() % std::size(pieces)];
    const Result<Host> once = parse_host(text, false);
    if (!once) continue;
    ++accepted;
    const Result<Host> twice = parse_host(once->name, false);
    ASSERT_TRUE(twice) << text << " seed " << seed;
    ASSERT_EQ(*once, *twice) << text << " seed " << seed;
    ASSERT_EQ(once->address, IpAddress::parse(once->name)) << text << " seed " << seed;
  }
  EXPECT_GT(accepted, 1000);
}

TEST(Authority, SplitsHostAndPort) {
  const struct {
    const char* text;
    const char* host;
    std::optional<std::uint16_t> port;
  } cases[] = {
      {"example.com", "example.com", std::nullopt},
      {"Example.com.:8443", "example.com", 8443},
      {"192.0.2.1:1", "192.0.2.1", 1},
      {"[::1]", "::1", std::nullopt},
      {"[2001:db8::1]:65535", "2001:db8::1", 65535},
  };
  for (const auto& test : cases) {
    const Result<Authority> authority = parse_authority(test.text);
    ASSERT_TRUE(authority) << test.text << ": " << authority.error().text;
    EXPECT_EQ(authority->host.name, test.host);
    EXPECT_EQ(authority->port, test.port);
  }
}

TEST(Authority, RefusesWhatIsNotHostAndPort) {
  const std::string cases[] = {
      "",
      ":",
      ":80",
      "example.com:",
      "example.com:0",
      "example.com:080",
      "example.com:65536",
      "example.com:99999",
      "example.com:100000",
      "example.com:-1",
      "example.com:+80",
      "example.com:80 ",
      "example.com: 80",
      "example.com:8a",
      "example.com:80:80",
      "::1",
      "::1:80",
      "[::1]80",
      "[::1]:",
      "[::1",
      "[::1:80",
      "[[::1]]",
      "[example.com]:80",
      "user@example.com",
      "user:pass@example.com:80",
      "example.com@evil.example",
      "[::1]@x",
      "a,b",
      "a b",
      "http://a",
      "a/",
      "example.com:80\0"s,
      "example.com\0:80"s,
      "[v1.a]",
      "[fe80::1%eth0]:80",
      "example.com:\xd9\xa1",
  };
  for (const std::string& text : cases) EXPECT_FALSE(parse_authority(text)) << "'" << text << "'";
}

}  // namespace
}  // namespace sallyport::request
