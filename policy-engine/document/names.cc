#include "policy-engine/document/names.h"

#include <algorithm>

namespace sallyport::document {

namespace {

bool is_lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_alphanumeric(char c) { return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z'); }

// Only `inner` besides letters and digits, and neither at the ends.
bool is_word(std::string_view text, std::string_view inner) {
  if (text.empty() || !is_lower_or_digit(text.front()) || !is_lower_or_digit(text.back())) return false;
  return std::ranges::all_of(text, [&](char c) { return is_lower_or_digit(c) || inner.find(c) != inner.npos; });
}

}  // namespace

bool is_label(std::string_view text) { return text.size() <= 63 && is_word(text, "._-"); }

bool is_subdomain(std::string_view text) {
  if (text.size() > 253) return false;
  while (true) {
    const std::size_t dot = text.find('.');
    if (!is_word(text.substr(0, dot), "-")) return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

bool is_variable(std::string_view text) {
  if (text.empty() || (text.front() >= '0' && text.front() <= '9')) return false;
  return std::ranges::all_of(text, [](char c) { return is_alphanumeric(c) || c == '_'; });
}

bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() &&
         std::ranges::all_of(text, [&](char c) { return is_alphanumeric(c) || kMarks.find(c) != kMarks.npos; });
}

bool is_policy_method(std::string_view text) {
  if (text == "*" || text == "ANY" || text == "ALL" || text == "CONNECT") return false;
  return is_token(text) && std::ranges::none_of(text, [](char c) { return c >= 'a' && c <= 'z'; });
}

}  // namespace sallyport::document
