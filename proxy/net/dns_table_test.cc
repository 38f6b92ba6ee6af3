#include "proxy/net/dns_table.h"

#include <gtest/gtest.h>

#include <set>

#include "base/limits.h"

namespace sallyport::net {
namespace {

using request::IpAddress;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }

TEST(DnsTable, GivesANameItsAddressesForGood) {
  DnsTable table(DnsTable::Seed{1});
  const auto first = table.assign("api.example.com");
  ASSERT_TRUE(first);
  EXPECT_TRUE(is_synthetic(first->v4));
  EXPECT_TRUE(is_synthetic(first->v6));
  EXPECT_TRUE(first->v6.to_string().starts_with("fd53:616c:6c79::c61")) << first->v6.to_string();
  table.assign("other.example.com");
  const auto again = table.assign("api.example.com");
  EXPECT_EQ(again->v4, first->v4);
  EXPECT_EQ(again->v6, first->v6);
  EXPECT_EQ(table.size(), 2U);
}

TEST(DnsTable, FindsTheNameOfAnAddress) {
  DnsTable table(DnsTable::Seed{1});
  const auto addresses = table.assign("api.example.com");
  EXPECT_EQ(table.name_of(addresses->v4), "api.example.com");
  EXPECT_EQ(table.name_of(addresses->v6), "api.example.com");
  for (const char* other : {"198.17.0.1", "198.20.0.1", "10.0.0.1", "fd53:616c:6c79::", "fd53:616c:6c79::1",
                            "fd53:616c:6c79:0:0:1::", "2001:db8::1", "::"}) {
    EXPECT_FALSE(table.name_of(ip(other))) << other;
  }
}

TEST(DnsTable, WhichAddressDependsOnTheSeed) {
  DnsTable one(DnsTable::Seed{1});
  DnsTable same(DnsTable::Seed{1});
  DnsTable other(DnsTable::Seed{2});
  int differing = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string name = "h" + std::to_string(i) + ".example";
    const auto addresses = one.assign(name);
    EXPECT_EQ(same.assign(name)->v4, addresses->v4);
    differing += other.assign(name)->v4 == addresses->v4 ? 0 : 1;
  }
  EXPECT_GT(differing, 15);
}

TEST(DnsTable, RandomSeedsDiffer) { EXPECT_NE(DnsTable::random_seed(), DnsTable::random_seed()); }

TEST(DnsTable, GivesNoAddressTwiceUntilItIsFull) {
  DnsTable table(DnsTable::Seed{3});
  std::set<std::string> seen;
  for (std::size_t i = 0; i < limits::kDnsNamesMax; ++i) {
    const auto addresses = table.assign("h" + std::to_string(i) + ".example");
    ASSERT_TRUE(addresses);
    const auto& bytes = addresses->v4.bytes();
    ASSERT_TRUE(is_synthetic(addresses->v4));
    ASSERT_NE(bytes[3], 0);
    ASSERT_NE(bytes[3], 255);
    ASSERT_TRUE(seen.insert(addresses->v4.to_string()).second);
  }
  EXPECT_FALSE(table.assign("one.more.example"));
  EXPECT_TRUE(table.assign("h7.example"));
  EXPECT_EQ(table.size(), limits::kDnsNamesMax);
}

TEST(DnsTable, ItsRangesEndWhereTheyShould) {
  for (const char* in : {"198.18.0.0", "198.19.255.255", "fd53:616c:6c79::", "fd53:616c:6c79:0:ffff:ffff:ffff:ffff"}) {
    EXPECT_TRUE(is_synthetic(ip(in))) << in;
  }
  for (const char* out :
       {"198.17.255.255", "198.20.0.0", "fd53:616c:6c79:1::", "fd53:616c:6c78:ffff::", "::ffff:0:0"}) {
    EXPECT_FALSE(is_synthetic(ip(out))) << out;
  }
}

}  // namespace
}  // namespace sallyport::net
