#include "policy-engine/request/address.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <random>
#include <string>

namespace sallyport::request {
namespace {

IpAddress address(std::string_view text) {
  const std::optional<IpAddress> parsed = IpAddress::parse(text);
  EXPECT_TRUE(parsed) << text;
  return parsed.value_or(IpAddress());
}

std::optional<IpAddress> by_inet_pton(const std::string& text) {
  std::array<std::uint8_t, 4> v4{};
  if (inet_pton(AF_INET, text.c_str(), v4.data()) == 1) return IpAddress::from_v4(v4);
  std::array<std::uint8_t, 16> v6{};
  if (inet_pton(AF_INET6, text.c_str(), v6.data()) == 1) return IpAddress::from_v6(v6);
  return std::nullopt;
}

TEST(IpAddress, ParsesAndPrintsTheCanonicalForm) {
  const struct {
    const char* text;
    const char* canonical;
  } cases[] = {
      {"0.0.0.0", "0.0.0.0"},
      {"192.0.2.1", "192.0.2.1"},
      {"255.255.255.255", "255.255.255.255"},
      {"::", "::"},
      {"::1", "::1"},
      {"1::", "1::"},
      {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
      {"2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"},  // RFC 5952 4.2.3: the first of equal runs
      {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},                  // 4.2.2: never one group alone
      {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},                           // 4.2.3: the longest run
      {"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"},
      {"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
      {"64:ff9b::192.0.2.33", "64:ff9b::c000:221"},
      {"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"},
      {"::ffff:192.0.2.1", "192.0.2.1"},  // IPv4-mapped is IPv4
      {"::ffff:c000:201", "192.0.2.1"},
      {"0:0:0:0:0:ffff:7f00:1", "127.0.0.1"},
  };
  for (const auto& test : cases) {
    EXPECT_EQ(address(test.text).to_string(), test.canonical) << test.text;
    EXPECT_EQ(address(test.canonical), address(test.text)) << test.text;
  }
}

TEST(IpAddress, RefusesEveryOtherSpelling) {
  using namespace std::string_literals;
  const std::string cases[] = {
      "",
      " ",
      "1",
      "127.1",
      "127.0.1",
      "2130706433",
      "0x7f000001",
      "017700000001",
      "0177.0.0.1",
      "0x7f.0.0.1",
      "127.0.0.01",
      "127.0.0.1.",
      ".127.0.0.1",
      "127..0.1",
      "127.0.0.1.1",
      "256.0.0.1",
      "1.2.3.1000",
      "1.2.3.-4",
      "+1.2.3.4",
      " 127.0.0.1",
      "127.0.0.1 ",
      "127.0.0.1\n",
      "127.0.0.1\0"s,
      "127.0.0.1\0.example"s,
      "1.2.3.4/32",
      "1.2.3.4:80",
      ":",
      ":::",
      "1:",
      ":1",
      "1:::2",
      "::1::",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7:8::",
      "::1:2:3:4:5:6:7:8",
      "1:2:3:4::5:6:7:8",
      "12345::",
      "g::",
      "::1%eth0",
      "fe80::1%251",
      "[::1]",
      "::1.2.3",
      "::1.2.3.4.5",
      "::1.2.3.04",
      "1.2.3.4::",
      "::1.2.3.4:5",
      "1:2:3:4:5:6:7:1.2.3.4",
      "1:2:3:4:5:1.2.3.4",
      "::0x1",
      "-1::",
      "::\0"s,
      "::1 ",
  };
  for (const std::string& text : cases) EXPECT_FALSE(IpAddress::parse(text)) << "'" << text << "'";
}

TEST(IpAddress, AgreesWithInetPtonOnRandomText) {
  const unsigned seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  const std::string_view pieces[] = {"0", "1", "00",   "255",     "256",  "ff", "FFFF",      "fffff", ".",
                                     ".", ":", ":",    "::",      "a",    "10", "192.0.2.1", "%",     " ",
                                     "-", "g", "7f00", "64:ff9b", "0000", "01", "0x1"};
  int accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string text;
    const std::size_t count = random() % 16 + 1;
    for (std::size_t i = 0; i < count; ++i) text += pieces[random() % std::size(pieces)];
    const std::optional<IpAddress> ours = IpAddress::parse(text);
    ASSERT_EQ(ours, by_inet_pton(text)) << "'" << text << "' seed " << seed;
    accepted += ours.has_value();
  }
  EXPECT_GT(accepted, 100);
}

TEST(IpAddress, AgreesWithInetPtonOnDamagedAddressesAndPrintsWhatParsesBack) {
  const unsigned seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  for (int round = 0; round < 100'000; ++round) {
    std::array<std::uint8_t, 16> bytes{};
    for (std::uint8_t& byte : bytes) byte = random() % 2 ? 0 : static_cast<std::uint8_t>(random());
    const IpAddress original =
        round % 4 ? IpAddress::from_v6(bytes) : IpAddress::from_v4({bytes[0], bytes[1], bytes[2], bytes[3]});
    std::string text = original.to_string();
    ASSERT_EQ(IpAddress::parse(text), original) << text << " seed " << seed;
    ASSERT_EQ(by_inet_pton(text), original) << text << " seed " << seed;
    text[random() % text.size()] = "0123456789abcdefABCDEFg:.: %"[random() % 28];
    ASSERT_EQ(IpAddress::parse(text), by_inet_pton(text)) << text << " seed " << seed;
  }
}

TEST(IpAddress, FindsTheIpv4AddressInsideTransitionForms) {
  EXPECT_EQ(address("64:ff9b::10.0.0.1").embedded_v4(), address("10.0.0.1"));
  EXPECT_EQ(address("2002:0a00:0001::1").embedded_v4(), address("10.0.0.1"));
  EXPECT_EQ(address("2001:0:4136:e378:8000:63bf:3fff:fdd2").embedded_v4(),
            address("192.0.2.45"));  // RFC 4380's example
  EXPECT_EQ(address("::192.0.2.1").embedded_v4(), address("192.0.2.1"));
  EXPECT_EQ(address("2606:4700::1111").embedded_v4(), std::nullopt);
  EXPECT_EQ(address("64:ff9b:1::1").embedded_v4(), std::nullopt);
  EXPECT_EQ(address("10.0.0.1").embedded_v4(), std::nullopt);
}

TEST(SpecialRange, NamesWhatANameMayNotLeadTo) {
  const struct {
    const char* address;
    const char* range;
  } cases[] = {
      // The first and the last address of each range of RFC 6890 and its later registrations, and of the bypass list.
      {"0.0.0.0", "this-network"},
      {"0.255.255.255", "this-network"},
      {"10.0.0.0", "private"},
      {"10.255.255.255", "private"},
      {"100.64.0.0", "carrier-grade-nat"},
      {"100.127.255.255", "carrier-grade-nat"},
      {"127.0.0.0", "loopback"},
      {"127.255.255.255", "loopback"},
      {"169.254.0.0", "link-local"},
      {"169.254.255.255", "link-local"},
      {"172.16.0.0", "private"},
      {"172.31.255.255", "private"},
      {"192.0.0.0", "protocol-assignments"},
      {"192.0.0.255", "protocol-assignments"},
      {"192.0.2.0", "documentation"},
      {"192.0.2.255", "documentation"},
      {"192.88.99.1", "reserved"},
      {"192.168.0.0", "private"},
      {"192.168.255.255", "private"},
      {"198.18.0.0", "benchmarking"},
      {"198.19.255.255", "benchmarking"},
      {"198.51.100.7", "documentation"},
      {"203.0.113.7", "documentation"},
      {"224.0.0.0", "multicast"},
      {"239.255.255.255", "multicast"},
      {"240.0.0.0", "reserved"},
      {"255.255.255.254", "reserved"},
      {"255.255.255.255", "broadcast"},
      {"169.254.169.254", "metadata"},
      {"169.254.170.2", "metadata"},
      {"169.254.170.23", "metadata"},
      {"168.63.129.16", "metadata"},
      {"100.100.100.200", "metadata"},
      {"192.0.0.192", "metadata"},
      {"::", "unspecified"},
      {"::1", "loopback"},
      {"100::1", "discard"},
      {"100:0:0:1::", "reserved"},
      {"2001:db8::1", "documentation"},
      {"3fff:fff::1", "documentation"},
      {"2001:2::1", "protocol-assignments"},
      {"2001:20::1", "protocol-assignments"},
      {"2001:1ff::1", "protocol-assignments"},
      {"fc00::", "private"},
      {"fdff::1", "private"},
      {"fe80::1", "link-local"},
      {"febf::1", "link-local"},
      {"fec0::1", "private"},
      {"ff02::1", "multicast"},
      {"ff0e::1", "multicast"},
      {"fd00:ec2::254", "metadata"},
      {"fd20:ce::254", "metadata"},
      {"64:ff9b:1::1", "reserved"},
      {"5f00::1", "reserved"},
      {"4000::1", "reserved"},
      {"::ffff:0:8.8.8.8", "reserved"},
      // Embedded forms lead where their IPv4 address leads.
      {"::ffff:127.0.0.1", "loopback"},
      {"::ffff:169.254.169.254", "metadata"},
      {"::ffff:a00:1", "private"},
      {"64:ff9b::169.254.169.254", "metadata"},
      {"64:ff9b::10.1.2.3", "private"},
      {"2002:7f00:1::", "loopback"},
      {"2002:a9fe:a9fe::1", "metadata"},
      {"2001:0:1:2:3:4:f5ff:fffe", "private"},
      {"2001:0:1:2:3:4:5601:5601", "metadata"},
      {"2001:0:1:2:3:4:f7f7:f7f7", "protocol-assignments"},
      {"::10.0.0.1", "private"},
      {"::8.8.8.8", "reserved"},
  };
  for (const auto& test : cases) EXPECT_EQ(special_range(address(test.address)), test.range) << test.address;
}

TEST(SpecialRange, LeavesPublicAddressesAlone) {
  const char* cases[] = {"1.0.0.0",          "8.8.8.8",         "9.255.255.255",  "11.0.0.0",        "100.63.255.255",
                         "100.128.0.0",      "126.255.255.255", "128.0.0.1",      "169.253.255.255", "169.255.0.0",
                         "172.15.255.255",   "172.32.0.0",      "192.0.1.0",      "192.0.3.0",       "192.167.255.255",
                         "192.169.0.0",      "198.17.255.255",  "198.20.0.0",     "223.255.255.255", "168.63.129.15",
                         "2606:4700::1111",  "2a00:1450::1",    "2001:200::1",    "2001:db7::1",     "3ffe::1",
                         "64:ff9b::8.8.8.8", "2002:808:808::1", "2620:4f:8000::1"};
  for (const char* text : cases) EXPECT_EQ(special_range(address(text)), "") << text;
}

TEST(Cidr, ContainsWhatHasItsPrefix) {
  const struct {
    const char* cidr;
    const char* address;
    bool contains;
  } cases[] = {
      {"10.0.0.0/8", "10.255.0.1", true},
      {"10.0.0.0/8", "11.0.0.0", false},
      {"172.16.0.0/12", "172.31.255.255", true},
      {"172.16.0.0/12", "172.32.0.0", false},
      {"0.0.0.0/0", "203.0.113.1", true},
      {"0.0.0.0/0", "2001:db8::1", false},
      {"::/0", "2001:db8::1", true},
      {"::/0", "10.0.0.1", false},
      {"::/0", "::ffff:10.0.0.1", false},
      {"192.0.2.1", "192.0.2.1", true},
      {"192.0.2.1", "192.0.2.0", false},
      {"fd00::/8", "fdff::1", true},
      {"fd00::/8", "fc00::1", false},
      {"2001:db8::/33", "2001:db8:7fff::", true},
      {"2001:db8::/33", "2001:db8:8000::", false},
      {"::1/128", "::1", true},
  };
  for (const auto& test : cases) {
    const Result<Cidr> cidr = Cidr::parse(test.cidr);
    ASSERT_TRUE(cidr) << test.cidr;
    EXPECT_EQ(cidr->contains(address(test.address)), test.contains) << test.cidr << " " << test.address;
  }
}

TEST(Cidr, PrintsWithItsLength) {
  EXPECT_EQ(Cidr::parse("192.0.2.1")->to_string(), "192.0.2.1/32");
  EXPECT_EQ(Cidr::parse("2001:DB8::/32")->to_string(), "2001:db8::/32");
  EXPECT_EQ(Cidr::parse("fd00::1")->to_string(), "fd00::1/128");
}

TEST(Cidr, SaysWhatIsWrong) {
  const struct {
    const char* text;
    const char* says;
  } cases[] = {
      {"10.1.2.3/8", "did you mean 10.0.0.0/8?"},
      {"2001:db8::1/32", "did you mean 2001:db8::/32?"},
      {"10.0.0.0/33", "from 0 to 32"},
      {"10.0.0.0/", "from 0 to 32"},
      {"10.0.0.0/08", "from 0 to 32"},
      {"10.0.0.0/-1", "from 0 to 32"},
      {"10.0.0.0/8/8", "from 0 to 32"},
      {"10.0.0.0/255.0.0.0", "from 0 to 32"},
      {"fd00::/129", "from 0 to 128"},
      {"10.0.0/8", "not an address prefix"},
      {"", "not an address prefix"},
      {"example.com", "not an address prefix"},
      {"::ffff:10.0.0.0/104", "write the IPv4 prefix"},
  };
  for (const auto& test : cases) {
    const Result<Cidr> cidr = Cidr::parse(test.text);
    ASSERT_FALSE(cidr) << test.text;
    EXPECT_EQ(cidr.error().kind, ErrorKind::invalid);
    EXPECT_THAT(cidr.error().text, testing::HasSubstr(test.says)) << test.text;
  }
}

}  // namespace
}  // namespace sallyport::request
