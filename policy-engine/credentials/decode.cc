#include "policy-engine/credentials/decode.h"

#include <algorithm>
#include <cstdint>

#include "base/hex.h"
#include "policy-engine/request/head.h"

namespace sallyport::credentials {
namespace {

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+' || c == '-') return 62;
  if (c == '/' || c == '_') return 63;
  return -1;
}

}  // namespace

std::string percent_decoded(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_value(text[i + 2]) : -1;
    if (low < 0) {
      decoded += text[i];
    } else {
      decoded += static_cast<char>(high << 4 | low);
      i += 2;
    }
  }
  return decoded;
}

std::optional<std::string> basic_credentials(std::string_view value) {
  constexpr std::string_view kScheme = "Basic";
  if (value.size() <= kScheme.size() || !request::name_equals(value.substr(0, kScheme.size()), kScheme)) {
    return std::nullopt;
  }
  value.remove_prefix(kScheme.size());
  if (value.front() != ' ' && value.front() != '\t') return std::nullopt;
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  std::string decoded;
  decoded.reserve(value.size() / 4 * 3 + 3);
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : value) {
    const int six = base64_value(c);
    if (six < 0) break;
    bits = bits << 6 | static_cast<std::uint32_t>(six);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    decoded += static_cast<char>(bits >> held);
  }
  return decoded;
}

}  // namespace sallyport::credentials
