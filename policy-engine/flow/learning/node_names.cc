#include "policy-engine/flow/learning/node_names.h"

#include <algorithm>

namespace sallyport::flow::learning {

namespace {

constexpr std::size_t kWordsBytesMax = 24;
constexpr std::size_t kNameBytesMax = 56;  // room for a number behind it
constexpr std::size_t kPartsMax = 2;       // requests that the name of a group or a set tells

bool is_lower(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

// "DescribeStacks" → "describe-stacks".
std::string kebab(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size() && out.size() < kWordsBytesMax; ++i) {
    const char c = text[i];
    if (is_lower(c)) {
      out += c;
    } else if (is_upper(c)) {
      if (i > 0 && is_lower(text[i - 1]) && !out.empty()) out += '-';
      out += static_cast<char>(c - 'A' + 'a');
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (out.ends_with('-')) out.pop_back();
  return out;
}

// "DynamoDB_20120810.PutItem", "/api.Greeter/SayHello" → what stands last.
std::string_view last_part(std::string_view action) {
  const std::size_t at = action.find_last_of("./#:");
  return at == std::string_view::npos || at + 1 == action.size() ? action : action.substr(at + 1);
}

std::string last_constant_segment(const std::vector<Piece>& path) {
  std::string text;
  for (const Piece& piece : path) text += piece.literal.empty() ? std::string("\n") : piece.literal;
  while (!text.empty()) {
    const std::size_t at = text.rfind('/');
    const std::string segment = text.substr(at + 1);
    if (segment.find('\n') == std::string::npos) {
      if (std::string words = kebab(segment); !words.empty()) return words;
    }
    if (at == std::string::npos) break;
    text.resize(at);
  }
  return "";
}

std::string first_label(const std::vector<Piece>& host) {
  const std::string text = host.empty() ? "" : host[0].literal;
  return kebab(text.substr(0, text.find('.')));
}

}  // namespace

std::string name_of(const Pattern& pattern) {
  if (!pattern.action.empty()) {
    if (std::string words = kebab(last_part(pattern.action)); !words.empty()) return words;
  }
  std::string words = last_constant_segment(pattern.path);
  if (words.empty()) words = first_label(pattern.host);
  const std::string method = kebab(pattern.method);
  if (method.empty()) return words.empty() ? "request" : words;
  return words.empty() ? method : method + "-" + words;
}

std::string name_of(const Body& body, const std::vector<Pattern>& patterns) {
  if (body.kind == StepKind::request) return name_of(patterns[body.symbols[0]]);
  const std::string_view between = body.kind == StepKind::group ? "-then-" : "-and-";
  std::string out = body.kind == StepKind::loop ? "loop-" : "";
  for (std::size_t i = 0; i < std::min(body.symbols.size(), kPartsMax); ++i) {
    if (i > 0) out += between;
    out += name_of(patterns[body.symbols[i]]).substr(0, kWordsBytesMax);
    while (out.ends_with('-')) out.pop_back();
  }
  out.resize(std::min(out.size(), kNameBytesMax));
  while (out.ends_with('-')) out.pop_back();
  return out;
}

std::string UniqueNames::take(const std::string& name) {
  std::string out = name;
  for (std::size_t i = 2; !taken_.insert(out).second; ++i) out = name + "-" + std::to_string(i);
  return out;
}

}  // namespace sallyport::flow::learning
