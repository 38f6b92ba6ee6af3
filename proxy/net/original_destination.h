#pragma once
// Where a redirected connection was going before netfilter sent it here.

#include <cstdint>
#include <optional>
#include <string>

#include "policy-engine/request/address.h"

namespace sallyport::net {

// Distinct types, as they must not be mixed up.
struct OriginalDst {
  request::IpAddress address;
  std::uint16_t port = 0;
  std::string to_string() const;  // "192.0.2.1:443", "[2001:db8::1]:443"
  bool operator==(const OriginalDst&) const = default;
};
struct LocalAddr {
  request::IpAddress address;
  std::uint16_t port = 0;
  std::string to_string() const;
  bool operator==(const LocalAddr&) const = default;
};
struct PeerAddr {
  request::IpAddress address;
  std::uint16_t port = 0;
  std::string to_string() const;
  bool operator==(const PeerAddr&) const = default;
};

// SO_ORIGINAL_DST, or IP6T_SO_ORIGINAL_DST on an IPv6 socket; an IPv4-mapped address becomes IPv4. nullopt when
// connection tracking does not know the connection: it was not redirected, and the caller must not treat it as if it
// were.
std::optional<OriginalDst> original_destination(int fd);

std::optional<LocalAddr> local_address(int fd);
std::optional<PeerAddr> peer_address(int fd);  // nullopt when the peer is gone, or not IP

// A connection that was made to the guard itself: a probe, or a loop if it were followed. `local` is the address of the
// accepted socket. True for that address and port, and for the port on any loopback, unspecified or link-local address,
// or on any other address that is this machine's.
bool is_own_listener(const OriginalDst& destination, const LocalAddr& local);

}  // namespace sallyport::net
