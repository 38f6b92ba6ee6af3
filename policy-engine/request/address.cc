#include "policy-engine/request/address.h"

#include <algorithm>
#include <charconv>
#include <span>

#include "base/hex.h"

namespace sallyport::request {
namespace {

using V4 = std::array<std::uint8_t, 4>;
using V6 = std::array<std::uint8_t, 16>;

// A decimal number without sign and without leading zeros, up to `max`.
std::optional<int> parse_decimal(std::string_view text, int max) {
  if (text.empty() || text.size() > 3 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  int value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value <= max ? std::optional(value) : std::nullopt;
}

std::optional<V4> parse_v4(std::string_view text) {
  V4 bytes{};
  for (std::size_t part = 0; part < bytes.size(); ++part) {
    const std::size_t dot = text.find('.');
    const bool last = part + 1 == bytes.size();
    if (last != (dot == std::string_view::npos)) return std::nullopt;
    const std::optional<int> value = parse_decimal(text.substr(0, dot), 255);
    if (!value) return std::nullopt;
    bytes[part] = static_cast<std::uint8_t>(*value);
    if (!last) text.remove_prefix(dot + 1);
  }
  return bytes;
}

std::optional<std::uint16_t> parse_group(std::string_view text) {
  if (text.empty() || text.size() > 4) return std::nullopt;
  unsigned value = 0;
  for (const char c : text) {
    const int digit = hex_value(c);
    if (digit < 0) return std::nullopt;
    value = value << 4 | static_cast<unsigned>(digit);
  }
  return static_cast<std::uint16_t>(value);
}

// Reads "group:group:…" into `out`, where the last piece may be dotted decimal if `dotted_tail`. Returns the number of
// bytes, or nothing if the text is wrong or does not fit.
std::optional<std::size_t> parse_groups(std::string_view text, bool dotted_tail, std::span<std::uint8_t> out) {
  if (text.empty()) return std::size_t{0};
  std::size_t size = 0;
  for (;;) {
    const std::size_t colon = text.find(':');
    const std::string_view piece = text.substr(0, colon);
    const bool last = colon == std::string_view::npos;
    if (last && dotted_tail && piece.find('.') != std::string_view::npos) {
      const std::optional<V4> v4 = parse_v4(piece);
      if (!v4 || size + v4->size() > out.size()) return std::nullopt;
      std::ranges::copy(*v4, out.begin() + static_cast<std::ptrdiff_t>(size));
      return size + v4->size();
    }
    const std::optional<std::uint16_t> group = parse_group(piece);
    if (!group || size + 2 > out.size()) return std::nullopt;
    out[size++] = static_cast<std::uint8_t>(*group >> 8);
    out[size++] = static_cast<std::uint8_t>(*group & 0xff);
    if (last) return size;
    text.remove_prefix(colon + 1);
  }
}

// RFC 4291 section 2.2.
std::optional<V6> parse_v6(std::string_view text) {
  V6 bytes{};
  const std::size_t gap = text.find("::");
  if (gap == std::string_view::npos) {
    const std::optional<std::size_t> size = parse_groups(text, true, bytes);
    return size == bytes.size() ? std::optional(bytes) : std::nullopt;
  }
  V6 tail{};
  const std::optional<std::size_t> front_size = parse_groups(text.substr(0, gap), false, bytes);
  const std::optional<std::size_t> tail_size = parse_groups(text.substr(gap + 2), true, tail);
  // "::" stands for at least one group.
  if (!front_size || !tail_size || *front_size + *tail_size + 2 > bytes.size()) return std::nullopt;
  std::copy_n(tail.begin(), *tail_size, bytes.end() - static_cast<std::ptrdiff_t>(*tail_size));
  return bytes;
}

bool has_prefix(std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> prefix, int bits) {
  const auto whole = static_cast<std::size_t>(bits / 8);
  if (!std::equal(prefix.begin(), prefix.begin() + static_cast<std::ptrdiff_t>(whole), bytes.begin())) return false;
  const int rest = bits % 8;
  return rest == 0 || ((bytes[whole] ^ prefix[whole]) & (0xff << (8 - rest)) & 0xff) == 0;
}

struct V4Range {
  V4 prefix;
  int bits;
  std::string_view name;
};

// RFC 6890 with its later registrations, and the metadata services of the clouds. The first match gives the name.
constexpr V4Range kV4Ranges[] = {
    {{169, 254, 169, 254}, 32, "metadata"},  // AWS, Azure, Google, OpenStack …
    {{169, 254, 170, 2}, 32, "metadata"},    // AWS: credentials of ECS tasks
    {{169, 254, 170, 23}, 32, "metadata"},   // AWS: credentials of EKS pods
    {{168, 63, 129, 16}, 32, "metadata"},    // Azure's host agent, on a public address
    {{100, 100, 100, 200}, 32, "metadata"},  // Alibaba Cloud
    {{192, 0, 0, 192}, 32, "metadata"},      // Oracle Cloud
    {{0, 0, 0, 0}, 8, "this-network"},
    {{10, 0, 0, 0}, 8, "private"},
    {{100, 64, 0, 0}, 10, "carrier-grade-nat"},
    {{127, 0, 0, 0}, 8, "loopback"},
    {{169, 254, 0, 0}, 16, "link-local"},
    {{172, 16, 0, 0}, 12, "private"},
    {{192, 0, 0, 0}, 24, "protocol-assignments"},
    {{192, 0, 2, 0}, 24, "documentation"},
    {{192, 88, 99, 0}, 24, "reserved"},  // 6to4 relays, withdrawn by RFC 7526
    {{192, 168, 0, 0}, 16, "private"},
    {{198, 18, 0, 0}, 15, "benchmarking"},
    {{198, 51, 100, 0}, 24, "documentation"},
    {{203, 0, 113, 0}, 24, "documentation"},
    {{224, 0, 0, 0}, 4, "multicast"},
    {{255, 255, 255, 255}, 32, "broadcast"},
    {{240, 0, 0, 0}, 4, "reserved"},
};

struct V6Range {
  V6 prefix;
  int bits;
  std::string_view name;
};

constexpr V6Range kV6Ranges[] = {
    {{0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54}, 128, "metadata"},  // AWS
    {{0xfd, 0x20, 0x00, 0xce, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54}, 128, "metadata"},  // Google
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 128, "unspecified"},
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, "loopback"},
    {{0x01, 0x00}, 64, "discard"},
    {{0x20, 0x01, 0x0d, 0xb8}, 32, "documentation"},
    {{0x3f, 0xff}, 20, "documentation"},
    {{0xfc}, 7, "private"},
    {{0xfe, 0x80}, 10, "link-local"},
    {{0xfe, 0xc0}, 10, "private"},  // site-local, RFC 3879
    {{0xff}, 8, "multicast"},
};

constexpr V6 kNat64{0x00, 0x64, 0xff, 0x9b};
constexpr V6 kTeredo{0x20, 0x01, 0x00, 0x00};
constexpr V6 kProtocolAssignments{0x20, 0x01};  // Teredo, ORCHID, benchmarking …: none of them is an ordinary server
constexpr V6 kSixToFour{0x20, 0x02};
constexpr V6 kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr V6 kCompatible{};
constexpr V6 kGlobalUnicast{0x20};

std::string_view special_v4(std::span<const std::uint8_t> bytes) {
  for (const V4Range& range : kV4Ranges) {
    if (has_prefix(bytes, range.prefix, range.bits)) return range.name;
  }
  return {};
}

std::string v4_text(const V6& bytes) {
  std::string text;
  for (std::size_t i = 0; i < 4; ++i) {
    if (i > 0) text += '.';
    text += std::to_string(bytes[i]);
  }
  return text;
}

struct Run {
  std::size_t begin = 0;
  std::size_t size = 0;
};

// The groups that "::" replaces: the longest run of zeros, the first of equals, never a single one (RFC 5952
// section 4.2).
Run longest_zero_run(const std::array<unsigned, 8>& groups) {
  Run best;
  for (std::size_t i = 0; i < groups.size();) {
    std::size_t end = i;
    while (end < groups.size() && groups[end] == 0) ++end;
    if (end - i > best.size && end - i >= 2) best = {i, end - i};
    i = end + 1;
  }
  return best;
}

std::string v6_text(const V6& bytes) {
  std::array<unsigned, 8> groups{};
  for (std::size_t i = 0; i < groups.size(); ++i)
    groups[i] = static_cast<unsigned>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
  const Run gap = longest_zero_run(groups);
  std::string text;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (gap.size > 0 && i == gap.begin) {
      text += "::";
      i += gap.size - 1;
      continue;
    }
    if (!text.empty() && text.back() != ':') text += ':';
    char digits[4];
    text.append(std::begin(digits), std::to_chars(std::begin(digits), std::end(digits), groups[i], 16).ptr);
  }
  return text;
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.find(':') == std::string_view::npos) {
    const std::optional<V4> v4 = parse_v4(text);
    return v4 ? std::optional(from_v4(*v4)) : std::nullopt;
  }
  const std::optional<V6> v6 = parse_v6(text);
  return v6 ? std::optional(from_v6(*v6)) : std::nullopt;
}

