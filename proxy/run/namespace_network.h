#pragma once
// The network inside the command's namespace: a loopback interface that everything is routed to, and the sockets at
// which redirected traffic ends. For a process that has just entered a new network namespace and has CAP_NET_ADMIN in
// it.

#include <array>
#include <cstdint>

#include "base/error.h"
#include "base/unique_fd.h"

namespace sallyport::run {

// Where the rules redirect to, on 127.0.0.1 and ::1. Above the ports that the kernel gives to outgoing connections (up
// to 60999).
inline constexpr std::uint16_t kTcpListenerPort = 61'001;
inline constexpr std::uint16_t kDnsListenerPort = 61'053;

// The loopback's addresses of global scope, without which resolvers (AI_ADDRCONFIG) think that there is no network.
// 192.0.0.8 is the IPv4 dummy address (RFC 7600): a valid source that no host may have. The IPv6 one is from a prefix
// that was drawn at random as RFC 4193 says, for this use only. Connections to them stay inside, as for 127.0.0.1.
inline constexpr const char* kNamespaceAddress4 = "192.0.0.8";
inline constexpr const char* kNamespaceAddress6 = "fddc:2480:75e1::1";

// tcp4, tcp6, dns_udp4, dns_udp6, dns_tcp4, dns_tcp6; the order in which they travel to the guard.
using ListenerSet = std::array<UniqueFd, 6>;

struct NamespaceNetwork {
  bool has_ipv6 = false;  // false: the kernel has none, or has it switched off for this namespace
};

Result<NamespaceNetwork> configure_loopback();
Result<ListenerSet> open_listeners(bool ipv6);

}  // namespace sallyport::run
