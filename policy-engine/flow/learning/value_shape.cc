#include "policy-engine/flow/learning/value_shape.h"

#include <algorithm>
#include <cstddef>

namespace sallyport::flow::learning {

namespace {

constexpr std::size_t kHexMin = 8;  // shorter ones may be words: "cafe", "face1"
constexpr std::size_t kStrongHexMin = 16;
constexpr std::size_t kStrongIntMin = 4;
constexpr std::string_view kUuid = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
constexpr std::string_view kDate = "0000-00-00";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_alnum(char c) { return is_digit(c) || is_letter(c); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_word(char c) { return is_alnum(c) || c == '.' || c == '_' || c == '~' || c == '-'; }

bool starts_as(std::string_view text, std::string_view form) {
  if (text.size() < form.size()) return false;
  for (std::size_t i = 0; i < form.size(); ++i) {
    const bool fits = form[i] == 'x' ? is_hex(text[i]) : form[i] == '0' ? is_digit(text[i]) : form[i] == text[i];
    if (!fits) return false;
  }
  return true;
}

bool ends_at(std::string_view text, std::size_t at) { return text.size() == at || !is_alnum(text[at]); }

int number_at(std::string_view text, std::size_t at) { return (text[at] - '0') * 10 + (text[at + 1] - '0'); }

bool is_calendar(int century, int month, int day) {
  return (century == 19 || century == 20) && month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

// How many bytes of a date are at the beginning, without a time.
std::size_t date_bytes(std::string_view text) {
  if (starts_as(text, kDate) && ends_at(text, kDate.size()) &&
      is_calendar(number_at(text, 0), number_at(text, 5), number_at(text, 8))) {
    return kDate.size();
  }
  if (starts_as(text, "00000000") && ends_at(text, 8) &&
      is_calendar(number_at(text, 0), number_at(text, 4), number_at(text, 6))) {
    return 8;
  }
  return 0;
}

bool is_name_with_number(std::string_view letters, std::string_view digits) {
  if (letters == "v" || letters == "V") return digits.size() <= 2;
  return digits.size() == 1 && letters.size() <= 3;  // "s3", "ec2", "mp4"
}

void add_placeholder(Shape& shape, std::string_view name, bool strong) {
  shape.text += name;
  shape.variable = true;
  shape.strong |= strong;
}

// Letters and digits without anything between.
void add_run(Shape& shape, std::string_view run) {
  const auto digits = static_cast<std::size_t>(std::ranges::count_if(run, is_digit));
  if (digits == 0 && !(run.size() >= kStrongHexMin && std::ranges::all_of(run, is_hex))) {
    shape.text += escaped(run);
  } else if (digits == run.size()) {
    add_placeholder(shape, "{int}", digits >= kStrongIntMin);
  } else if (run.size() >= kHexMin && std::ranges::all_of(run, is_hex)) {
    add_placeholder(shape, "{hex}", run.size() >= kStrongHexMin);
  } else if (const auto first = std::ranges::find_if(run, is_digit); std::all_of(first, run.end(), is_digit)) {
    const auto letters = static_cast<std::size_t>(first - run.begin());
    shape.text += escaped(run.substr(0, letters));
    if (is_name_with_number(run.substr(0, letters), run.substr(letters))) {
      shape.text += run.substr(letters);
    } else {
      add_placeholder(shape, "{int}", false);
    }
  } else {
    add_placeholder(shape, "{word}", false);
  }
}

std::size_t common_prefix(const std::vector<std::string_view>& values) {
  std::size_t size = values[0].size();
  for (const std::string_view value : values) {
    const auto differ = std::ranges::mismatch(values[0].substr(0, size), value);
    size = static_cast<std::size_t>(differ.in1 - values[0].begin());
  }
  return size;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '{') {
      out += "%7B";
    } else if (c == '}') {
      out += "%7D";
    } else if (c == '*') {
      out += "%2A";
    } else {
      out += c;
    }
  }
  return out;
}

Shape shape_of(std::string_view value) {
  Shape shape;
  while (!value.empty()) {
    std::size_t taken = 1;
    if (starts_as(value, kUuid) && ends_at(value, kUuid.size())) {
      taken = kUuid.size();
      add_placeholder(shape, "{uuid}", true);
    } else if (const std::size_t date = date_bytes(value); date != 0) {
      taken = date;
      add_placeholder(shape, "{date}", true);
    } else if (is_alnum(value[0])) {
      while (taken < value.size() && is_alnum(value[taken])) ++taken;
      add_run(shape, value.substr(0, taken));
    } else if (value[0] == '%' && value.size() >= 3) {
      taken = 3;  // an encoded byte is no number
      shape.text += value.substr(0, taken);
    } else {
      shape.text += escaped(value.substr(0, 1));
    }
    value.remove_prefix(taken);
  }
  return shape;
}

std::string_view stem_of(std::string_view value) {
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (!is_alnum(value[i])) return value.substr(0, i + 1);
  }
  return {};
}

std::string joined_text(const std::vector<std::string_view>& values) {
  std::size_t prefix = common_prefix(values);
  while (prefix > 0 && is_alnum(values[0][prefix - 1])) --prefix;
  // The ending of a name that says its kind: ".jpg".
  const std::size_t dot = values[0].rfind('.');
  std::string_view suffix = dot == std::string_view::npos ? "" : values[0].substr(dot);
  const auto fits = [&](std::string_view value) {
    return value.size() > prefix + suffix.size() && value.ends_with(suffix);
  };
  if (!std::ranges::all_of(values, fits)) suffix = "";
  if (!std::ranges::all_of(values, fits)) prefix = 0;
  const bool words = std::ranges::all_of(values, [&](std::string_view value) {
    return std::ranges::all_of(value.substr(prefix, value.size() - prefix - suffix.size()), is_word) &&
           value.size() > prefix + suffix.size();
  });
  return escaped(values[0].substr(0, prefix)) + (words ? "{word}" : "{any}") + escaped(suffix);
}

bool is_long_identifier(std::string_view text) {
  return text.size() >= kHexMin && std::ranges::all_of(text, is_hex) && std::ranges::any_of(text, is_digit);
}

bool looks_random(std::string_view text) {
  const bool letters = std::ranges::any_of(text, is_letter);
  const bool digits = std::ranges::any_of(text, is_digit);
  const bool vowels = text.find_first_of("aeiouyAEIOUY") != std::string_view::npos;
  return digits ? letters || text.size() >= kStrongIntMin : letters && !vowels && text.size() >= 3;
}

}  // namespace sallyport::flow::learning
