#include "policy-engine/document/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <sstream>
#include <utility>

#include "base/limits.h"

namespace sallyport::document {

namespace {

Place place_of(const YAML::Mark& mark) { return {mark.line + 1, mark.column + 1}; }

// Leaves yaml-cpp's parser, which knows no other way out of a handler. Never leaves this file.
struct Refused {
  Place place;
  std::string message;
  std::string hint;
};

class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) {
      throw Refused{place_of(mark), "a second YAML document starts here",
                    "a file holds one document; make it two files"};
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    add(node(YamlNode::Kind::null, mark));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refused{place_of(mark), "aliases are not supported here", "write the value out"};
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    YamlNode scalar = node(YamlNode::Kind::scalar, mark);
    scalar.plain = tag == "?";
    scalar.text = value;
    add(std::move(scalar));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::sequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::map, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  YamlNode node(YamlNode::Kind kind, const YAML::Mark& mark) {
    if (++nodes_ > limits::kPolicyNodesMax) {
      throw Refused{
          place_of(mark), "the document has more than " + std::to_string(limits::kPolicyNodesMax) + " values", {}};
    }
    YamlNode made;
    made.kind = kind;
    made.place = place_of(mark);
    return made;
  }

  static void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) throw Refused{place_of(mark), "anchors are not supported here", "write the value out"};
  }

  // "?" and "!" are what yaml-cpp reports for values without a tag: plain and quoted.
  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    throw Refused{place_of(mark), "tags are not supported here: " + quoted(tag), "remove the tag"};
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (open_.size() == limits::kPolicyDepthMax) {
      throw Refused{place_of(mark), "values are nested deeper than " + std::to_string(limits::kPolicyDepthMax), {}};
    }
    open_.push_back(node(kind, mark));
  }

  void close() {
    YamlNode done = std::move(open_.back());
    open_.pop_back();
    add(std::move(done));
  }

  void add(YamlNode value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return;
    }
    YamlNode& parent = open_.back();
    const bool is_key = parent.kind == YamlNode::Kind::map && parent.keys.size() == parent.items.size();
    if (is_key && value.kind != YamlNode::Kind::scalar) {
      throw Refused{value.place, "a key must be a word", {}};
    }
    (is_key ? parent.keys : parent.items).push_back(std::move(value));
  }

  YamlNode root_;
  std::vector<YamlNode> open_;  // maps and sequences that have not ended, outermost first
  std::size_t nodes_ = 0;
  int documents_ = 0;
};

// Where byte `at` stands.
Place place_at(std::string_view text, std::size_t at) {
  const std::string_view before = text.substr(0, at);
  const auto lines = std::ranges::count(before, '\n');
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  return {static_cast<int>(lines) + 1, static_cast<int>(at - line_start) + 1};
}

// Bytes that yaml-cpp would understand in ways of its own are refused before it sees them: it takes 0x04 for the end of
// the file, NUL for UTF-16, and repairs broken UTF-8.
bool check_bytes(std::string_view text, Diagnostics& diagnostics) {
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    const std::size_t next = utf8_next(text, at);
    if (next == at) {
      diagnostics.error(place_at(text, at), "the file is not UTF-8", "save it as UTF-8");
      return false;
    }
    const bool lone_return = byte == '\r' && (next == text.size() || text[next] != '\n');
    const bool control = (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7F;
    if (control || lone_return) {
      diagnostics.error(place_at(text, at), "a control character stands here", "remove it");
      return false;
    }
    at = next;
  }
  return true;
}

std::string_view line_at(std::string_view text, int line) {
  for (int i = 1; i < line; ++i) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

// The two slips that YAML punishes with the least helpful messages.
std::string syntax_hint(std::string_view text, Place place) {
  const std::string_view line = line_at(text, place.line);
  const std::size_t first = line.find_first_not_of(' ');
  if (first != std::string_view::npos && line[first] == '\t') return "indent with spaces, not with tabs";
  const std::string_view here = line.substr(std::min(line.size(), static_cast<std::size_t>(place.column - 1)));
  if (here.starts_with('*') || line.find(": *") != std::string_view::npos) {
    return "a value that starts with * needs quotes: \"*.example.com\"";
  }
  return {};
}

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789_") == std::string_view::npos;
}

// Integers and floats of YAML 1.1 and 1.2, a little more widely: "1_000", "0x1f", "0o17", "1e3", ".5", "1:30", ".inf".
bool looks_like_number(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  constexpr std::array<std::string_view, 6> kWords = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"};
  if (std::ranges::find(kWords, text) != kWords.end()) return true;
  if (text.starts_with("0x")) return text.find_first_not_of("0123456789abcdefABCDEF_", 2) == std::string_view::npos;
  if (text.starts_with("0o") || text.starts_with("0b")) return is_digits(text.substr(2));
  if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
    return is_digits(text.substr(0, colon)) && text.find_first_not_of("0123456789_:.", colon) == std::string_view::npos;
  }
  std::string_view mantissa = text;
  if (const std::size_t e = text.find_first_of("eE"); e != std::string_view::npos) {
    std::string_view exponent = text.substr(e + 1);
    if (exponent.starts_with('-') || exponent.starts_with('+')) exponent.remove_prefix(1);
    if (!is_digits(exponent)) return false;
    mantissa = text.substr(0, e);
  }
  const std::size_t dot = mantissa.find('.');
  if (dot == std::string_view::npos) return is_digits(mantissa);
  const std::string_view whole = mantissa.substr(0, dot);
  const std::string_view fraction = mantissa.substr(dot + 1);
  if (whole.empty() && fraction.empty()) return false;
  return (whole.empty() || is_digits(whole)) && (fraction.empty() || is_digits(fraction));
}

}  // namespace

PlainType plain_type(std::string_view text) {
  constexpr std::array<std::string_view, 8> kBooleans = {"true", "false", "yes", "no", "on", "off", "y", "n"};
  std::string lower(text.substr(0, 8));
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (text.size() < 8 && std::ranges::find(kBooleans, lower) != kBooleans.end()) return PlainType::boolean;
  return looks_like_number(text) ? PlainType::number : PlainType::string;
}

std::optional<YamlNode> parse_yaml(std::string_view text, Diagnostics& diagnostics) {
  if (text.size() > limits::kPolicyBytesMax) {
    diagnostics.error({}, "the file is larger than " + std::to_string(limits::kPolicyBytesMax) + " bytes");
    return std::nullopt;
  }
  if (!check_bytes(text, diagnostics)) return std::nullopt;

  std::istringstream stream{std::string(text)};
  TreeBuilder builder;
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      diagnostics.error({}, "the file is empty", "a document starts with apiVersion: sallyport.dev/v1alpha1");
      return std::nullopt;
    }
    // A second document makes the builder refuse; anything else after the first is a syntax error.
    parser.HandleNextDocument(builder);
    return builder.take();
  } catch (const Refused& refused) {
    diagnostics.error(refused.place, refused.message, refused.hint);
  } catch (const YAML::Exception& error) {
    const bool has_place = !error.mark.is_null();
    const Place place = has_place ? place_of(error.mark) : Place{};
    diagnostics.error(place, "this is not YAML: " + error.msg, has_place ? syntax_hint(text, place) : "");
  } catch (const std::exception& error) {
    // Out of memory or a limit inside yaml-cpp: the document is refused, and whoever loads it keeps what it had.
    diagnostics.error({}, std::string("the file cannot be read as YAML: ") + error.what());
  }
  return std::nullopt;
}

}  // namespace sallyport::document
