#include "proxy/net/original_destination.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/unique_fd.h"
#include "proxy/net/program_test.h"

namespace sallyport::net {
namespace {

using request::IpAddress;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }

TEST(OwnListener, IsItsAddressAndAnyLoopbackOrLinkLocalAddressWithItsPort) {
  const LocalAddr local{ip("10.1.2.3"), 15001};
  for (const char* own :
       {"10.1.2.3", "127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "169.254.1.1", "fe80::1"}) {
    EXPECT_TRUE(is_own_listener({ip(own), 15001}, local)) << own;
    EXPECT_FALSE(is_own_listener({ip(own), 443}, local)) << own;
  }
  for (const char* other : {"192.0.2.200", "198.18.0.1", "fd53:616c:6c79::c612:1", "::2", "100::"}) {
    EXPECT_FALSE(is_own_listener({ip(other), 15001}, local)) << other;
  }
}

TEST(OriginalDestination, AddressesAreWrittenWithTheirPort) {
  EXPECT_EQ((OriginalDst{ip("192.0.2.1"), 443}).to_string(), "192.0.2.1:443");
  EXPECT_EQ((PeerAddr{ip("2001:db8::1"), 8443}).to_string(), "[2001:db8::1]:8443");
}

struct Listener {
  UniqueFd fd;
  std::uint16_t port = 0;
};

Listener listen_on(int family, bool v6_only) {
  Listener listener{UniqueFd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  const int only = v6_only ? 1 : 0;
  if (family == AF_INET6) ::setsockopt(listener.fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  sockaddr_storage address{};
  address.ss_family = static_cast<sa_family_t>(family);
  socklen_t length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (::bind(listener.fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0) return {};
  ::listen(listener.fd.get(), 4);
  const auto local = local_address(listener.fd.get());
  listener.port = local ? local->port : std::uint16_t{0};
  return listener;
}

// The accepted end of a connection that is made to an address; no descriptor when there is no answer.
UniqueFd accepted_from(const Listener& listener, const char* to, std::uint16_t port, UniqueFd& client) {
  sockaddr_in v4{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {}, .sin_zero = {}};
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  const bool is_v4 = ::inet_pton(AF_INET, to, &v4.sin_addr) == 1;
  if (!is_v4) ::inet_pton(AF_INET6, to, &v6.sin6_addr);
  client.reset(::socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit{.tv_sec = 3, .tv_usec = 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  ::setsockopt(listener.fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const int connected = is_v4 ? ::connect(client.get(), reinterpret_cast<sockaddr*>(&v4), sizeof v4)
                              : ::connect(client.get(), reinterpret_cast<sockaddr*>(&v6), sizeof v6);
  if (connected != 0) return {};
  return UniqueFd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

TEST(OriginalDestination, AConnectionThatWasNotRedirectedIsNeverSomewhereElse) {
  const Listener listener = listen_on(AF_INET, false);
  UniqueFd client;
  const UniqueFd accepted = accepted_from(listener, "127.0.0.1", listener.port, client);
  ASSERT_TRUE(accepted);
  const auto local = local_address(accepted.get());
  ASSERT_TRUE(local);
  EXPECT_EQ(local->to_string(), "127.0.0.1:" + std::to_string(listener.port));
  // Without connection tracking there is no answer, with it the listener itself.
  const auto destination = original_destination(accepted.get());
  if (destination) EXPECT_TRUE(is_own_listener(*destination, *local));
  const auto peer = peer_address(accepted.get());
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->address, ip("127.0.0.1"));
}

TEST(OriginalDestination, ADescriptorThatIsNoSocketHasNone) {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(original_destination(null.get()));
  EXPECT_FALSE(local_address(null.get()));
}

// In a network namespace of its own, redirected as a guarded command is. The exit codes tell the parent what failed.
enum Exit { kSeen = 0, kNoNamespace = 10, kNoRoutes = 11, kNoRules = 12, kWrongAnswer = 13, kNotOwn = 14 };

bool write_file(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  return static_cast<bool>(file.flush());
}

bool enter_namespace() {
  const std::string uid = std::to_string(::getuid());
  const std::string gid = std::to_string(::getgid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
  write_file("/proc/self/setgroups", "deny");
  return write_file("/proc/self/uid_map", "0 " + uid + " 1") && write_file("/proc/self/gid_map", "0 " + gid + " 1");
}

bool run(const std::string& commands) { return std::system(("exec >/dev/null 2>&1; " + commands).c_str()) == 0; }

bool redirect(const std::string& iptables, const std::string& loopback, std::uint16_t port) {
  return run(iptables + " -t nat -F OUTPUT && " + iptables + " -t nat -A OUTPUT -d " + loopback + " -j RETURN && " +
             iptables + " -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports " + std::to_string(port));
}

bool redirect_to(std::uint16_t port_v4, std::uint16_t port_v6) {
  return redirect("iptables", "127.0.0.0/8", port_v4) && redirect("ip6tables", "::1", port_v6);
}

bool sees(const Listener& listener, const char* to) {
  UniqueFd client;
  const UniqueFd accepted = accepted_from(listener, to, 443, client);
  if (!accepted) return false;
  const auto destination = original_destination(accepted.get());
  const auto local = local_address(accepted.get());
  return destination && local && *destination == OriginalDst{ip(to), 443} && local->port == listener.port &&
         !is_own_listener(*destination, *local);
}

Exit look_from_inside() {
  if (!enter_namespace()) return kNoNamespace;
  const Listener v4 = listen_on(AF_INET, false);
  const Listener v6 = listen_on(AF_INET6, true);
  const Listener dual = listen_on(AF_INET6, false);
  if (!run("ip link set lo up && ip route add local default dev lo && ip -6 route add local default dev lo && "
           "ip address add 2001:db8::9/128 dev lo nodad")) {
    return kNoRoutes;
  }
  // Addresses of this machine: with the listener's port it is a loop, however it is spelt.
  for (const char* own : {"203.0.113.9", "2001:db8::9"}) {
    const LocalAddr local{ip("127.0.0.1"), 15001};
    if (!is_own_listener({ip(own), 15001}, local) || is_own_listener({ip(own), 443}, local)) return kNotOwn;
  }
  if (!redirect_to(v4.port, v6.port)) return kNoRules;
  if (!sees(v4, "93.184.216.34") || !sees(v6, "2606:2800:220:1::1")) return kWrongAnswer;
  if (!redirect_to(dual.port, dual.port)) return kNoRules;
  return sees(dual, "93.184.216.34") && sees(dual, "2606:2800:220:1::1") ? kSeen : kWrongAnswer;
}

TEST(OriginalDestination, IsWhereARedirectedConnectionWasGoing) {
  if (lacks("iptables") || lacks("ip6tables") || lacks("ip")) GTEST_SKIP() << "iptables or ip is not installed";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(look_from_inside());
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNoNamespace) GTEST_SKIP() << "this machine allows no user namespaces";
  EXPECT_EQ(WEXITSTATUS(status), kSeen)
      << "10 no namespace, 11 no routes, 12 no rules, 13 wrong answer, 14 not its own";
}

}  // namespace
}  // namespace sallyport::net
