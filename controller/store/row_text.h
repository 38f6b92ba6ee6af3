#pragma once
// Several values in one string of bytes, each behind its length: how rows stand in Redis.

#include <charconv>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace sallyport::controller {

inline std::string row_text(std::initializer_list<std::string_view> parts) {
  std::string out;
  for (const std::string_view part : parts) {
    out += std::to_string(part.size());
    out += ':';
    out += part;
  }
  return out;
}

// False: it is no number, or has something behind it.
inline bool read_row_number(std::string_view text, std::uint64_t& out) {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  return read.ec == std::errc{} && read.ptr == text.data() + text.size();
}

// False: these are no parts, or not `count` of them (0: however many).
inline bool read_row_text(std::string_view text, std::size_t count, std::vector<std::string>& out) {
  while (!text.empty()) {
    const std::size_t colon = text.find(':');
    std::uint64_t size = 0;
    if (colon == std::string_view::npos || !read_row_number(text.substr(0, colon), size)) return false;
    text.remove_prefix(colon + 1);
    if (size > text.size()) return false;
    out.emplace_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return count == 0 || out.size() == count;
}

}  // namespace sallyport::controller
