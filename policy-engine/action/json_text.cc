#include "policy-engine/action/json_text.h"

#include <algorithm>

#include "base/hex.h"
#include "base/limits.h"

namespace sallyport::action {
namespace {

constexpr std::size_t kWrong = std::string_view::npos;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Four digits at `at`, or -1.
int code_unit(std::string_view text, std::size_t at) {
  if (text.size() < at + 4) return -1;
  int unit = 0;
  for (std::size_t i = at; i < at + 4; ++i) {
    const int digit = hex_value(text[i]);
    if (digit < 0) return -1;
    unit = unit * 16 + digit;
  }
  return unit;
}

bool is_high(int unit) { return unit >= 0xD800 && unit <= 0xDBFF; }
bool is_low(int unit) { return unit >= 0xDC00 && unit <= 0xDFFF; }

// The length of the well-formed sequence at `at` (Unicode, table 3-7), or 0.
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : std::uint8_t{0};
  };
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const unsigned second = byte(1);
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
    return continues(1) && continues(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const unsigned second = byte(1);
    if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
    return continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

void append_utf8(std::string& out, std::uint32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
    return;
  }
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((point >> shift) & 0x3F)); };
  if (point < 0x800) {
    out += static_cast<char>(0xC0 | (point >> 6));
  } else if (point < 0x10000) {
    out += static_cast<char>(0xE0 | (point >> 12));
    tail(6);
  } else {
    out += static_cast<char>(0xF0 | (point >> 18));
    tail(12);
    tail(6);
  }
  tail(0);
}

// Checks a text from its first byte on; each function gives the offset behind what it has checked, or kWrong with the
// offset of the fault in `fault`.
class Checker {
 public:
  explicit Checker(std::string_view text) : text_(text) {}
  std::size_t fault = 0;

  std::size_t space(std::size_t at) const {
    while (at < text_.size() && is_space(text_[at])) ++at;
    return at;
  }

  std::size_t value(std::size_t at, std::size_t depth) {
    if (at >= text_.size() || depth > limits::kActionJsonDepthMax) return wrong(at);
    switch (text_[at]) {
      case '{':
        return object(at, depth);
      case '[':
        return array(at, depth);
      case '"':
        return string(at);
      case 't':
        return word(at, "true");
      case 'f':
        return word(at, "false");
      case 'n':
        return word(at, "null");
      default:
        return number(at);
    }
  }

 private:
  std::size_t wrong(std::size_t at) {
    fault = at;
    return kWrong;
  }

  std::size_t word(std::size_t at, std::string_view expected) {
    return text_.substr(at, expected.size()) == expected ? at + expected.size() : wrong(at);
  }

  std::size_t digits(std::size_t at) {
    const std::size_t first = at;
    while (at < text_.size() && is_digit(text_[at])) ++at;
    return at == first ? wrong(at) : at;
  }

  std::size_t number(std::size_t at) {
    if (text_[at] == '-') ++at;
    const bool zero = at < text_.size() && text_[at] == '0';
    at = zero ? at + 1 : digits(at);
    if (at != kWrong && at < text_.size() && text_[at] == '.') at = digits(at + 1);
    if (at != kWrong && at < text_.size() && (text_[at] | 0x20) == 'e') {
      ++at;
      if (at < text_.size() && (text_[at] == '+' || text_[at] == '-')) ++at;
      at = digits(at);
    }
    return at;
  }

  std::size_t escape(std::size_t at) {  // behind the backslash
    if (at >= text_.size()) return wrong(at);
    if (text_[at] != 'u') {
      return std::string_view("\"\\/bfnrt").find(text_[at]) == std::string_view::npos ? wrong(at) : at + 1;
    }
    const int unit = code_unit(text_, at + 1);
    if (unit < 0 || is_low(unit)) return wrong(at);
    if (!is_high(unit)) return at + 5;
    const bool paired = text_.substr(at + 5, 2) == "\\u" && is_low(code_unit(text_, at + 7));
    return paired ? at + 11 : wrong(at);
  }

