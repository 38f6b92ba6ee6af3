#pragma once
// IP addresses and prefixes, and which of them a function may not reach unless its policy says so. Strict textual forms
// only: dotted decimal with four parts without leading zeros, RFC 4291 for IPv6, no zone ids (RFC 6874 is refused).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport::request {

// IPv4 is kept as IPv4, never as an IPv4-mapped IPv6 address.
class IpAddress {
 public:
  static std::optional<IpAddress> parse(std::string_view text);  // "192.0.2.1", "2001:db8::1"; no brackets
  static IpAddress from_v4(std::array<std::uint8_t, 4> bytes);
  static IpAddress from_v6(std::array<std::uint8_t, 16> bytes);  // IPv4-mapped (::ffff:0:0/96) becomes IPv4

  bool is_v4() const { return v4_; }
  const std::array<std::uint8_t, 16>& bytes() const { return bytes_; }  // IPv4: the first four
  std::string to_string() const;                                        // RFC 5952; no brackets
  // The IPv4 address inside NAT64 (64:ff9b::/96), 6to4 (2002::/16), Teredo (2001::/32), IPv4-compatible (::/96), if
  // any: a filter must look at both.
  std::optional<IpAddress> embedded_v4() const;
  bool operator==(const IpAddress&) const = default;

 private:
  std::array<std::uint8_t, 16> bytes_{};
  bool v4_ = true;
};

class Cidr {
 public:
  // "10.0.0.0/8", "fd00::/8", or a bare address for a full-length prefix. Host bits must be zero: the error says which
  // prefix was probably meant.
  static Result<Cidr> parse(std::string_view text);
  bool contains(const IpAddress& address) const;
  std::string to_string() const;
  bool operator==(const Cidr&) const = default;

 private:
  IpAddress network_;
  int length_ = 0;
};

// Addresses that no name may lead to unless the endpoint's `addresses` has them: private, loopback, link-local and
// metadata, carrier-grade NAT, benchmarking, documentation, multicast, reserved, and IPv6 forms that embed one of
// those. Returns a short name of the range ("private", "link-local", "metadata" …), or empty if the address is public.
std::string_view special_range(const IpAddress& address);

}  // namespace sallyport::request
