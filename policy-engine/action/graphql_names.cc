#include "policy-engine/action/graphql_names.h"

#include <algorithm>
#include <string>

namespace sallyport::action {
namespace {

bool is_name_start(char c) { return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
bool is_name_part(char c) { return is_name_start(c) || (c >= '0' && c <= '9'); }

std::unexpected<Error> refuse(const std::string& text) {
  return fail(ErrorSource::downstream, ErrorKind::malformed, "the GraphQL document " + text);
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Result<std::vector<std::string_view>> read() {
    std::vector<std::string_view> names;
    for (skip_ignored(); at_ < text_.size(); skip_ignored()) {
      if (text_[at_] == '{') {
        names.emplace_back();
      } else {
        const std::string_view keyword = take_name();
        skip_ignored();
        const std::string_view name = take_name();
        if (keyword == "query" || keyword == "mutation" || keyword == "subscription") {
          names.push_back(name);
        } else if (keyword != "fragment" || name.empty()) {
          return refuse("has a definition that is neither an operation nor a fragment");
        }
        if (Result<void> found = skip_to_selection(); !found) return std::unexpected(found.error());
      }
      if (Result<void> skipped = skip_balanced(); !skipped) return std::unexpected(skipped.error());
    }
    return names;
  }

 private:
  // White space, line ends, commas, a byte order mark, comments (section 2.1.7).
  void skip_ignored() {
    while (at_ < text_.size()) {
      if (text_[at_] == '#') {
        at_ = std::min(text_.find_first_of("\r\n", at_), text_.size());
      } else if (text_.substr(at_, 3) == "\xEF\xBB\xBF") {
        at_ += 3;
      } else if (std::string_view(" \t\r\n,").find(text_[at_]) != std::string_view::npos) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string_view take_name() {
    const std::size_t first = at_;
    if (at_ < text_.size() && is_name_start(text_[at_])) {
      while (at_ < text_.size() && is_name_part(text_[at_])) ++at_;
    }
    return text_.substr(first, at_ - first);
  }

  // Behind variables, directives and a type condition, the bracket that opens the selection set.
  Result<void> skip_to_selection() {
    while (true) {
      skip_ignored();
      if (at_ >= text_.size()) return refuse("ends before a selection");
      if (text_[at_] == '{') return {};
      if (Result<void> skipped = skip_token(); !skipped) return skipped;
    }
  }

  // One token, or all that stands between a pair of brackets.
  Result<void> skip_token() {
    const char c = text_[at_];
    if (c == '(' || c == '[' || c == '{') return skip_balanced();
    if (c == ')' || c == ']' || c == '}') return refuse("closes a bracket that is not open");
    if (c == '"') return skip_string();
    ++at_;
    return {};
  }

  Result<void> skip_balanced() {
    std::string open;  // the brackets that are to come
    while (true) {
      skip_ignored();
      if (at_ >= text_.size()) return refuse("leaves a bracket open");
      const char c = text_[at_];
      if (c == '"') {
        if (Result<void> skipped = skip_string(); !skipped) return skipped;
        continue;
      }
      ++at_;
      if (c == '(') open += ')';
      if (c == '[') open += ']';
      if (c == '{') open += '}';
      if (c != ')' && c != ']' && c != '}') continue;
      if (open.empty() || open.back() != c) return refuse("closes a bracket that is not open");
      open.pop_back();
      if (open.empty()) return {};
    }
  }

  Result<void> skip_string() {
    constexpr std::string_view kBlock = "\"\"\"";
    if (text_.substr(at_, kBlock.size()) == kBlock) {
      at_ += kBlock.size();
      while (true) {
        const std::size_t end = text_.find(kBlock, at_);
        if (end == std::string_view::npos) return refuse("leaves a string open");
        at_ = end + kBlock.size();
        if (text_[end - 1] != '\\') return {};
      }
    }
    for (++at_; at_ < text_.size() && text_[at_] != '\n' && text_[at_] != '\r'; ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        return {};
      }
      if (text_[at_] == '\\') ++at_;
    }
    return refuse("leaves a string open");
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<std::vector<std::string_view>> operation_names(std::string_view document) { return Reader(document).read(); }

bool is_graphql_name(std::string_view text) {
  return !text.empty() && is_name_start(text.front()) && std::ranges::all_of(text, is_name_part);
}

}  // namespace sallyport::action
