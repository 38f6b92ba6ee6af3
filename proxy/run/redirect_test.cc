// What becomes of the traffic of a guarded command. All destinations are documentation addresses.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>

#include "proxy/run/namespace_network.h"
#include "proxy/run/redirect_rules.h"
#include "proxy/run/test_process.h"

namespace sallyport::run::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Redirect : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (std::string reason = reason_to_skip(GetParam()); !reason.empty()) GTEST_SKIP() << reason;
  }
  Outcome try_out(Arguments tries) { return run(as_user(GetParam(), probe(std::move(tries)))); }
  Outcome run_as_user(Arguments command) { return run(as_user(GetParam(), std::move(command))); }
};

INSTANTIATE_TEST_SUITE_P(As, Redirect, ::testing::Values(0, kNobody),
                         [](const auto& each) { return each.param == 0 ? "Root" : "OrdinaryUser"; });

TEST_P(Redirect, TcpToAnyAddressAndPortArrivesWithItsOriginalDestination) {
  Outcome seen = try_out({"tcp", "198.51.100.1", "443",   "--", "tcp", "203.0.113.77",    "1",  "--",
                          "tcp", "10.1.2.3",     "65535", "--", "tcp", "169.254.169.254", "80", "--",
                          "tcp", "2001:db8::1",  "443",   "--", "tcp", "fd00:ec2::254",   "80"});
  EXPECT_EQ(seen.code, 0);
  EXPECT_EQ(seen.output,
            "tcp: ok tcp4 198.51.100.1:443\ntcp: ok tcp4 203.0.113.77:1\ntcp: ok tcp4 10.1.2.3:65535\n"
            "tcp: ok tcp4 169.254.169.254:80\ntcp: ok tcp6 [2001:db8::1]:443\ntcp: ok tcp6 [fd00:ec2::254]:80\n");
}

TEST_P(Redirect, DnsOverUdpToAnyServerIsAnsweredFromTheAddressThatWasAsked) {
  Outcome seen = try_out({"udp",          "192.0.2.53", "53",  "q1",        "--",  "udp", "127.0.0.53", "53",
                          "q2",           "--",         "udp", "127.0.0.1", "53",  "q3",  "--",         "udp",
                          "2001:db8::53", "53",         "q4",  "--",        "udp", "::1", "53",         "q5"});
  EXPECT_EQ(seen.output,
            "udp: ok from 192.0.2.53 53: dns-udp4 q1\nudp: ok from 127.0.0.53 53: dns-udp4 q2\n"
            "udp: ok from 127.0.0.1 53: dns-udp4 q3\nudp: ok from 2001:db8::53 53: dns-udp6 q4\nudp: ok from ::1 53: "
            "dns-udp6 q5\n");
}

TEST_P(Redirect, DnsOverTcpToAnyServerArrivesAtTheDnsListeners) {
  Outcome seen =
      try_out({"tcp", "192.0.2.53", "53", "--", "tcp", "127.0.0.53", "53", "--", "tcp", "2001:db8::53", "53"});
  EXPECT_EQ(seen.output,
            "tcp: ok dns-tcp4 192.0.2.53:53\ntcp: ok dns-tcp4 127.0.0.53:53\ntcp: ok dns-tcp6 [2001:db8::53]:53\n");
}

