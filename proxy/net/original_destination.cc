#include "proxy/net/original_destination.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/unique_fd.h"

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

bool is_loopback_unspecified_or_link_local(const request::IpAddress& address) {
  const auto& bytes = address.bytes();
  if (address.is_v4()) return bytes[0] == 127 || bytes[0] == 0 || (bytes[0] == 169 && bytes[1] == 254);
  const bool zeros = std::ranges::all_of(bytes.begin(), bytes.end() - 1, [](std::uint8_t byte) { return byte == 0; });
  return (zeros && bytes.back() <= 1) || (bytes[0] == 0xFE && (bytes[1] & 0xC0) == 0x80);
}

// Only an address of this machine can be bound to; with IPv4 that holds for addresses that no interface has, too (a
// route of type local). Fails closed: when there is no descriptor to try it with, the address counts as the machine's.
bool is_of_this_machine(const request::IpAddress& address) {
  sockaddr_storage storage{};
  socklen_t length = 0;
  if (address.is_v4()) {
    sockaddr_in v4{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {}, .sin_zero = {}};
    std::memcpy(&v4.sin_addr, address.bytes().data(), sizeof v4.sin_addr);
    std::memcpy(&storage, &v4, length = sizeof v4);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, address.bytes().data(), sizeof v6.sin6_addr);
    std::memcpy(&storage, &v6, length = sizeof v6);
  }
  const UniqueFd probe(::socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe) return true;
  return ::bind(probe.get(), reinterpret_cast<const sockaddr*>(&storage), length) == 0;
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
  return destination.address == local.address || is_loopback_unspecified_or_link_local(destination.address) ||
         is_of_this_machine(destination.address);
}

}  // namespace sallyport::net
