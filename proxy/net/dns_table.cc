#include "proxy/net/dns_table.h"

#include <openssl/sha.h>

#include <algorithm>

#include "base/limits.h"
#include "base/random.h"

namespace sallyport::net {
namespace {

constexpr std::uint32_t kNetworkV4 = 198U << 24 | 18U << 16;
constexpr std::uint32_t kSlots = 1U << 17;  // a /15
constexpr std::array<std::uint8_t, 12> kPrefixV6{0xfd, 0x53, 0x61, 0x6c, 0x6c, 0x79};

static_assert(limits::kDnsNamesMax <= kSlots / 2, "probing needs free slots");

// Some stacks take a last byte of 0 or 255 for a network or a broadcast address.
bool is_usable(std::uint32_t slot) { return (slot & 0xff) != 0 && (slot & 0xff) != 255; }

std::array<std::uint8_t, 4> bytes_of(std::uint32_t slot) {
  const std::uint32_t value = kNetworkV4 | slot;
  return {static_cast<std::uint8_t>(value >> 24), static_cast<std::uint8_t>(value >> 16),
          static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
}

SyntheticAddresses addresses_of(std::uint32_t slot) {
  const auto v4 = bytes_of(slot);
  std::array<std::uint8_t, 16> v6;
  std::ranges::copy(v4, std::ranges::copy(kPrefixV6, v6.begin()).out);
  return {request::IpAddress::from_v4(v4), request::IpAddress::from_v6(v6)};
}

std::optional<std::uint32_t> slot_of(const request::IpAddress& address) {
  auto low = address.bytes().begin();
  if (!address.is_v4()) {
    if (!std::equal(kPrefixV6.begin(), kPrefixV6.end(), low)) return std::nullopt;
    low += kPrefixV6.size();
  }
  const std::uint32_t value = static_cast<std::uint32_t>(low[0]) << 24 | static_cast<std::uint32_t>(low[1]) << 16 |
                              static_cast<std::uint32_t>(low[2]) << 8 | low[3];
  if ((value & ~(kSlots - 1)) != kNetworkV4) return std::nullopt;
  return value & (kSlots - 1);
}

}  // namespace

bool is_synthetic(const request::IpAddress& address) {
  if (address.is_v4()) return slot_of(address).has_value();
  return std::equal(kPrefixV6.begin(), kPrefixV6.begin() + 8, address.bytes().begin());
}

DnsTable::Seed DnsTable::random_seed() {
  Seed seed{};
  // Without randomness names get addresses that can be foreseen: which is no worse than what a small DNS server hands
  // out.
  [[maybe_unused]] const bool filled = random_bytes(seed);
  return seed;
}

std::uint32_t DnsTable::first_slot(std::string_view name) const {
  std::string input(seed_.begin(), seed_.end());
  input += name;
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const std::uint8_t*>(input.data()), input.size(), digest.data());
  return (static_cast<std::uint32_t>(digest[0]) << 16 | static_cast<std::uint32_t>(digest[1]) << 8 | digest[2]) %
         kSlots;
}

std::optional<SyntheticAddresses> DnsTable::assign(std::string_view name) {
  const std::lock_guard lock(mutex_);
  std::string key(name);
  if (const auto known = slots_.find(key); known != slots_.end()) return addresses_of(known->second);
  if (slots_.size() >= limits::kDnsNamesMax) return std::nullopt;
  std::uint32_t slot = first_slot(name);
  while (!is_usable(slot) || names_.contains(slot)) slot = (slot + 1) % kSlots;
  const auto added = slots_.emplace(std::move(key), slot).first;
  names_.emplace(slot, &added->first);
  return addresses_of(slot);
}

std::optional<std::string> DnsTable::name_of(const request::IpAddress& address) const {
  const auto slot = slot_of(address);
  if (!slot) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(*slot);
  if (found == names_.end()) return std::nullopt;
  return *found->second;
}

std::size_t DnsTable::size() const {
  const std::lock_guard lock(mutex_);
  return slots_.size();
}

}  // namespace sallyport::net
