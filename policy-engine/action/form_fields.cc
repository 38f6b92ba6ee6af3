#include "policy-engine/action/form_fields.h"

#include <algorithm>
#include <optional>

#include "policy-engine/request/percent.h"

namespace sallyport::action {
namespace {

// Nothing where an escape is none.
std::optional<std::string> decoded(std::string_view text) {
  std::string spaced(text);
  std::ranges::replace(spaced, '+', ' ');
  return request::percent_decoded(spaced);
}

bool is_padding(char c) { return c == '\0' || c == ' ' || (c >= '\t' && c <= '\r'); }

// Letters beyond ASCII that comparing without regard to case takes for one of ASCII: the dotted and the dotless i
// (Java), the long s and the Kelvin sign.
struct OddLetter {
  std::string_view bytes;
  char letter;
};
constexpr OddLetter kOddLetters[] = {{"\xC4\xB0", 'i'}, {"\xC4\xB1", 'i'}, {"\xC5\xBF", 's'}, {"\xE2\x84\xAA", 'k'}};

// In lower case, and with '_' for what PHP makes one of: '.', ' ', and a '[' that nothing closes.
std::string folded(std::string_view name) {
  std::string out;
  for (std::size_t i = 0; i < name.size();) {
    const auto* const odd = std::ranges::find_if(
        kOddLetters, [rest = name.substr(i)](const OddLetter& one) { return rest.starts_with(one.bytes); });
    if (odd != std::end(kOddLetters)) {
      out += odd->letter;
      i += odd->bytes.size();
      continue;
    }
    const char c = name[i++];
    out += c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c == '.' || c == ' ' || c == '[' ? '_' : c;
  }
  return out;
}

// Whether the most forgiving servers take one name for the other: PHP drops spaces in front and what is in brackets,
// others the case, what is behind a space or a NUL, or one more layer of escapes. `name` is folded.
bool is_alike(std::string given, std::string_view name) {
  if (const auto again = given.contains('%') ? decoded(given) : std::nullopt) given = *again;
  const auto first = std::ranges::find_if_not(given, is_padding);
  const auto end = std::find_if(first, given.end(), [](char c) { return c == '[' || is_padding(c); });
  return folded({first, end}) == name || folded({first, given.end()}) == name;
}

std::unexpected<Error> refuse(const std::string& text) {
  return fail(ErrorSource::downstream, ErrorKind::malformed, text);
}

Result<void> look_at(std::string_view piece, std::string_view name, const std::string& alike, FormField& field) {
  const std::size_t equals = piece.find('=');
  const auto key = decoded(piece.substr(0, equals));
  if (!key) return refuse("the name of a form field has a '%' that begins no escape");
  if (!is_alike(*key, alike)) return {};
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
  const std::string alike = folded(name);
  while (!encoded.empty()) {
    const std::size_t end = std::min(encoded.find_first_of("&;"), encoded.size());
    if (Result<void> looked = look_at(encoded.substr(0, end), name, alike, field); !looked) return looked;
    encoded.remove_prefix(std::min(end + 1, encoded.size()));
  }
  return {};
}

}  // namespace sallyport::action
