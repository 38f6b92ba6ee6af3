#include "proxy/run/namespace_network.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <span>
#include <string>

#include "base/limits.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

using AddressBytes = std::span<const std::byte>;

// One rtnetlink request: a header, a body and attributes, in a buffer that all of ours fit into.
class Request {
 public:
  template <class Body>
  Request(std::uint16_t type, std::uint16_t flags, const Body& body) {
    header().nlmsg_type = type;
    header().nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    header().nlmsg_len = NLMSG_LENGTH(sizeof body);
    std::memcpy(NLMSG_DATA(&header()), &body, sizeof body);
  }

  void attribute(std::uint16_t type, AddressBytes value) {
    rtattr attribute{static_cast<std::uint16_t>(RTA_LENGTH(value.size())), type};
    char* at = buffer_ + NLMSG_ALIGN(header().nlmsg_len);
    std::memcpy(at, &attribute, sizeof attribute);
    std::memcpy(at + RTA_LENGTH(0), value.data(), value.size());
    header().nlmsg_len = NLMSG_ALIGN(header().nlmsg_len) + static_cast<std::uint32_t>(RTA_ALIGN(attribute.rta_len));
  }

  // 0, or the errno that the kernel answered with.
  int carry_out() {
    UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!socket) return errno;
    if (::send(socket.get(), buffer_, header().nlmsg_len, 0) < 0) return errno;
    alignas(nlmsghdr) char answer[1024];
    ssize_t count = ::recv(socket.get(), answer, sizeof answer, 0);
    if (count < 0) return errno;
    nlmsghdr answer_header{};
    nlmsgerr outcome{};
    if (static_cast<std::size_t>(count) < NLMSG_LENGTH(sizeof outcome)) return EPROTO;
    std::memcpy(&answer_header, answer, sizeof answer_header);
    std::memcpy(&outcome, answer + NLMSG_HDRLEN, sizeof outcome);
    return answer_header.nlmsg_type == NLMSG_ERROR ? -outcome.error : EPROTO;
  }

 private:
  nlmsghdr& header() { return *reinterpret_cast<nlmsghdr*>(buffer_); }
  alignas(nlmsghdr) char buffer_[256] = {};
};

Result<void> bring_loopback_up() {
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  if (!socket || ::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0)
    return system_failure("looking at the loopback interface");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) return system_failure("bringing the loopback interface up");
  return {};
}

int add_address(std::uint8_t family, AddressBytes address, std::uint32_t loopback) {
  ifaddrmsg body{};
  body.ifa_family = family;
  body.ifa_prefixlen = static_cast<std::uint8_t>(address.size() * 8);
  body.ifa_flags = IFA_F_NODAD | IFA_F_PERMANENT;
  body.ifa_scope = RT_SCOPE_UNIVERSE;
  body.ifa_index = loopback;
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body);
  request.attribute(IFA_LOCAL, address);
  request.attribute(IFA_ADDRESS, address);
  return request.carry_out();
}

// `local default dev lo`: without "local", connections hang for want of a way back (a route over lo that is not local
// sends packets out of lo and lets them come in as strangers).
int add_default_route(std::uint8_t family, AddressBytes source, std::uint32_t loopback) {
  rtmsg body{};
  body.rtm_family = family;
  body.rtm_table = RT_TABLE_MAIN;
  body.rtm_protocol = RTPROT_STATIC;
  body.rtm_scope = RT_SCOPE_HOST;
  body.rtm_type = RTN_LOCAL;
  Request request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body);
  request.attribute(RTA_OIF, std::as_bytes(std::span(&loopback, 1)));
  request.attribute(RTA_PREFSRC, source);
  return request.carry_out();
}

Result<void> configure_ipv4(std::uint32_t loopback) {
  in_addr address{};
  ::inet_pton(AF_INET, kNamespaceAddress4, &address);
  auto bytes = std::as_bytes(std::span(&address, 1));
  if (int error = add_address(AF_INET, bytes, loopback))
    return system_failure("giving the namespace an IPv4 address", error);
  if (int error = add_default_route(AF_INET, bytes, loopback))
    return system_failure("routing IPv4 to the guard", error);
  return {};
}

