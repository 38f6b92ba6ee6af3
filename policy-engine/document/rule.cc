#include "policy-engine/document/rule.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <utility>

namespace sallyport::document {

namespace {

// The methods of RFC 9110 and RFC 5789: nearly every request has one of these.
constexpr std::array<std::string_view, 8> kCommon = {"GET",    "HEAD",  "POST",    "PUT",
                                                     "DELETE", "PATCH", "OPTIONS", "TRACE"};

std::uint16_t bit_of(std::string_view method) {
  for (std::size_t i = 0; i < kCommon.size(); ++i) {
    if (kCommon[i] == method) return static_cast<std::uint16_t>(1U << i);
  }
  return 0;
}

// Whole segments: "/photos" has "/photos" and "/photos/x"; "/photos/" has "/photos/" and "/photos/x".
bool has_prefix(std::string_view path, std::string_view prefix) {
  if (!path.starts_with(prefix)) return false;
  return prefix.ends_with('/') || path.size() == prefix.size() || path[prefix.size()] == '/';
}

}  // namespace

MethodKey::MethodKey(std::string_view method) : text_(method), bit_(bit_of(method)) {}

void MethodSet::add(std::string_view method) {
  bits_ = static_cast<std::uint16_t>(bits_ | bit_of(method));
  names_.emplace_back(method);
}

bool MethodSet::contains(const MethodKey& method) const {
  if (any_) return true;
  if (method.bit() != 0) return (bits_ & method.bit()) != 0;
  return std::ranges::find(names_, method.text()) != names_.end();
}

PathMatcher::PathMatcher() = default;
PathMatcher::~PathMatcher() = default;
PathMatcher::PathMatcher(PathMatcher&&) noexcept = default;
PathMatcher& PathMatcher::operator=(PathMatcher&&) noexcept = default;

PathMatcher PathMatcher::exact(std::string path) {
  PathMatcher matcher;
  matcher.kind_ = Kind::exact;
  matcher.path_ = std::move(path);
  return matcher;
}

PathMatcher PathMatcher::prefix(std::string path) {
  PathMatcher matcher;
  matcher.kind_ = Kind::prefix;
  matcher.path_ = std::move(path);
  return matcher;
}

PathMatcher PathMatcher::regex(std::unique_ptr<re2::RE2> expression) {
  PathMatcher matcher;
  matcher.kind_ = Kind::regex;
  matcher.path_ = expression->pattern();
  matcher.regex_ = std::move(expression);
  return matcher;
}

bool PathMatcher::matches(std::string_view path) const {
  switch (kind_) {
    case Kind::nothing:
      return false;
    case Kind::exact:
      return path == path_;
    case Kind::prefix:
      return has_prefix(path, path_);
    case Kind::regex:
      break;
  }
  // False also when RE2 gives up, for example out of memory: then the request is denied, as no rule has allowed it.
  return regex_->Match(re2::StringPiece(path.data(), path.size()), 0, path.size(), re2::RE2::ANCHOR_BOTH, nullptr, 0);
}

std::string PathMatcher::to_string() const {
  switch (kind_) {
    case Kind::nothing:
      return "nothing";
    case Kind::exact:
      return "exact: " + path_;
    case Kind::prefix:
      return "prefix: " + path_;
    case Kind::regex:
      break;
  }
  return "regex: " + path_;
}

std::string Rule::to_string() const {
  std::string out = methods.any() ? "any" : "";
  for (const std::string& name : methods.names()) {
    if (!out.empty()) out += ", ";
    out += name;
  }
  out += " on " + path.to_string();
  for (const std::string& action : actions) out += (&action == actions.data() ? " with " : ", ") + action;
  return out;
}

bool Rule::has_action(std::string_view action) const {
  return actions.empty() || std::ranges::find(actions, action) != actions.end();
}

}  // namespace sallyport::document
