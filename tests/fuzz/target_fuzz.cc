// Request targets: canonicalising twice changes nothing, what is matched is what is sent and what was asked for, and no
// server can read a dot segment in the result. The first byte of an input holds the options.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/request/target.h"
#include "tests/fuzz/require.h"

namespace sallyport::request {
namespace {

using fuzz::require;

// How a server sees a path that takes every encoded slash for one and cuts parameters off.
bool has_dot_segment(std::string_view path) {
  std::string segment;
  bool parameters = false;
  for (std::size_t i = 1; i <= path.size(); ++i) {
    const std::string_view escape = path.substr(i, 3);
    const bool encoded_slash = escape == "%2F" || escape == "%5C";
    if (i == path.size() || path[i] == '/' || encoded_slash) {
      if (segment == "." || segment == "..") return true;
      segment.clear();
      parameters = false;
    } else if (path[i] == ';' || escape == "%3B") {
      parameters = true;
    } else if (!parameters) {
      segment += path[i];
    }
    if (i < path.size() && (encoded_slash || escape == "%3B")) i += 2;
  }
  return false;
}

// What a part of a target says: two bytes for each of its characters, which tell an escaped one from one that is not,
// unless that makes no difference (RFC 3986 section 6.2.2.2).
std::string meaning(std::string_view text) {
  constexpr std::string_view kUnreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  std::string said;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escaped = text[i] == '%';
    const char c = escaped ? static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16)) : text[i];
    said += escaped && kUnreserved.find(c) == std::string_view::npos ? 'e' : 'p';
    said += c;
    if (escaped) i += 2;
  }
  return said;
}

// What a target asks for: its segments and its query, resolved as RFC 3986 section 5.2.4 has it, in the slowest way.
struct Asked {
  std::vector<std::string> segments;
  std::string query;
  bool operator==(const Asked&) const = default;
};

Asked asked_for(std::string_view target, bool merge_slashes) {
  Asked asked;
  const std::size_t question = std::min(target.find('?'), target.size());
  asked.query = meaning(target.substr(std::min(question + 1, target.size())));
  const std::string_view path = target.substr(0, question);
  const std::string here = meaning("."), up = meaning("..");
  for (std::size_t begin = 1; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string segment = meaning(path.substr(begin, end - begin));
    const bool last = end == path.size();
    begin = end + 1;
    if (segment == here || segment == up) {
      require(segment == here || !asked.segments.empty(), "nothing climbs over the root");
      if (segment == up) asked.segments.pop_back();
      if (last) asked.segments.emplace_back();
    } else if (!segment.empty() || last || !merge_slashes) {
      asked.segments.push_back(segment);
    }
  }
  return asked;
}

void check_target(std::string_view raw, const TargetOptions& options) {
  const Result<Target> once = canonical_target(raw, options);
  if (!once) {
    require(!once.error().text.empty(), "an error says what is wrong");
    return;
  }
  const Result<Target> twice = canonical_target(once->text, options);
  require(twice && twice->text == once->text && twice->path_size == once->path_size, "canonical means canonical");
  require(once->text.size() <= raw.size(), "nothing grows");
  const std::string joined =
      std::string(once->path()) + (once->query().empty() ? "" : "?") + std::string(once->query());
  require(joined == once->text, "what is matched is what is sent");
  require(asked_for(once->text, false) == asked_for(raw, options.merge_slashes), "what is sent is what was asked for");
  require(once->path().starts_with('/') && !once->path().starts_with("//"), "a path begins with one slash");
  require(once->path().find_first_of("?#\\") == std::string_view::npos, "a path is a path");
  require(!has_dot_segment(once->path()), "no dot segment survives");
  for (const char c : once->text) require(c >= 0x21 && c <= 0x7e && c != '#', "only visible bytes go out");
  if (options.merge_slashes) require(once->path().find("//") == std::string_view::npos, "slashes are merged");
  if (!options.encoded_slashes) {
    require(once->path().find("%2F") == std::string_view::npos && once->path().find("%5C") == std::string_view::npos,
            "encoded slashes are refused");
  }
}

void check_absolute_form(std::string_view raw) {
  const Result<AbsoluteForm> form = split_absolute_form(raw);
  if (!form) return;
  const std::string joined =
      std::string(form->scheme) + "://" + std::string(form->authority) + std::string(form->origin);
  require(joined == raw || joined == std::string(raw) + "/", "the parts make the whole");
  require(form->authority.find_first_of("/?#") == std::string_view::npos, "an authority ends where the path begins");
}

}  // namespace
}  // namespace sallyport::request

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::request;
  if (size == 0) return 0;
  const std::string_view raw(reinterpret_cast<const char*>(data) + 1, size - 1);
  check_target(raw, {.encoded_slashes = (data[0] & 1) != 0, .merge_slashes = (data[0] & 2) != 0});
  check_absolute_form(raw);
  return 0;
}