TEST_P(Redirect, OtherDatagramsFailAtOnce) {
  auto begin = std::chrono::steady_clock::now();
  Outcome seen = try_out({"udp", "198.51.100.1", "443", "--", "udp", "198.51.100.1", "123", "--", "udp", "224.0.0.251",
                          "5353", "--", "udp", "2001:db8::1", "443", "--", "udp", "ff02::fb", "5353"});
  EXPECT_THAT(seen.output, Not(HasSubstr("ok")));
  EXPECT_THAT(seen.output, Not(HasSubstr("silence")));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(1'500)) << seen.output;
}

TEST_P(Redirect, TheCommandsOwnLoopbackIsLeftAlone) {
  Outcome seen = try_out({"own-server",
                          "127.0.0.1",
                          "--",
                          "own-server",
                          "127.9.9.9",
                          "--",
                          "own-server",
                          "::1",
                          "--",
                          "own-server",
                          kNamespaceAddress4,
                          "--",
                          "own-server",
                          kNamespaceAddress6,
                          "--",
                          "own-datagrams",
                          "127.0.0.1",
                          "--",
                          "own-datagrams",
                          "::1"});
  EXPECT_EQ(seen.output,
            "own-server: ok own\nown-server: ok own\nown-server: ok own\nown-server: ok own\nown-server: ok own\n"
            "own-datagrams: ok\nown-datagrams: ok\n");
  EXPECT_THAT(seen.log, Not(HasSubstr("tcp4")));
}

TEST_P(Redirect, AConnectionStraightToAListenerShowsTheListenerAsItsDestination) {
  Outcome seen =
      try_out({"tcp", "127.0.0.1", "61001", "--", "tcp", "::1", "61001", "--", "tcp", kNamespaceAddress4, "61001"});
  EXPECT_EQ(seen.output, "tcp: ok tcp4 127.0.0.1:61001\ntcp: ok tcp6 [::1]:61001\ntcp: ECONNREFUSED\n");
}

TEST_P(Redirect, ResolversAskTheGuardAndFindBothFamilies) {
  GuardProcess guard(as_user(GetParam(), probe({"resolve", "name.example"})));
  std::string log = guard.read_log_until("dns-udp4");
  EXPECT_THAT(log, HasSubstr("example"));
  EXPECT_EQ(run_as_user({"cat", "/etc/resolv.conf"}).output, "nameserver 127.0.0.1\noptions edns0\n");
}

std::vector<std::string> addresses_of_this_machine() {
  std::vector<std::string> addresses;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return addresses;
  for (ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET) continue;
    char text[INET_ADDRSTRLEN] = "";
    ::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(each->ifa_addr)->sin_addr, text, sizeof text);
    addresses.emplace_back(text);
  }
  ::freeifaddrs(list);
  return addresses;
}

// A socket on every address of the host, and for root one that sees every packet of every interface.
class Witness {
 public:
  Witness() : datagrams_(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)) {
    sockaddr_in any{};
    any.sin_family = AF_INET;
    socklen_t length = sizeof any;
    ::bind(datagrams_.get(), reinterpret_cast<sockaddr*>(&any), length);
    ::getsockname(datagrams_.get(), reinterpret_cast<sockaddr*>(&any), &length);
    port_ = ntohs(any.sin_port);
    if (::geteuid() == 0) packets_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL)));
  }
  std::string port() const { return std::to_string(port_); }
  bool has_seen(const std::string& marker) const {
    return drain(datagrams_.get(), marker) || drain(packets_.get(), marker);
  }

 private:
  static bool drain(int fd, const std::string& marker) {
    bool seen = false;
    std::string packet(65'536, '\0');
    for (ssize_t count = 0; (count = ::recv(fd, packet.data(), packet.size(), 0)) >= 0;) {
      seen = seen || std::string_view(packet).substr(0, static_cast<std::size_t>(count)).contains(marker);
    }
    return seen;
  }
  UniqueFd datagrams_, packets_;
  std::uint16_t port_ = 0;
};

TEST_P(Redirect, NothingIsSeenOutsideOfTheNamespace) {
  Witness witness;
  Arguments tries{"udp", "198.51.100.1", "443", "sallyport-witness-1", "--",
                  "udp", "2001:db8::1",  "443", "sallyport-witness-1"};
  for (const std::string& address : addresses_of_this_machine()) {
    for (const std::string& word :
         {std::string("--"), std::string("udp"), address, witness.port(), std::string("sallyport-witness-1")}) {
      tries.push_back(word);
    }
  }
  for (const char* word :
       {"--", "tcp", "198.51.100.1", "443", "--", "udp", "192.0.2.53", "53", "sallyport-witness-1"}) {
    tries.emplace_back(word);
  }
  try_out(std::move(tries));
  EXPECT_FALSE(witness.has_seen("sallyport-witness-1"));
  // The witness does see what is there to be seen.
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in self{};
  self.sin_family = AF_INET;
  self.sin_port = htons(static_cast<std::uint16_t>(std::stoi(witness.port())));
  self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::sendto(socket.get(), "sallyport-witness-2", 19, 0, reinterpret_cast<sockaddr*>(&self), sizeof self);
  EXPECT_TRUE(witness.has_seen("sallyport-witness-2"));
}

