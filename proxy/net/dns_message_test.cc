#include "proxy/net/dns_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/limits.h"
#include "proxy/net/dns_builder_test.h"

namespace sallyport::net {
namespace {

using request::IpAddress;

std::string written(const DnsQuery& query, const DnsAnswer& answer) {
  std::string out(kDnsAnswerBytesMax, '\0');
  out.resize(write_dns_answer(out, query, answer));
  return out;
}

TEST(DnsQuery, IsReadWithItsNameInLowerCase) {
  const std::string bytes = query("API.Example.com", DnsType::aaaa);
  const DnsParsed parsed = parse_dns_query(bytes);
  ASSERT_EQ(parsed.verdict, DnsVerdict::query);
  EXPECT_EQ(parsed.query.id, 0x1234);
  EXPECT_EQ(parsed.query.name, "api.example.com");
  EXPECT_EQ(parsed.query.type, DnsType::aaaa);
  EXPECT_EQ(parsed.query.dns_class, 1);
  EXPECT_TRUE(parsed.query.recursion_desired);
  EXPECT_FALSE(parsed.query.has_edns);
  EXPECT_EQ(parsed.query.question, std::string_view(bytes).substr(12));
}

TEST(DnsQuery, BytesThatNoHostNameHasAreEscaped) {
  const std::string name =
      "\x03"
      "a.b" +
      std::string("\x04\0\\\xff ", 5) +
      "\x03"
      "com" +
      std::string(1, '\0');
  const std::string bytes = header(1, 0, 1) + name + u16(1) + u16(1);
  const DnsParsed parsed = parse_dns_query(bytes);
  ASSERT_EQ(parsed.verdict, DnsVerdict::query);
  EXPECT_EQ(parsed.query.name, "a\\046b.\\000\\092\\255\\032.com");
}

TEST(DnsQuery, TheRootAndTheLongestNameAreNames) {
  const DnsParsed root = parse_dns_query(query("", DnsType::ns));
  ASSERT_EQ(root.verdict, DnsVerdict::query);
  EXPECT_EQ(root.query.name, "");
  const std::string label(63, 'x');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'y');
  const std::string bytes = query(longest, DnsType::a);
  EXPECT_EQ(parse_dns_query(bytes).query.name, longest);
  EXPECT_EQ(parse_dns_query(query(longest + "y", DnsType::a)).rcode, DnsRcode::formerr);
}

TEST(DnsQuery, EdnsIsUnderstood) {
  const std::string bytes =
      header(7, 0x0110, 1, 0, 0, 1) + question("a.example", DnsType::a) + opt(0, 0x8000, u16(10) + u16(8) + "cookie!!");
  const DnsParsed parsed = parse_dns_query(bytes);
  ASSERT_EQ(parsed.verdict, DnsVerdict::query);
  EXPECT_TRUE(parsed.query.has_edns);
  EXPECT_TRUE(parsed.query.dnssec_ok);
  EXPECT_TRUE(parsed.query.checking_disabled);
  EXPECT_EQ(parsed.query.question, std::string_view(bytes).substr(12, 15));
}

TEST(DnsQuery, WhatIsNotAQueryIsMetWithSilence) {
  EXPECT_EQ(parse_dns_query("").verdict, DnsVerdict::silence);
  EXPECT_EQ(parse_dns_query(query("a.example", DnsType::a).substr(0, 11)).verdict, DnsVerdict::silence);
  EXPECT_EQ(parse_dns_query(header(1, 0x8180, 1) + question("a.example", DnsType::a)).verdict, DnsVerdict::silence);
}

TEST(DnsQuery, BrokenMessagesAreFormErr) {
  const std::string good = question("a.example", DnsType::a);
  const std::vector<std::pair<std::string, const char*>> cases{
      {header(1, 0, 0), "no question"},
      {header(1, 0, 2) + good + good, "two questions"},
      {header(1, 0, 1), "the question is missing"},
      {header(1, 0, 1) + good.substr(0, good.size() - 1), "the class is cut"},
      {header(1, 0, 1) + good + "x", "a byte after the question"},
      {header(1, 0, 1, 1) + good, "an answer"},
      {header(1, 0, 1, 0, 1) + good, "an authority"},
      {header(1, 0, 1, 0, 0, 1) + good, "the OPT is missing"},
      {header(1, 0, 1, 0, 0, 2) + good + opt() + opt(), "two OPT"},
      {header(1, 0, 1, 0, 0, 1) + good + opt() + "x", "a byte after the OPT"},
      {header(1, 0, 1, 0, 0, 1) + good + opt(0, 0, "abc"), "a cut option"},
      {header(1, 0, 1, 0, 0, 1) + good + opt(0, 0, u16(10) + u16(5) + "four"), "a long option"},
      {header(1, 0, 1, 0, 0, 1) + good + wire_name("a") + opt().substr(1), "an OPT with a name"},
      {header(1, 0, 1, 0, 0, 1) + good + question("", DnsType::a) + u16(0) + u16(9) + u16(0), "an A in additional"},
      {header(1, 0, 1) + "\xc0\x0c" + u16(1) + u16(1), "a pointer to itself"},
      {header(1, 0, 1) +
           "\x01"
           "a\xc0\x0c" +
           u16(1) + u16(1),
       "a pointer after a label"},
      {header(1, 0, 1) + "\x40" + std::string(64, 'a') + '\0' + u16(1) + u16(1), "an extended label"},
      {header(1, 0, 1) + "\x05"
                         "ab",
       "a cut label"},
      {header(1, 0, 1, 0, 0, 1) + good + opt(0, 0, u16(12) + u16(5'000) + std::string(5'000, '\0')), "too long"},
  };
  for (const auto& [bytes, what] : cases) {
    const DnsParsed parsed = parse_dns_query(bytes);
    EXPECT_EQ(parsed.verdict, DnsVerdict::error) << what;
    EXPECT_EQ(parsed.rcode, DnsRcode::formerr) << what;
    EXPECT_EQ(parsed.query.id, 1) << what;
  }
}

TEST(DnsQuery, OtherOperationsAndVersionsAreSaidToBeUnknown) {
  const DnsParsed status = parse_dns_query(header(1, 2 << 11, 1) + question("a.example", DnsType::a));
  EXPECT_EQ(status.rcode, DnsRcode::notimp);
  EXPECT_EQ(static_cast<unsigned char>(written(status.query, {.rcode = status.rcode})[2]), 0x90);
  const std::string bytes = header(1, 0, 1, 0, 0, 1) + question("a.example", DnsType::a) + opt(1);
  const DnsParsed version = parse_dns_query(bytes);
  EXPECT_EQ(version.rcode, DnsRcode::badvers);
  const std::string answer = written(version.query, {.rcode = version.rcode});
  EXPECT_EQ(rcode_of(answer), 0U);  // its low bits; the high ones are in the OPT
  EXPECT_EQ(answer.substr(answer.size() - 6, 2), std::string("\x01\x00", 2));
}

TEST(DnsAnswer, RepeatsTheQuestionByteForByte) {
  const std::string bytes = query("ApI.eXample.Com", DnsType::a, 0xabcd);
  const DnsParsed parsed = parse_dns_query(bytes);
  const std::string answer = written(parsed.query, {.address = IpAddress::parse("198.18.0.1"), .ttl_seconds = 60});
  const std::string expected = header(0xabcd, 0x8180, 1, 1) + bytes.substr(12) + "\xc0\x0c" + u16(1) + u16(1) + u16(0) +
                               u16(60) + u16(4) + std::string("\xc6\x12\x00\x01", 4);
  EXPECT_EQ(answer, expected);
  EXPECT_EQ(address_in(answer), "198.18.0.1");
}

TEST(DnsAnswer, ANegativeOneHasAnSoaThatIsShortLived) {
  const std::string bytes = query("a.example", DnsType::txt);
  const DnsParsed parsed = parse_dns_query(bytes);
  const std::string answer = written(parsed.query, {.rcode = DnsRcode::nxdomain, .negative = true});
  EXPECT_EQ(rcode_of(answer), 3U);
  EXPECT_EQ(answers_of(answer), 0U);
  EXPECT_EQ(authorities_of(answer), 1U);
  EXPECT_EQ(answer.substr(answer.size() - 4), u16(0) + u16(limits::kDnsNegativeTtlSeconds));
  EXPECT_EQ(answer.substr(bytes.size(), 5), std::string("\0\0\x06\0\x01", 5));
}

TEST(DnsAnswer, AnswersEdnsWithEdns) {
  const std::string bytes = header(7, 0, 1, 0, 0, 1) + question("a.example", DnsType::a) + opt(0, 0x8000);
  const std::string answer = written(parse_dns_query(bytes).query, {.rcode = DnsRcode::nxdomain});
  EXPECT_EQ(u16_at(answer, 10), 1U);
  const std::string expected =
      std::string("\0\0\x29", 3) + u16(limits::kDnsMessageBytesMax) + u16(0) + u16(0x8000) + u16(0);
  EXPECT_EQ(answer.substr(answer.size() - 11), expected);
}

TEST(DnsAnswer, TheLongestFits) {
  const std::string label(63, 'x');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'y');
  const std::string bytes = header(7, 0, 1, 0, 0, 1) + question(longest, DnsType::ptr) + opt();
  const DnsParsed parsed = parse_dns_query(bytes);
  EXPECT_LE(written(parsed.query, {.address = IpAddress::parse("2001:db8::1")}).size(), 512U);
  EXPECT_LE(written(parsed.query, {.rcode = DnsRcode::nxdomain, .negative = true}).size(), 512U);
  EXPECT_GT(written(parsed.query, {.ptr = longest}).size(), 512U);  // no question for an address is so long
  EXPECT_EQ(written(parsed.query, {.ptr = longest + "y"}), "");
  EXPECT_EQ(written(parsed.query, {.ptr = "a..b"}), "");
  std::array<char, 20> small;
  EXPECT_EQ(write_dns_answer(small, parsed.query, {}), 0U);
}

TEST(DnsQuery, NoChangedByteMakesItReadPastTheEnd) {
  const std::uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string good =
      header(7, 0, 1, 0, 0, 1) + question("api.example.com", DnsType::a) + opt(0, 0, u16(10) + u16(2) + "ab");
  std::size_t queries = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good.substr(0, random() % 8 == 0 ? random() % good.size() : good.size());
    for (std::size_t change = 0; change < random() % 3 && !bytes.empty(); ++change) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const DnsParsed parsed = parse_dns_query(bytes);
    queries += parsed.verdict == DnsVerdict::query ? 1 : 0;
    EXPECT_GE(written(parsed.query, {.rcode = parsed.rcode}).size(), 12U);
  }
  EXPECT_GT(queries, 1'000U);
}

}  // namespace
}  // namespace sallyport::net