IpAddress IpAddress::from_v4(std::array<std::uint8_t, 4> bytes) {
  IpAddress address;
  std::ranges::copy(bytes, address.bytes_.begin());
  return address;
}

IpAddress IpAddress::from_v6(std::array<std::uint8_t, 16> bytes) {
  if (has_prefix(bytes, kMapped, 96)) return from_v4({bytes[12], bytes[13], bytes[14], bytes[15]});
  IpAddress address;
  address.bytes_ = bytes;
  address.v4_ = false;
  return address;
}

std::string IpAddress::to_string() const { return v4_ ? v4_text(bytes_) : v6_text(bytes_); }

std::optional<IpAddress> IpAddress::embedded_v4() const {
  if (v4_) return std::nullopt;
  const auto at = [this](std::size_t i, std::uint8_t mask) {
    const auto byte = [&](std::size_t k) { return static_cast<std::uint8_t>(bytes_[i + k] ^ mask); };
    return from_v4({byte(0), byte(1), byte(2), byte(3)});
  };
  if (has_prefix(bytes_, kNat64, 96) || has_prefix(bytes_, kCompatible, 96)) return at(12, 0);
  if (has_prefix(bytes_, kSixToFour, 16)) return at(2, 0);
  if (has_prefix(bytes_, kTeredo, 32)) return at(12, 0xff);  // RFC 4380 section 4: the bits are inverted
  return std::nullopt;
}