  std::size_t string(std::size_t at) {
    for (++at; at < text_.size();) {
      const char c = text_[at];
      if (c == '"') return at + 1;
      if (static_cast<unsigned char>(c) < 0x20) break;
      if (c == '\\') {
        at = escape(at + 1);
        if (at == kWrong) return kWrong;
        continue;
      }
      const std::size_t length = utf8_length(text_, at);
      if (length == 0) break;
      at += length;
    }
    return wrong(at);
  }

  std::size_t array(std::size_t at, std::size_t depth) {
    at = space(at + 1);
    if (at < text_.size() && text_[at] == ']') return at + 1;
    while (true) {
      at = value(at, depth + 1);
      if (at == kWrong) return kWrong;
      at = space(at);
      if (at < text_.size() && text_[at] == ']') return at + 1;
      if (at >= text_.size() || text_[at] != ',') return wrong(at);
      at = space(at + 1);
    }
  }

  std::size_t object(std::size_t at, std::size_t depth) {
    at = space(at + 1);
    if (at < text_.size() && text_[at] == '}') return at + 1;
    while (true) {
      if (at >= text_.size() || text_[at] != '"') return wrong(at);
      at = string(at);
      if (at == kWrong) return kWrong;
      at = space(at);
      if (at >= text_.size() || text_[at] != ':') return wrong(at);
      at = value(space(at + 1), depth + 1);
      if (at == kWrong) return kWrong;
      at = space(at);
      if (at < text_.size() && text_[at] == '}') return at + 1;
      if (at >= text_.size() || text_[at] != ',') return wrong(at);
      at = space(at + 1);
    }
  }

  std::string_view text_;
};

std::size_t skip_space(std::string_view raw, std::size_t at) {
  while (at < raw.size() && is_space(raw[at])) ++at;
  return at;
}

std::size_t string_end(std::string_view raw, std::size_t at) {
  for (++at; raw[at] != '"'; ++at) {
    if (raw[at] == '\\') ++at;
  }
  return at + 1;
}

// The end of the value at `at`, of a text that has been checked.
std::size_t value_end(std::string_view raw, std::size_t at) {
  std::size_t depth = 0;
  do {
    switch (raw[at]) {
      case '"':
        at = string_end(raw, at);
        break;
      case '{':
      case '[':
        ++depth;
        ++at;
        break;
      case '}':
      case ']':
        --depth;
        ++at;
        break;
      case ',':
      case ':':
      case ' ':
      case '\t':
      case '\n':
      case '\r':
        ++at;
        break;
      default:
        while (at < raw.size() && std::string_view(",:]} \t\n\r").find(raw[at]) == std::string_view::npos) ++at;
    }
  } while (depth > 0);
  return at;
}

// As the most forgiving readers compare names: Go's without regard to case, also of U+017F and U+212A; some in C up to
// a NUL.
std::string folded(std::string_view name) {
  std::string out;
  name = name.substr(0, name.find('\0'));
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name.substr(i, 2) == "\xC5\xBF") {
      out += 's';
      ++i;
    } else if (name.substr(i, 3) == "\xE2\x84\xAA") {
      out += 'k';
      i += 2;
    } else {
      out += name[i] >= 'A' && name[i] <= 'Z' ? static_cast<char>(name[i] | 0x20) : name[i];
    }
  }
  return out;
}

std::string decoded(std::string_view raw) {  // with its quotes
  std::string out;
  out.reserve(raw.size());
  for (std::size_t i = 1; i + 1 < raw.size(); ++i) {
    if (raw[i] != '\\') {
      out += raw[i];
      continue;
    }
    const char kind = raw[++i];
    constexpr std::string_view kShort = "bfnrt", kMeaning = "\b\f\n\r\t";
    if (const std::size_t found = kShort.find(kind); found != std::string_view::npos) {
      out += kMeaning[found];
    } else if (kind == 'u') {
      auto point = static_cast<std::uint32_t>(code_unit(raw, i + 1));
      i += 4;
      if (is_high(static_cast<int>(point))) {
        point = 0x10000 + ((point - 0xD800) << 10) + static_cast<std::uint32_t>(code_unit(raw, i + 3) - 0xDC00);
        i += 6;
      }
      append_utf8(out, point);
    } else {
      out += kind;
    }
  }
  return out;
}

}  // namespace

