#include "policy-engine/action/form_fields.h"

#include <algorithm>
#include <optional>

namespace sallyport::action {
namespace {

int hex_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Nothing where an escape is none.
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_of(text[i + 1]), low = hex_of(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

bool is_padding(char c) { return c == '\0' || c == ' ' || (c >= '\t' && c <= '\r'); }

// What the most forgiving servers make of a name: PHP drops what is in brackets and spaces in front, others the case.
std::string folded(std::string name) {
  if (const auto again = name.contains('%') ? decoded(name) : std::nullopt) name = *again;
  const auto first = std::ranges::find_if_not(name, is_padding);
  auto last = std::find_if(first, name.end(), [](char c) { return c == '[' || is_padding(c); });
  std::string out(first, last);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  }
  return out;
}

std::unexpected<Error> refuse(const std::string& text) {
  return fail(ErrorSource::downstream, ErrorKind::malformed, text);
}

Result<void> look_at(std::string_view piece, std::string_view name, const std::string& alike, FormField& field) {
  const std::size_t equals = piece.find('=');
  const auto key = decoded(piece.substr(0, equals));
  if (!key) return refuse("the name of a form field has a '%' that begins no escape");
  if (folded(*key) != alike) return {};
  if (*key != name) {
    return refuse("a form field is named '" + std::string(name) +
                  "' in another spelling, which some servers take for it");
  }
  const auto value = equals == std::string_view::npos ? std::string() : decoded(piece.substr(equals + 1));
  if (!value) return refuse("the form field '" + std::string(name) + "' has a '%' that begins no escape");
  ++field.count;
  field.value = *value;
  return {};
}

}  // namespace

Result<void> find_field(std::string_view encoded, std::string_view name, FormField& field) {
  const std::string alike = folded(std::string(name));
  while (!encoded.empty()) {
    const std::size_t end = std::min(encoded.find_first_of("&;"), encoded.size());
    if (Result<void> looked = look_at(encoded.substr(0, end), name, alike, field); !looked) return looked;
    encoded.remove_prefix(std::min(end + 1, encoded.size()));
  }
  return {};
}

}  // namespace sallyport::action