Result<Cidr> Cidr::parse(std::string_view text) {
  const auto wrong = [text](std::string_view what) {
    return fail(ErrorSource::policy, ErrorKind::invalid, "'" + std::string(text) + "' " + std::string(what));
  };
  const std::size_t slash = text.find('/');
  const std::string_view base = text.substr(0, slash);
  const std::optional<IpAddress> address = IpAddress::parse(base);
  if (!address) return wrong("is not an address prefix: expected something like 10.0.0.0/8 or fd00::/8");
  // Its length would count from the wrong end of the address.
  if (address->is_v4() && base.find(':') != std::string_view::npos) {
    return wrong("is an IPv4-mapped IPv6 prefix: write the IPv4 prefix");
  }
  const int full = address->is_v4() ? 32 : 128;
  Cidr cidr;
  cidr.length_ = full;
  if (slash != std::string_view::npos) {
    const std::optional<int> length = parse_decimal(text.substr(slash + 1), full);
    if (!length) return wrong("needs a prefix length from 0 to " + std::to_string(full) + " after the slash");
    cidr.length_ = *length;
  }
  V6 masked = address->bytes();
  for (int bit = cidr.length_; bit < full; ++bit) {
    masked[static_cast<std::size_t>(bit / 8)] &= static_cast<std::uint8_t>(~(0x80 >> (bit % 8)));
  }
  cidr.network_ =
      address->is_v4() ? IpAddress::from_v4({masked[0], masked[1], masked[2], masked[3]}) : IpAddress::from_v6(masked);
  if (cidr.network_ != *address) return wrong("has bits set after its prefix: did you mean " + cidr.to_string() + "?");
  return cidr;
}

bool Cidr::contains(const IpAddress& address) const {
  return address.is_v4() == network_.is_v4() && has_prefix(address.bytes(), network_.bytes(), length_);
}

std::string Cidr::to_string() const { return network_.to_string() + "/" + std::to_string(length_); }

std::string_view special_range(const IpAddress& address) {
  if (address.is_v4()) return special_v4(address.bytes());
  for (const V6Range& range : kV6Ranges) {
    if (has_prefix(address.bytes(), range.prefix, range.bits)) return range.name;
  }
  if (const std::optional<IpAddress> v4 = address.embedded_v4()) {
    const std::string_view name = special_v4(v4->bytes());
    if (!name.empty()) return name;
  }
  if (has_prefix(address.bytes(), kNat64, 96)) return {};  // a public IPv4 address behind a translator
  if (has_prefix(address.bytes(), kProtocolAssignments, 23)) return "protocol-assignments";
  // What IANA has not given out is not public: a route to it would be somebody's own.
  return has_prefix(address.bytes(), kGlobalUnicast, 3) ? std::string_view() : "reserved";
}

}  // namespace sallyport::request
