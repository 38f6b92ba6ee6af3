#pragma once
// The special addresses that a draft has seen at one destination, in bounded memory.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "policy-engine/request/address.h"

namespace sallyport::document {

class AddressSet {
 public:
  // Keeps `address` if request::special_range knows it. Past limits::kDraftAddressesMax of one family, that family's
  // are widened to prefixes, at most to /8, of which the special ranges have few.
  void add(const request::IpAddress& address);

  struct Range {
    std::string cidr;
    std::string kind;  // "private", "link-local" …: of the first address seen in it
  };
  std::vector<Range> ranges() const;
  bool empty() const { return v4_.empty() && v6_.empty(); }

 private:
  using Bytes = std::array<std::uint8_t, 16>;
  using Ranges = std::map<Bytes, std::string>;  // from the network to its kind

  int prefix_length(bool v4) const;
  Bytes masked(const request::IpAddress& address) const;
  bool widen(bool v4);

  Ranges v4_, v6_;
  std::size_t width_v4_ = 0, width_v6_ = 0;
};

}  // namespace sallyport::document
