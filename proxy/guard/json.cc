#include "proxy/guard/json.h"

#include <array>
#include <cstring>

namespace sallyport::guard {
namespace {

constexpr char kHex[] = "0123456789abcdef";

constexpr std::array<bool, 256> make_plain() {
  std::array<bool, 256> plain{};
  for (std::size_t c = 0x20; c < 0x7F; ++c) plain[c] = c != '"' && c != '\\';
  return plain;
}
constexpr std::array<bool, 256> kPlain = make_plain();

// The length of the valid UTF-8 sequence at the start of `text`, or 0 (RFC 3629: no overlong forms, no surrogates).
std::size_t utf8_sequence(std::string_view text) {
  auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  auto tail = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  unsigned char first = static_cast<unsigned char>(text[0]);
  if (first == 0xC2 && byte(1) < 0xA0) return 0;  // C1 controls: some terminals obey them
  if (first >= 0xC2 && first <= 0xDF) return tail(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (first == 0xE0 && byte(1) < 0xA0) return 0;
    if (first == 0xED && byte(1) > 0x9F) return 0;
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (first == 0xF0 && byte(1) < 0x90) return 0;
    if (first == 0xF4 && byte(1) > 0x8F) return 0;
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

// Writes the character that `text` begins with, which is not plain, and moves over it.
char* put_escaped(char* at, std::string_view& text) {
  const auto c = static_cast<unsigned char>(text[0]);
  const std::size_t sequence = c >= 0x80 ? utf8_sequence(text) : 0;
  if (sequence > 0) {
    at += text.copy(at, sequence);
    text.remove_prefix(sequence);
    return at;
  }
  *at++ = '\\';
  if (c == '"' || c == '\\') {
    *at++ = static_cast<char>(c);
  } else {
    at += std::string_view("u00").copy(at, 3);
    *at++ = kHex[c >> 4];
    *at++ = kHex[c & 15];
  }
  text.remove_prefix(1);
  return at;
}

}  // namespace

char* put_json_string(char* at, std::string_view text) {
  *at++ = '"';
  while (!text.empty()) {
    std::size_t plain = 0;
    while (plain < text.size() && kPlain[static_cast<unsigned char>(text[plain])]) ++plain;
    std::memcpy(at, text.data(), plain);
    at += plain;
    text.remove_prefix(plain);
    if (!text.empty()) at = put_escaped(at, text);
  }
  *at++ = '"';
  return at;
}

void append_json_string(std::string& out, std::string_view text) {
  const std::size_t before = out.size();
  out.resize_and_overwrite(before + json_string_bytes_max(text), [&](char* bytes, std::size_t) {
    return static_cast<std::size_t>(put_json_string(bytes + before, text) - bytes);
  });
}

}  // namespace sallyport::guard
