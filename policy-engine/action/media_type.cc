#include "policy-engine/action/media_type.h"

#include <algorithm>
#include <cstddef>

namespace sallyport::action {
namespace {

bool is_token_byte(char c) {  // RFC 9110 section 5.6.2
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return letter || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  }
  return out;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Result<MediaType> read() {
    MediaType out;
    const std::string_view type = token();
    const bool slash = take('/');
    const std::string_view subtype = token();
    if (type.empty() || !slash || subtype.empty()) return refuse("is no media type");
    out.type = lower(type) + "/" + lower(subtype);
    for (space(); take(';'); space()) {
      space();
      const std::string name = lower(token());
      std::string value;
      if (name.empty() || !take('=') || !read_value(value)) return refuse("has a parameter that is none");
      if (out.parameter(name) != nullptr) return refuse("has the parameter '" + name + "' twice");
      out.parameters.emplace_back(name, value);
    }
    if (at_ != text_.size()) return refuse("is no media type");
    return out;
  }

 private:
  static std::unexpected<Error> refuse(const std::string& what) {
    return fail(ErrorSource::downstream, ErrorKind::malformed, "the Content-Type " + what);
  }
  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string_view token() {
    const std::size_t first = at_;
    while (at_ < text_.size() && is_token_byte(text_[at_])) ++at_;
    return text_.substr(first, at_ - first);
  }
  bool read_value(std::string& out) {
    if (!take('"')) {
      out = token();
      return !out.empty();
    }
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\') ++at_;
      if (at_ < text_.size()) out += text_[at_++];
    }
    return take('"');
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

const std::string* MediaType::parameter(std::string_view name) const {
  const auto found = std::ranges::find(parameters, name, [](const auto& one) { return std::string_view(one.first); });
  return found == parameters.end() ? nullptr : &found->second;
}

Result<MediaType> parse_media_type(std::string_view text) { return Reader(text).read(); }

}  // namespace sallyport::action
