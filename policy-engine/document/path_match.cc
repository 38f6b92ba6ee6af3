#include "policy-engine/document/path_match.h"

#include <re2/re2.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/limits.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;

// For a path that cannot be made canonical.
std::string hint_for(const std::string& path, const request::TargetOptions& options) {
  const bool needs_escape = std::ranges::any_of(path, [](char c) { return c <= ' ' || c > '~'; });
  if (needs_escape) return "percent-encode what is not a visible ASCII character: a space is %20";
  request::TargetOptions lenient = options;
  lenient.encoded_slashes = true;
  if (request::canonical_target(path, lenient))
    return "allowEncodedSlashes: true lets them stand in this endpoint's paths";
  return {};
}

// True if `path` may stand in a rule.
bool check_canonical(const std::string& path, const request::TargetOptions& options, Place place,
                     Diagnostics& diagnostics) {
  if (!path.starts_with('/')) {
    diagnostics.error(
        place, "the path " + quoted(path) + " does not start with /",
        path.find('*') == std::string::npos ? "write " + quoted("/" + path) : "every path is {prefix: /}");
    return false;
  }
  if (path.find('?') != std::string::npos) {
    diagnostics.error(place, "the path " + quoted(path) + " has a query",
                      "rules look at the path alone; write " + quoted(path.substr(0, path.find('?'))));
    return false;
  }
  const auto target = request::canonical_target(path, options);
  if (!target) {
    diagnostics.error(place, "the path " + quoted(path) + " is not valid: " + target.error().text,
                      hint_for(path, options));
    return false;
  }
  if (target->path() != path) {
    diagnostics.error(place, "the path " + quoted(path) + " is not canonical, so no request will have it",
                      "write " + quoted(target->path()));
    return false;
  }
  return true;
}

// Paths start with '/', so an expression whose matches all sort before "/" or after "/\xff…" has none.
bool can_match_a_path(const re2::RE2& expression) {
  std::string low, high;
  if (!expression.PossibleMatchRange(&low, &high, 8)) return true;
  return high >= "/" && low < "0";
}

PathMatcher compile_regex(const std::string& text, Place place, Diagnostics& diagnostics, std::size_t& regexes) {
  if (text.size() > limits::kRegexBytesMax) {
    diagnostics.error(place, "the regex is longer than " + std::to_string(limits::kRegexBytesMax) + " bytes");
    return {};
  }
  if (++regexes > limits::kPolicyRegexesMax) {
    diagnostics.error(place, "the policy has more than " + std::to_string(limits::kPolicyRegexesMax) + " regexes",
                      "prefix and exact are not limited like this");
    return {};
  }
  re2::RE2::Options options;
  options.set_encoding(re2::RE2::Options::EncodingLatin1);  // canonical paths are ASCII
  options.set_max_mem(limits::kRegexMemoryBytesMax);
  options.set_log_errors(false);
  auto expression = std::make_unique<re2::RE2>(text, options);
  if (!expression->ok()) {
    diagnostics.error(place, "the regex " + quoted(text) + " is not valid: " + expression->error(),
                      "the syntax is RE2's");
    return {};
  }
  if (!can_match_a_path(*expression)) {
    diagnostics.error(place, "the regex " + quoted(text) + " matches no path, as every path starts with /",
                      "it must match the whole path from its first /");
    return {};
  }
  return PathMatcher::regex(std::move(expression));
}

}  // namespace

PathMatcher compile_path(const api::PathMatch& source, const request::TargetOptions& options, const Places& places,
                         Diagnostics& diagnostics, std::size_t& regexes) {
  const Place place = places.of(source, static_cast<int>(source.match_case()));
  switch (source.match_case()) {
    case api::PathMatch::kExact:
      if (!check_canonical(source.exact(), options, place, diagnostics)) return {};
      return PathMatcher::exact(source.exact());
    case api::PathMatch::kPrefix:
      if (!check_canonical(source.prefix(), options, place, diagnostics)) return {};
      if (source.prefix().ends_with('*')) {
        diagnostics.warning(place, "in the prefix " + quoted(source.prefix()) + " the * stands for itself",
                            "a prefix needs no wildcard: \"/photos/\" has all that is below it");
      }
      return PathMatcher::prefix(source.prefix());
    case api::PathMatch::kRegex:
      return compile_regex(source.regex(), place, diagnostics, regexes);
    case api::PathMatch::MATCH_NOT_SET:
      break;
  }
  return {};
}

}  // namespace sallyport::document
