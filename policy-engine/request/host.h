#pragma once
// One spelling per host. Everything that names a host (SNI, Host, :authority, policy, DNS question) goes through here,
// and only canonical hosts are compared.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "policy-engine/request/address.h"

namespace sallyport::request {

// A canonical host: lower case, no trailing dot, labels of 1 to 63 bytes of [a-z0-9_-] (no hyphen at either end), 253
// bytes at most, no empty label; or an IP address in its canonical text without brackets. A name whose last label is
// all digits or "0x…" is refused, as some resolvers take it for an IPv4 address (WHATWG URL, "ends in a number").
struct Host {
  std::string name;
  std::optional<IpAddress> address;  // set when the host is an IP literal
  bool operator==(const Host&) const = default;
};

// A host without port. `bracketed_v6`: IPv6 literals must stand in brackets (Host, URL); else they must not (SNI,
// policy). Never repairs: bytes outside the alphabet, percent signs, brackets around anything but IPv6, zone ids are
// errors. Names in Unicode are refused with their IDNA form asked for.
Result<Host> parse_host(std::string_view text, bool bracketed_v6);

struct Authority {
  Host host;
  std::optional<std::uint16_t> port;  // 1 to 65535, decimal without leading zeros; an empty port ("host:") is refused
};

// The value of Host or :authority: host [ ":" port ]. Userinfo is refused.
Result<Authority> parse_authority(std::string_view text);

}  // namespace sallyport::request
