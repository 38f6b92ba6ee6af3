#include "proxy/net/dns_responder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/limits.h"
#include "proxy/net/dns_builder_test.h"

namespace sallyport::net {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DnsResponderTest : public ::testing::Test {
 protected:
  std::string ask(std::string_view bytes) {
    std::string out(kDnsAnswerBytesMax, '\0');
    out.resize(responder_.respond(bytes, out));
    return out;
  }
  std::string ask(std::string_view name, DnsType type) { return ask(query(name, type)); }

  DnsDecision decision_ = DnsDecision::allow;
  std::vector<std::string> decided_;
  std::vector<DnsReport> reports_;
  DnsTable table_{DnsTable::Seed{7}};
  DnsResponder responder_{table_,
                          {.decide =
                               [this](std::string_view name) {
                                 decided_.emplace_back(name);
                                 return decision_;
                               },
                           .on_report = [this](const DnsReport& report) { reports_.push_back(report); }}};
};

TEST_F(DnsResponderTest, AnAllowedNameHasItsSyntheticAddresses) {
  const std::string v4 = ask("API.example.com", DnsType::a);
  EXPECT_EQ(rcode_of(v4), 0U);
  ASSERT_EQ(answers_of(v4), 1U);
  EXPECT_EQ(table_.name_of(*request::IpAddress::parse(address_in(v4))), "api.example.com");
  const std::string v6 = ask("api.example.com", DnsType::aaaa);
  ASSERT_EQ(answers_of(v6), 1U);
  EXPECT_EQ(table_.name_of(*request::IpAddress::parse(address_in(v6))), "api.example.com");
  EXPECT_THAT(decided_, ::testing::Each("api.example.com"));
  EXPECT_THAT(reports_, IsEmpty());
}

TEST_F(DnsResponderTest, NothingHidesInOtherTypes) {
  for (const DnsType type : {DnsType::txt, DnsType::null, DnsType::any, DnsType::mx, DnsType::srv, DnsType::svcb,
                             DnsType::https, DnsType::cname, DnsType::ns, DnsType::soa, static_cast<DnsType>(65'280)}) {
    const std::string answer = ask("api.example.com", type);
    EXPECT_EQ(rcode_of(answer), 0U) << to_string(type);
    EXPECT_EQ(answers_of(answer), 0U) << to_string(type);
    EXPECT_EQ(authorities_of(answer), 1U) << to_string(type);
  }
  EXPECT_EQ(table_.size(), 0U);
}

TEST_F(DnsResponderTest, ADeniedNameDoesNotExistAndIsReportedOnce) {
  decision_ = DnsDecision::deny;
  for (const DnsType type : {DnsType::a, DnsType::aaaa, DnsType::txt}) {
    const std::string answer = ask("Evil.example", type);
    EXPECT_EQ(rcode_of(answer), 3U);
    EXPECT_EQ(authorities_of(answer), 1U);
  }
  ASSERT_THAT(reports_, SizeIs(1));
  EXPECT_EQ(reports_[0].name, "evil.example");
  EXPECT_EQ(reports_[0].type, DnsType::a);
  EXPECT_EQ(reports_[0].decision, DnsDecision::deny);
  EXPECT_EQ(table_.size(), 0U);
}

TEST_F(DnsResponderTest, AnAuditedNameIsAnsweredAndReported) {
  decision_ = DnsDecision::would_deny;
  EXPECT_EQ(answers_of(ask("evil.example", DnsType::a)), 1U);
  EXPECT_EQ(answers_of(ask("evil.example", DnsType::a)), 1U);
  ASSERT_THAT(reports_, SizeIs(1));
  EXPECT_EQ(reports_[0].decision, DnsDecision::would_deny);
}

TEST_F(DnsResponderTest, ReportsAreBoundedAndTheLastSaysSo) {
  decision_ = DnsDecision::deny;
  for (std::size_t i = 0; i < limits::kDnsReportsMax + 10; ++i) {
    EXPECT_EQ(rcode_of(ask("h" + std::to_string(i) + ".example", DnsType::a)), 3U);
  }
  ASSERT_THAT(reports_, SizeIs(limits::kDnsReportsMax));
  EXPECT_THAT(reports_.front().text, ::testing::Not(HasSubstr("last")));
  EXPECT_THAT(reports_.back().text, HasSubstr("the last name that is reported"));
}

TEST_F(DnsResponderTest, WhatIsNoHostNameNeverReachesThePolicy) {
  for (const std::string_view name :
       {"a b.example", "192.0.2.1", "example.0x7f", "-a.example", "", "caf\xc3\xa9.example"}) {
    EXPECT_EQ(rcode_of(ask(name, DnsType::a)), 3U) << name;
  }
  EXPECT_THAT(decided_, IsEmpty());
  EXPECT_THAT(reports_, SizeIs(6));
}

TEST_F(DnsResponderTest, LocalhostIsLoopbackWhateverThePolicy) {
  decision_ = DnsDecision::deny;
  EXPECT_EQ(address_in(ask("localhost", DnsType::a)), "127.0.0.1");
  EXPECT_EQ(address_in(ask("LOCALHOST", DnsType::aaaa)), "::1");
  EXPECT_EQ(address_in(ask("db.localhost", DnsType::a)), "127.0.0.1");
  EXPECT_EQ(rcode_of(ask("localhost", DnsType::txt)), 0U);
  EXPECT_EQ(answers_of(ask("localhost", DnsType::txt)), 0U);
  EXPECT_EQ(rcode_of(ask("notlocalhost", DnsType::a)), 3U);
  EXPECT_THAT(decided_, ::testing::ElementsAre("notlocalhost"));
}

TEST_F(DnsResponderTest, ReverseLookupsKnowOnlyWhatWasHandedOut) {
  const auto addresses = table_.assign("api.example.com");
  const auto& v4 = addresses->v4.bytes();
  std::string reverse_v4;
  for (int i = 3; i >= 0; --i) reverse_v4 += std::to_string(v4[static_cast<std::size_t>(i)]) + ".";
  std::string reverse_v6;
  for (int i = 15; i >= 0; --i) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const auto byte = addresses->v6.bytes()[static_cast<std::size_t>(i)];
    reverse_v6 += {kDigits[byte & 15], '.', kDigits[byte >> 4], '.'};
  }
  for (const std::string& name : {reverse_v4 + "in-addr.arpa", reverse_v6 + "ip6.arpa", reverse_v6 + "IP6.ARPA"}) {
    const std::string answer = ask(name, DnsType::ptr);
    ASSERT_EQ(answers_of(answer), 1U) << name;
    EXPECT_THAT(answer, HasSubstr(wire_name("api.example.com")));
    EXPECT_EQ(answers_of(ask(name, DnsType::a)), 0U);
    EXPECT_EQ(rcode_of(ask(name, DnsType::a)), 0U);
  }
  EXPECT_THAT(ask("1.0.0.127.in-addr.arpa", DnsType::ptr), HasSubstr(wire_name("localhost")));
  for (const std::string_view name : {"1.0.19.198.in-addr.arpa", "8.8.8.8.in-addr.arpa", "in-addr.arpa", "ip6.arpa",
                                      "1.2.3.in-addr.arpa", "01.2.3.4.in-addr.arpa", "256.2.3.4.in-addr.arpa",
                                      "a.2.3.4.in-addr.arpa", "1.1.2.3.4.in-addr.arpa", "1.ip6.arpa"}) {
    EXPECT_EQ(rcode_of(ask(name, DnsType::ptr)), 3U) << name;
  }
  EXPECT_THAT(decided_, IsEmpty());
  EXPECT_THAT(reports_, IsEmpty());
}

TEST_F(DnsResponderTest, AFullTableFailsTheLookupAndSaysSo) {
  for (std::size_t i = 0; i < limits::kDnsNamesMax; ++i) table_.assign("h" + std::to_string(i) + ".example");
  decision_ = DnsDecision::would_deny;
  EXPECT_EQ(rcode_of(ask("one.more.example", DnsType::a)), 2U);
  EXPECT_EQ(rcode_of(ask("one.more.example", DnsType::aaaa)), 2U);
  ASSERT_THAT(reports_, SizeIs(2));
  EXPECT_EQ(reports_[0].decision, DnsDecision::would_deny);
  EXPECT_EQ(reports_[1].decision, DnsDecision::deny);
  EXPECT_THAT(reports_[1].text, HasSubstr("full"));
  EXPECT_EQ(answers_of(ask("h1.example", DnsType::a)), 1U);
}

TEST_F(DnsResponderTest, OtherClassesAreRefused) {
  EXPECT_EQ(rcode_of(ask(header(1, 0, 1) + question("version.bind", DnsType::txt, 3))), 5U);
  EXPECT_EQ(rcode_of(ask(header(1, 0, 1) + question("a.example", DnsType::a, 255))), 5U);
  EXPECT_THAT(decided_, IsEmpty());
}

TEST_F(DnsResponderTest, MalformedMessagesGetFormErrOrSilence) {
  EXPECT_EQ(ask("short"), "");
  EXPECT_EQ(ask(header(1, 0x8180, 1) + question("a.example", DnsType::a)), "");
  EXPECT_EQ(rcode_of(ask(header(1, 0, 1) + "\xc0\x0c" + u16(1) + u16(1))), 1U);
}

}  // namespace
}  // namespace sallyport::net
