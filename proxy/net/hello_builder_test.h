#pragma once
// For tests: ClientHellos, right and wrong, byte for byte.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sallyport::net {

inline std::string number(std::size_t value, int bytes) {
  std::string text;
  for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) text += static_cast<char>(value >> shift & 0xff);
  return text;
}

// A vector with its length before it in `length_bytes` bytes.
inline std::string vector(std::string_view content, int length_bytes) {
  return number(content.size(), length_bytes) + std::string(content);
}

inline std::string server_name(std::string_view name) { return vector(std::string(1, '\0') + vector(name, 2), 2); }

inline std::string alpn(const std::vector<std::string>& protocols) {
  std::string list;
  for (const std::string& protocol : protocols) list += vector(protocol, 1);
  return vector(list, 2);
}

struct HelloBuilder {
  std::string version = number(0x0303, 2);
  std::string random = std::string(32, 'r');
  std::string session_id = std::string(32, 's');
  std::string cipher_suites = number(0x1301, 2) + number(0x1302, 2);
  std::string compression = std::string(1, '\0');
  std::vector<std::pair<std::uint16_t, std::string>> extensions{
      {0, server_name("api.example.com")}, {16, alpn({"h2", "http/1.1"})}, {43, vector(number(0x0304, 2), 1)}};
  bool with_extensions = true;

  HelloBuilder& with(std::uint16_t type, std::string data) {
    extensions.emplace_back(type, std::move(data));
    return *this;
  }
  HelloBuilder& replace(std::uint16_t type, std::string data) {
    for (auto& extension : extensions) {
      if (extension.first == type) extension.second = data;
    }
    return *this;
  }

  std::string extension_block() const {
    std::string block;
    for (const auto& [type, data] : extensions) block += number(type, 2) + vector(data, 2);
    return block;
  }
  std::string body() const {
    const std::string head =
        version + random + vector(session_id, 1) + vector(cipher_suites, 2) + vector(compression, 1);
    return with_extensions ? head + vector(extension_block(), 2) : head;
  }
  std::string message() const { return '\x01' + vector(body(), 3); }
};

inline std::string record(std::string_view payload, std::uint8_t type = 22) {
  return number(type, 1) + number(0x0301, 2) + vector(payload, 2);
}

// The message in records of `size` bytes.
inline std::string records(std::string_view message, std::size_t size) {
  std::string text;
  for (std::size_t at = 0; at < message.size(); at += size) text += record(message.substr(at, size));
  return text;
}

}  // namespace sallyport::net
