#pragma once
// For tests: DNS messages byte for byte, and answers taken apart.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/net/dns_message.h"

namespace sallyport::net {

inline std::string u16(std::size_t value) {
  return {static_cast<char>(value >> 8 & 0xff), static_cast<char>(value & 0xff)};
}

inline std::string wire_name(std::string_view dotted) {
  std::string wire;
  while (!dotted.empty()) {
    const std::string_view label = dotted.substr(0, dotted.find('.'));
    wire += static_cast<char>(label.size());
    wire += label;
    dotted.remove_prefix(std::min(label.size() + 1, dotted.size()));
  }
  return wire + '\0';
}

inline std::string header(std::uint16_t id, std::uint16_t flags, std::size_t questions, std::size_t answers = 0,
                          std::size_t authorities = 0, std::size_t additionals = 0) {
  return u16(id) + u16(flags) + u16(questions) + u16(answers) + u16(authorities) + u16(additionals);
}

inline std::string question(std::string_view name, DnsType type, std::uint16_t dns_class = 1) {
  return wire_name(name) + u16(static_cast<std::size_t>(type)) + u16(dns_class);
}

inline std::string query(std::string_view name, DnsType type, std::uint16_t id = 0x1234) {
  return header(id, 0x0100, 1) + question(name, type);
}

inline std::string opt(std::uint8_t version = 0, std::uint16_t flags = 0, std::string_view options = "") {
  return std::string(1, '\0') + u16(41) + u16(1232) + std::string(1, '\0') + static_cast<char>(version) + u16(flags) +
         u16(options.size()) + std::string(options);
}

inline std::size_t u16_at(std::string_view bytes, std::size_t at) {
  return static_cast<std::size_t>(static_cast<std::uint8_t>(bytes[at]) << 8 | static_cast<std::uint8_t>(bytes[at + 1]));
}

inline unsigned rcode_of(std::string_view answer) { return static_cast<std::uint8_t>(answer[3]) & 0xf; }
inline std::size_t answers_of(std::string_view answer) { return u16_at(answer, 6); }
inline std::size_t authorities_of(std::string_view answer) { return u16_at(answer, 8); }

// Right for answers with one question and an address as the only record of the answer section.
inline std::string address_in(std::string_view answer) {
  std::size_t at = 12;
  while (answer[at] != '\0') at += static_cast<std::uint8_t>(answer[at]) + 1U;
  at += 5 + 12;
  const std::size_t length = u16_at(answer, at - 2);
  if (length == 4) {
    std::array<std::uint8_t, 4> v4;
    std::copy_n(answer.begin() + static_cast<std::ptrdiff_t>(at), 4, v4.begin());
    return request::IpAddress::from_v4(v4).to_string();
  }
  std::array<std::uint8_t, 16> v6;
  std::copy_n(answer.begin() + static_cast<std::ptrdiff_t>(at), 16, v6.begin());
  return request::IpAddress::from_v6(v6).to_string();
}

}  // namespace sallyport::net
