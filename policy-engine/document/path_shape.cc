#include "policy-engine/document/path_shape.h"

#include <algorithm>
#include <cstddef>

namespace sallyport::document {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// True if `text` starts as `shape` says: 'x' is a hex digit, '0' a digit, anything else itself.
bool starts_as(std::string_view text, std::string_view shape) {
  if (text.size() < shape.size()) return false;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const bool fits = shape[i] == 'x' ? is_hex(text[i]) : shape[i] == '0' ? is_digit(text[i]) : shape[i] == text[i];
    if (!fits) return false;
  }
  return true;
}

// "2026-11", "2026-11-21", "2026-11-21T22:00:00Z".
bool is_date(std::string_view text) {
  if (!starts_as(text, "0000-00")) return false;
  if (text.size() == 7) return true;
  return starts_as(text, "0000-00-00") && (text.size() == 10 || text[10] == 'T');
}

bool is_hash(std::string_view text, std::size_t digits) {
  if (!std::ranges::all_of(text, is_hex)) return false;
  return text.size() >= 16 || (text.size() >= 7 && digits > 0);
}

}  // namespace

bool looks_like_identifier(std::string_view segment) {
  const auto digits = static_cast<std::size_t>(std::ranges::count_if(segment, is_digit));
  const std::size_t size = segment.size();
  if (size == 0) return false;
  if (digits == size || is_date(segment) || is_hash(segment, digits)) return true;
  if (size == 36 && starts_as(segment, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")) return true;
  if (digits * 2 >= size && size >= 6) return true;   // "order-000123"
  if (digits * 5 >= size && size >= 20) return true;  // ULIDs and the like
  const bool mixed = digits > 0 && std::ranges::any_of(segment, is_lower) && std::ranges::any_of(segment, is_upper);
  return mixed && size >= 12;  // base64, "cus_NffrFeUfNV2Hib"
}

}  // namespace sallyport::document