JsonValue::Kind JsonValue::kind() const {
  switch (raw_.front()) {
    case '{':
      return Kind::object;
    case '[':
      return Kind::array;
    case '"':
      return Kind::string;
    case 't':
    case 'f':
      return Kind::boolean;
    case 'n':
      return Kind::null;
    default:
      return Kind::number;
  }
}

Result<std::optional<JsonValue>> JsonValue::member(std::string_view name) const {
  std::optional<JsonValue> found;
  if (kind() != Kind::object) return found;
  const std::string alike = folded(name);
  std::size_t seen = 0;
  bool exact = true;
  for (std::size_t at = skip_space(raw_, 1); raw_[at] == '"';) {
    const std::size_t key_end = string_end(raw_, at);
    const std::string key = decoded(raw_.substr(at, key_end - at));
    const std::size_t value = skip_space(raw_, skip_space(raw_, key_end) + 1);
    const std::size_t end = value_end(raw_, value);
    if (folded(key) == alike) {
      ++seen;
      exact = exact && key == name;
      found = JsonValue(raw_.substr(value, end - value));
    }
    at = skip_space(raw_, end);
    if (raw_[at] == ',') at = skip_space(raw_, at + 1);
  }
  if (seen > 1 || !exact) {
    return fail(
        ErrorSource::downstream, ErrorKind::malformed,
        "the JSON of the body has '" + std::string(name) +
            (exact ? "' more than once in one object" : "' in another spelling, which some servers take for it"));
  }
  return found;
}

std::optional<JsonValue> JsonValue::element(std::size_t i) const {
  if (kind() != Kind::array) return std::nullopt;
  for (std::size_t at = skip_space(raw_, 1); raw_[at] != ']';) {
    const std::size_t end = value_end(raw_, at);
    if (i-- == 0) return JsonValue(raw_.substr(at, end - at));
    at = skip_space(raw_, end);
    if (raw_[at] == ',') at = skip_space(raw_, at + 1);
  }
  return std::nullopt;
}

bool JsonValue::all_elements(const std::function<bool(const JsonValue&)>& good) const {
  if (kind() != Kind::array) return false;
  for (std::size_t at = skip_space(raw_, 1); raw_[at] != ']';) {
    const std::size_t end = value_end(raw_, at);
    if (!good(JsonValue(raw_.substr(at, end - at)))) return false;
    at = skip_space(raw_, end);
    if (raw_[at] == ',') at = skip_space(raw_, at + 1);
  }
  return true;
}

std::string JsonValue::text() const { return kind() == Kind::string ? decoded(raw_) : std::string(); }

Result<JsonValue> parse_json(std::string_view text) {
  Checker checker(text);
  const std::size_t first = checker.space(0);
  const std::size_t end = checker.value(first, 0);
  const std::size_t rest = end == kWrong ? checker.fault : checker.space(end);
  if (end == kWrong || rest != text.size()) {
    return fail(ErrorSource::downstream, ErrorKind::malformed,
                "the body is not JSON that every reader takes for the same (at byte " + std::to_string(rest) + ")");
  }
  return JsonValue(text.substr(first, end - first));
}

Result<std::string> with_member(std::string_view text, std::string_view name, std::optional<std::string_view> value) {
  const Result<JsonValue> checked = parse_json(text);
  if (!checked) return std::unexpected(checked.error());
  if (checked->kind() != JsonValue::Kind::object) {
    return fail(ErrorSource::downstream, ErrorKind::malformed, "the JSON of the body is no object");
  }
  const std::string alike = folded(name);
  std::string out = "{";
  out.reserve(text.size() + name.size() + (value ? value->size() : 0) + 8);
  std::size_t at = skip_space(text, skip_space(text, 0) + 1);
  while (text[at] == '"') {
    const std::size_t key_end = string_end(text, at);
    const std::size_t end = value_end(text, skip_space(text, skip_space(text, key_end) + 1));
    if (folded(decoded(text.substr(at, key_end - at))) != alike) {
      if (out.size() > 1) out += ',';
      out += text.substr(at, end - at);
    }
    at = skip_space(text, end);
    if (text[at] == ',') at = skip_space(text, at + 1);
  }
  if (value) {
    if (out.size() > 1) out += ',';
    out.append(1, '"').append(name).append("\":\"").append(*value).append(1, '"');
  }
  return out + "}";
}

}  // namespace sallyport::action