// True: IPv6 is there. False: there is none to guard, and no socket of the command can send it.
Result<bool> configure_ipv6(std::uint32_t loopback) {
  in6_addr address{};
  ::inet_pton(AF_INET6, kNamespaceAddress6, &address);
  auto bytes = std::as_bytes(std::span(&address, 1));
  int error = add_address(AF_INET6, bytes, loopback);
  bool absent = error == EAFNOSUPPORT || error == EOPNOTSUPP;
  bool switched_off = error == EACCES;  // net.ipv6.conf.*.disable_ipv6: lo has not even ::1
  if (absent || switched_off) return false;
  if (error != 0) return system_failure("giving the namespace an IPv6 address", error);
  if (int refused = add_default_route(AF_INET6, bytes, loopback))
    return system_failure("routing IPv6 to the guard", refused);
  return true;
}

struct Endpoint {
  sockaddr_storage address{};
  socklen_t length = 0;
};

// REDIRECT in the output hook sends to 127.0.0.1 and ::1. A wildcard would do for TCP; UDP answers from a wildcard
// socket leave with another source address, which connection tracking does not know. Bound to the loopback, nothing
// else can reach them.
Endpoint loopback_endpoint(int family, std::uint16_t port) {
  Endpoint endpoint;
  if (family == AF_INET) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::memcpy(&endpoint.address, &address, sizeof address);
    endpoint.length = sizeof address;
  } else {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    address.sin6_addr = in6addr_loopback;
    std::memcpy(&endpoint.address, &address, sizeof address);
    endpoint.length = sizeof address;
  }
  return endpoint;
}

Result<UniqueFd> open_socket(int family, int type, std::uint16_t port) {
  const std::string what = "listening on port " + std::to_string(port) + " in the namespace";
  UniqueFd socket(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return system_failure(what);
  const int on = 1;
  if (family == AF_INET6 && ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) {
    return system_failure(what);
  }
  Endpoint endpoint = loopback_endpoint(family, port);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&endpoint.address), endpoint.length) != 0) {
    return system_failure(what);
  }
  if (type == SOCK_STREAM) {
    // Accepted connections inherit it.
    if (::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) return system_failure(what);
    if (::listen(socket.get(), limits::kNamespaceBacklogMax) != 0) return system_failure(what);
  }
  return socket;
}

struct Listener {
  int family, type;
  std::uint16_t port;
};
constexpr std::array<Listener, 6> kListeners{{
    {AF_INET, SOCK_STREAM, kTcpListenerPort},
    {AF_INET6, SOCK_STREAM, kTcpListenerPort},
    {AF_INET, SOCK_DGRAM, kDnsListenerPort},
    {AF_INET6, SOCK_DGRAM, kDnsListenerPort},
    {AF_INET, SOCK_STREAM, kDnsListenerPort},
    {AF_INET6, SOCK_STREAM, kDnsListenerPort},
}};

}  // namespace

Result<NamespaceNetwork> configure_loopback() {
  if (auto up = bring_loopback_up(); !up) return std::unexpected(up.error());
  std::uint32_t loopback = ::if_nametoindex("lo");
  if (auto ipv4 = configure_ipv4(loopback); !ipv4) return std::unexpected(ipv4.error());
  auto ipv6 = configure_ipv6(loopback);
  if (!ipv6) return std::unexpected(ipv6.error());
  return NamespaceNetwork{*ipv6};
}

Result<ListenerSet> open_listeners(bool ipv6) {
  ListenerSet listeners;
  for (std::size_t i = 0; i < kListeners.size(); ++i) {
    if (kListeners[i].family == AF_INET6 && !ipv6) continue;
    auto socket = open_socket(kListeners[i].family, kListeners[i].type, kListeners[i].port);
    if (!socket) return std::unexpected(socket.error());
    listeners[i] = std::move(*socket);
  }
  return listeners;
}

}  // namespace sallyport::run
