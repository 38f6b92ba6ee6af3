// Request targets: canonicalising twice changes nothing, and no server can read a dot segment in the result. The first
// byte of an input holds the options.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

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

void check_target(std::string_view raw, const TargetOptions& options) {
  const Result<Target> once = canonical_target(raw, options);
  if (!once) {
    require(!once.error().text.empty(), "an error says what is wrong");
    return;
  }
  const Result<Target> twice = canonical_target(once->text, options);
  require(twice && twice->text == once->text && twice->path_size == once->path_size, "canonical means canonical");
  require(once->text.size() <= raw.size(), "nothing grows");
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
