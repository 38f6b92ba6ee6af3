#include "policy-engine/document/address_set.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "base/limits.h"

namespace sallyport::document {

namespace {

// From single addresses to ranges of which there are few, but never to everything. All are whole bytes.
constexpr std::array<int, 4> kLengthsV4 = {32, 24, 16, 8};
constexpr std::array<int, 6> kLengthsV6 = {128, 64, 48, 32, 16, 8};

request::IpAddress address_of(bool v4, const std::array<std::uint8_t, 16>& bytes) {
  if (v4) return request::IpAddress::from_v4({bytes[0], bytes[1], bytes[2], bytes[3]});
  return request::IpAddress::from_v6(bytes);
}

}  // namespace

void AddressSet::add(const request::IpAddress& address) {
  const std::string_view kind = request::special_range(address);
  if (kind.empty()) return;
  const bool v4 = address.is_v4();
  Ranges& ranges = v4 ? v4_ : v6_;
  ranges.emplace(masked(address), kind);
  while (ranges.size() > limits::kDraftAddressesMax && widen(v4)) continue;
}

int AddressSet::prefix_length(bool v4) const { return v4 ? kLengthsV4[width_v4_] : kLengthsV6[width_v6_]; }

AddressSet::Bytes AddressSet::masked(const request::IpAddress& address) const {
  Bytes bytes = address.bytes();
  std::fill(bytes.begin() + prefix_length(address.is_v4()) / 8, bytes.end(), std::uint8_t{0});
  return bytes;
}

// False when they are as wide as they get.
bool AddressSet::widen(bool v4) {
  std::size_t& width = v4 ? width_v4_ : width_v6_;
  if (width + 1 == (v4 ? kLengthsV4.size() : kLengthsV6.size())) return false;
  ++width;
  Ranges& ranges = v4 ? v4_ : v6_;
  for (auto& [network, kind] : std::exchange(ranges, {})) {
    ranges.emplace(masked(address_of(v4, network)), std::move(kind));
  }
  return true;
}

std::vector<AddressSet::Range> AddressSet::ranges() const {
  std::vector<Range> out;
  for (const bool v4 : {true, false}) {
    const int length = prefix_length(v4);
    const std::string suffix = length == (v4 ? 32 : 128) ? "" : "/" + std::to_string(length);
    for (const auto& [network, kind] : v4 ? v4_ : v6_)
      out.push_back({address_of(v4, network).to_string() + suffix, kind});
  }
  return out;
}

}  // namespace sallyport::document
