#pragma once
// Names and the synthetic addresses that stand for them: what the function's lookups are answered with, and what the
// guard finds the name by when a connection without SNI or Host arrives.

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "policy-engine/request/address.h"

namespace sallyport::net {

// Whether an address is in the ranges that are handed out: 198.18.0.0/15 (RFC 2544, never routed) and
// fd53:616c:6c79::/64 (RFC 4193; "Sally" in ASCII).
bool is_synthetic(const request::IpAddress& address);

struct SyntheticAddresses {
  request::IpAddress v4;
  request::IpAddress v6;  // the prefix, 32 zero bits, the IPv4 address
};

// All calls may come from any thread.
class DnsTable {
 public:
  using Seed = std::array<std::uint8_t, 16>;

  // The seed decides which name gets which address. A random one keeps a function from choosing names that collide.
  explicit DnsTable(const Seed& seed) : seed_(seed) {}
  static Seed random_seed();

  // The addresses of a canonical name: the same for the life of the table. nullopt when limits::kDnsNamesMax names have
  // addresses and this is another: the lookup must fail, as no address may stand for two names.
  std::optional<SyntheticAddresses> assign(std::string_view name);
  // The name that an address stands for; nullopt for an address that was not handed out.
  std::optional<std::string> name_of(const request::IpAddress& address) const;
  std::size_t size() const;

 private:
  std::uint32_t first_slot(std::string_view name) const;

  const Seed seed_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::uint32_t> slots_;
  std::unordered_map<std::uint32_t, const std::string*> names_;  // to the keys of slots_
};

}  // namespace sallyport::net
