#pragma once
// The bytes that HTTP/1 is made of (RFC 9110 section 5.6, RFC 9112 section 2.2): tokens, field values, field lines.
// Reading never looks past `end`, and reports a wrong byte as soon as it is there.

#include <array>
#include <cstdint>
#include <string_view>

#include "policy-engine/request/head.h"

namespace sallyport::http1 {

enum class Parse : std::uint8_t { complete, incomplete, error };

namespace detail {
constexpr std::array<bool, 256> make_token_bytes() {
  std::array<bool, 256> token{};
  for (const char c :
       std::string_view("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")) {
    token[static_cast<unsigned char>(c)] = true;
  }
  return token;
}
inline constexpr std::array<bool, 256> kTokenBytes = make_token_bytes();
}  // namespace detail

inline bool is_token_byte(char c) { return detail::kTokenBytes[static_cast<unsigned char>(c)]; }
inline bool is_space(char c) { return c == ' ' || c == '\t'; }
// Horizontal tab, SP, visible ASCII and 0x80 to 0xFF. The upper half stands in file names and metadata of real traffic;
// it is safe to pass because no HTTP parser takes one of these bytes for a delimiter, and because every field that
// frames or routes a message is compared whole and written anew by us.
inline bool is_value_byte(char c) { return static_cast<unsigned char>(c) >= 0x20 ? c != 0x7f : c == '\t'; }

bool is_token(std::string_view text);          // not empty
bool is_value(std::string_view text);          // every byte is a value byte
std::string_view trim(std::string_view text);  // without SP and HTAB at both ends

// The first byte in [at, end) that may not stand in a field value, or `end`.
const char* find_value_end(const char* at, const char* end);

// Moves `at` over `literal`.
Parse read_literal(const char*& at, const char* end, std::string_view literal);

// Moves `at` over one field line with its CRLF. Refused: a name that is no token, whitespace before the colon, folded
// lines, control characters, bare CR and bare LF. On an error `wrong` says what, in static text.
Parse read_field_line(const char*& at, const char* end, request::Header& field, std::string_view& wrong);

// Calls `use(element)` for each element of a comma-separated list, trimmed; empty elements are skipped (RFC 9110
// section 5.6.1). Stops and returns false when `use` does.
template <class Use>
bool for_each_element(std::string_view list, Use use) {
  for (;;) {
    const std::size_t comma = list.find(',');
    const std::string_view element = trim(list.substr(0, comma));
    if (!element.empty() && !use(element)) return false;
    if (comma == std::string_view::npos) return true;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace sallyport::http1
