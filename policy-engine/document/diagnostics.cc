#include "policy-engine/document/diagnostics.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/limits.h"

namespace sallyport::document {

namespace {

constexpr std::size_t kQuotedBytesMax = 80;

void append_escaped(std::string& out, unsigned char byte) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += "\\x";
  out += kHex[byte >> 4];
  out += kHex[byte & 15];
}

bool is_continuation(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

}  // namespace

std::size_t utf8_next(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return at + 1;
  if (first >= 0xC2 && first <= 0xDF) return is_continuation(text, at + 1) ? at + 2 : at;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!is_continuation(text, at + 1) || !is_continuation(text, at + 2)) return at;
    const bool overlong = first == 0xE0 && byte(at + 1) < 0xA0;
    const bool surrogate = first == 0xED && byte(at + 1) > 0x9F;
    return overlong || surrogate ? at : at + 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!is_continuation(text, at + 1) || !is_continuation(text, at + 2) || !is_continuation(text, at + 3)) return at;
    const bool overlong = first == 0xF0 && byte(at + 1) < 0x90;
    const bool too_high = first == 0xF4 && byte(at + 1) > 0x8F;
    return overlong || too_high ? at : at + 4;
  }
  return at;
}

namespace {

// U+200E and 200F, U+2028 to 202E, U+2066 to 2069: what is shown would stand elsewhere than it does.
bool moves_text(std::string_view sequence) {
  if (sequence.size() != 3 || sequence[0] != '\xE2') return false;
  const auto second = static_cast<unsigned char>(sequence[1]), third = static_cast<unsigned char>(sequence[2]);
  if (second == 0x80) return third == 0x8E || third == 0x8F || (third >= 0xA8 && third <= 0xAE);
  return second == 0x81 && third >= 0xA6 && third <= 0xA9;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    const std::size_t next = utf8_next(text, at);
    const bool c1_control = byte == 0xC2 && next == at + 2 && static_cast<unsigned char>(text[at + 1]) < 0xA0;
    if (byte < 0x20 || byte == 0x7F || next == at || c1_control) {
      append_escaped(out, byte);
      ++at;
      continue;
    }
    if (moves_text(text.substr(at, next - at))) {
      for (; at < next; ++at) append_escaped(out, static_cast<unsigned char>(text[at]));
      continue;
    }
    out += text.substr(at, next - at);
    at = next;
  }
  return out;
}

std::string quoted(std::string_view text) {
  if (text.size() <= kQuotedBytesMax) return "'" + printable(text) + "'";
  std::size_t end = 0;
  while (end < kQuotedBytesMax) end = std::max(end + 1, utf8_next(text, end));
  return "'" + printable(text.substr(0, end)) + (end < text.size() ? "…'" : "'");
}

std::string Diagnostic::to_string() const {
  std::string out = file;
  if (line > 0) out += ":" + std::to_string(line) + ":" + std::to_string(column);
  out += warning ? ": warning: " : ": error: ";
  out += message;
  if (!hint.empty()) out += " (hint: " + hint + ")";
  return out;
}

void Diagnostics::error(Place place, std::string_view message, std::string_view hint) {
  ++errors_;
  add(place, message, hint, false);
}

void Diagnostics::warning(Place place, std::string_view message, std::string_view hint) {
  add(place, message, hint, true);
}

void Diagnostics::add(Place place, std::string_view message, std::string_view hint, bool warning) {
  found_.emplace(std::tuple(place, warning),
                 Diagnostic{file_, place.line, place.column, printable(message), printable(hint), warning});
  if (found_.size() <= limits::kPolicyErrorsMax) return;
  found_.erase(std::prev(found_.end()));
  ++left_off_;
}

std::vector<Diagnostic> Diagnostics::take() {
  std::vector<Diagnostic> out;
  for (auto& [place, diagnostic] : found_) out.push_back(std::move(diagnostic));
  found_.clear();
  if (left_off_ == 0) return out;
  // The line that stands for the rest is an error if any was: a list without an error must mean that the policy is
  // good.
  out.back() = {file_, 0, 0, "and " + std::to_string(left_off_ + 1) + " more", {}, errors_ == 0};
  return out;
}

}  // namespace sallyport::document
