#include "proxy/net/original_destination.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

namespace sallyport::net {
namespace {

// SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST: the kernel's headers that have them can't stand beside netinet/in.h.
constexpr int kOriginalDestination = 80;

using AddressAndPort = std::pair<request::IpAddress, std::uint16_t>;

std::optional<AddressAndPort> from_sockaddr(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof v4);
    return AddressAndPort{request::IpAddress::from_v4(std::bit_cast<std::array<std::uint8_t, 4>>(v4.sin_addr.s_addr)),
                          ntohs(v4.sin_port)};
  }
  if (storage.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &storage, sizeof v6);
    return AddressAndPort{request::IpAddress::from_v6(std::to_array(v6.sin6_addr.s6_addr)), ntohs(v6.sin6_port)};
  }
  return std::nullopt;
}

std::optional<AddressAndPort> from_option(int fd, int level, int option) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockopt(fd, level, option, &storage, &length) != 0) return std::nullopt;
  return from_sockaddr(storage);
}

std::optional<AddressAndPort> name_of(int fd, int (*get)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (get(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return std::nullopt;
  return from_sockaddr(storage);
}

template <class To>
std::optional<To> typed(const std::optional<AddressAndPort>& from) {
  if (!from) return std::nullopt;
  return To{from->first, from->second};
}

std::string to_text(const request::IpAddress& address, std::uint16_t port) {
  const std::string host = address.is_v4() ? address.to_string() : "[" + address.to_string() + "]";
  return host + ":" + std::to_string(port);
}

bool is_loopback_or_unspecified(const request::IpAddress& address) {
  const auto& bytes = address.bytes();
  if (address.is_v4()) return bytes[0] == 127 || bytes[0] == 0;
  const bool zeros = std::ranges::all_of(bytes.begin(), bytes.end() - 1, [](std::uint8_t byte) { return byte == 0; });
  return zeros && bytes.back() <= 1;
}

}  // namespace

std::string OriginalDst::to_string() const { return to_text(address, port); }
std::string LocalAddr::to_string() const { return to_text(address, port); }
std::string PeerAddr::to_string() const { return to_text(address, port); }

std::optional<OriginalDst> original_destination(int fd) {
  const auto local = name_of(fd, ::getsockname);
  if (!local) return std::nullopt;
  // A dual-stack socket with an IPv4 peer is known to IPv4's connection tracking only.
  if (local->first.is_v4()) return typed<OriginalDst>(from_option(fd, SOL_IP, kOriginalDestination));
  return typed<OriginalDst>(from_option(fd, SOL_IPV6, kOriginalDestination));
}

std::optional<LocalAddr> local_address(int fd) { return typed<LocalAddr>(name_of(fd, ::getsockname)); }
std::optional<PeerAddr> peer_address(int fd) { return typed<PeerAddr>(name_of(fd, ::getpeername)); }

bool is_own_listener(const OriginalDst& destination, const LocalAddr& local) {
  if (destination.port != local.port) return false;
  return destination.address == local.address || is_loopback_or_unspecified(destination.address);
}

}  // namespace sallyport::net