// In a child that is root of a network namespace of its own; the child's exit status.
int in_new_network(int (*inside)()) {
  pid_t child = ::fork();
  if (child == 0) {
    const std::string map = "0 " + std::to_string(::geteuid()) + " 1";
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) ::_exit(77);
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << map;
    std::ofstream("/proc/self/gid_map") << "0 " << ::getegid() << " 1";
    ::_exit(inside());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

bool arrives(int listening, int family, int option_level) {
  sockaddr_storage destination{};
  socklen_t length = sizeof(sockaddr_in);
  if (family == AF_INET) {
    auto& address = reinterpret_cast<sockaddr_in&>(destination);
    address.sin_family = AF_INET;
    address.sin_port = htons(443);
    ::inet_pton(AF_INET, "198.51.100.1", &address.sin_addr);
  } else {
    auto& address = reinterpret_cast<sockaddr_in6&>(destination);
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(443);
    ::inet_pton(AF_INET6, "2001:db8::1", &address.sin6_addr);
    length = sizeof(sockaddr_in6);
  }
  UniqueFd client(::socket(family, SOCK_STREAM, 0));
  if (::connect(client.get(), reinterpret_cast<sockaddr*>(&destination), length) != 0) return false;
  UniqueFd server(::accept(listening, nullptr, nullptr));
  sockaddr_storage original{};
  socklen_t size = sizeof original;
  if (::getsockopt(server.get(), option_level, SO_ORIGINAL_DST, &original, &size) != 0) return false;
  return std::memcmp(&original, &destination, family == AF_INET ? 8 : 24) == 0;
}

TEST(RedirectRules, IptablesDoesTheSameWhereThereAreNoNfTables) {
  if (::access("/usr/sbin/iptables-restore", X_OK) != 0) GTEST_SKIP() << "iptables is not installed";
  if (std::string reason = reason_to_skip(kNobody); !reason.empty()) GTEST_SKIP() << reason;
  int outcome = in_new_network([] {
    auto network = configure_loopback();
    if (!network) return 1;
    if (!install_redirect_rules(network->has_ipv6, PacketFilter::iptables)) return 2;
    auto listeners = open_listeners(network->has_ipv6);
    if (!listeners) return 3;
    if (!arrives((*listeners)[0].get(), AF_INET, IPPROTO_IP)) return 4;
    if (network->has_ipv6 && !arrives((*listeners)[1].get(), AF_INET6, IPPROTO_IPV6)) return 5;
    UniqueFd quic(::socket(AF_INET, SOCK_DGRAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(443);
    ::inet_pton(AF_INET, "198.51.100.1", &address.sin_addr);
    ssize_t sent = ::sendto(quic.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&address), sizeof address);
    return sent < 0 && errno == EPERM ? 0 : 6;
  });
  EXPECT_EQ(outcome, 0);
}

TEST(RedirectRules, WithoutCapabilitiesThereIsAnErrorThatNamesBothWays) {
  pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) ::_exit(1);
    auto made = install_redirect_rules(true);
    bool told = !made && made.error().text.contains("nf_tables") && made.error().text.contains("iptables");
    ::_exit(told ? 0 : 2);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(NamespaceNetwork, WithoutIPv6OnlyIPv4IsServed) {
  if (std::string reason = reason_to_skip(kNobody); !reason.empty()) GTEST_SKIP() << reason;
  int outcome = in_new_network([] {
    std::ofstream("/proc/sys/net/ipv6/conf/all/disable_ipv6") << "1";
    std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << "1";
    auto network = configure_loopback();
    if (!network) return 1;
    if (network->has_ipv6) return 2;
    if (!install_redirect_rules(network->has_ipv6)) return 3;
    auto listeners = open_listeners(network->has_ipv6);
    if (!listeners || (*listeners)[1] || (*listeners)[3] || (*listeners)[5]) return 4;
    return arrives((*listeners)[0].get(), AF_INET, IPPROTO_IP) ? 0 : 5;
  });
  EXPECT_EQ(outcome, 0);
}

}  // namespace
}  // namespace sallyport::run::test
