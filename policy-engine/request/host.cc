#include "policy-engine/request/host.h"

#include <algorithm>

namespace sallyport::request {
namespace {

constexpr std::size_t kNameBytesMax = 253;  // RFC 1035 section 2.3.4, in text without the last dot
constexpr std::size_t kLabelBytesMax = 63;

std::unexpected<Error> refuse(std::string text) {
  return fail(ErrorSource::downstream, ErrorKind::malformed, std::move(text));
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string hex_byte(char c) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  return {'0', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

// Whether a resolver might take a name with this last label for an IPv4 address in some number form.
bool looks_like_number(std::string_view label) {
  return std::ranges::all_of(label, is_digit) || label.starts_with("0x");
}

Result<void> check_label(std::string_view label) {
  if (label.empty()) return refuse("a host name has an empty label");
  if (label.size() > kLabelBytesMax) return refuse("a label of a host name is longer than 63 bytes");
  if (label.front() == '-' || label.back() == '-') return refuse("a label of a host name begins or ends with a hyphen");
  return {};
}

Result<std::string> lower_name(std::string_view text) {
  std::string name;
  name.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c >= 'A' && c <= 'Z') {
      name += static_cast<char>(c | 0x20);
    } else if ((c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '.' || c == '_') {
      name += c;
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      return refuse("a host name is not in ASCII: write its IDNA form (xn--…)");
    } else {
      return refuse("byte " + hex_byte(c) + " at offset " + std::to_string(i) + " is not allowed in a host name");
    }
  }
  return name;
}

Result<Host> parse_name(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);  // the root's dot; a second one makes an empty label
  Result<std::string> name = lower_name(text);
  if (!name) return std::unexpected(std::move(name.error()));
  if (name->size() > kNameBytesMax) return refuse("a host name is longer than 253 bytes");
  std::string_view rest = *name;
  std::string_view label;
  for (std::size_t dot = 0; dot != std::string_view::npos;) {
    dot = rest.find('.');
    label = rest.substr(0, dot);
    if (Result<void> good = check_label(label); !good) return std::unexpected(std::move(good.error()));
    if (dot != std::string_view::npos) rest.remove_prefix(dot + 1);
  }
  if (looks_like_number(label)) {
    return refuse("a host name ends in a number: write an IPv4 address as four decimal parts without leading zeros");
  }
  return Host{std::move(*name), std::nullopt};
}

Result<Host> parse_v6_host(std::string_view text) {
  if (text.find('%') != std::string_view::npos) return refuse("an IPv6 address has a zone: zones are not allowed");
  const std::optional<IpAddress> address = IpAddress::parse(text);
  if (!address || text.find(':') == std::string_view::npos)
    return refuse("what stands in the host is not an IPv6 address");
  return Host{address->to_string(), address};
}

Result<std::uint16_t> parse_port(std::string_view text) {
  unsigned port = 0;
  const bool digits = !text.empty() && text.size() <= 5 && text[0] != '0' && std::ranges::all_of(text, is_digit);
  for (const char c : digits ? text : std::string_view()) port = port * 10 + static_cast<unsigned>(c - '0');
  if (port == 0 || port > 65'535) return refuse("a port must be a number from 1 to 65535 without leading zeros");
  return static_cast<std::uint16_t>(port);
}

}  // namespace

Result<Host> parse_host(std::string_view text, bool bracketed_v6) {
  if (text.empty()) return refuse("a host name is empty");
  if (text.front() == '[') {
    if (!bracketed_v6) return refuse("an IPv6 address must stand without brackets here");
    if (text.back() != ']') return refuse("a bracket in a host is not closed");
    return parse_v6_host(text.substr(1, text.size() - 2));
  }
  if (text.find(':') != std::string_view::npos) {
    if (bracketed_v6) return refuse("an IPv6 address must stand in brackets here");
    return parse_v6_host(text);
  }
  if (const std::optional<IpAddress> address = IpAddress::parse(text)) return Host{std::string(text), address};
  return parse_name(text);
}

Result<Authority> parse_authority(std::string_view text) {
  if (text.find('@') != std::string_view::npos) return refuse("a host must not have user information ('@')");
  const std::size_t bracket = text.starts_with('[') ? text.find(']') : 0;
  const std::size_t colon = bracket == std::string_view::npos ? bracket : text.find(':', bracket);
  Result<Host> host = parse_host(text.substr(0, colon), true);
  if (!host) return std::unexpected(std::move(host.error()));
  if (colon == std::string_view::npos) return Authority{std::move(*host), std::nullopt};
  const Result<std::uint16_t> port = parse_port(text.substr(colon + 1));
  if (!port) return std::unexpected(port.error());
  return Authority{std::move(*host), *port};
}

}  // namespace sallyport::request
