#pragma once
// The one canonical form of a request target: the bytes that are matched are the bytes that are sent.

#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport::request {

struct TargetOptions {
  bool encoded_slashes = false;  // let %2F and %5C stand in a path (object stores put them in keys); never decoded
  bool merge_slashes = false;    // "//" becomes "/"
};

// Origin-form, canonical. `path` starts with "/"; `query` is without "?" and is empty both for no query and for "?"
// alone (which is dropped). `text` is what goes out: path, and "?" and query if the query is not empty.
struct Target {
  std::string text;
  std::size_t path_size = 0;
  std::string_view path() const { return std::string_view(text).substr(0, path_size); }
  std::string_view query() const {
    return path_size == text.size() ? std::string_view() : std::string_view(text).substr(path_size + 1);
  }
};

// Canonicalises the origin-form `raw` (RFC 3986 section 6.2.2; bypass list H1), in this order:
//   refuse bytes outside 0x21-0x7E, '#', and '\' in the path; percent signs not followed by two hex digits;
//   decode escapes of unreserved characters, upper-case the hex digits of the others;
//   refuse %00, other encoded control characters, and (unless allowed) %2F and %5C, in the path;
//   refuse a leading "//" (some servers read an authority there); merge slashes if asked to;
//   refuse a segment that would be "." or ".." once its ";parameters" are cut off (Tomcat does; also with %3B), or
//   between %2F and %5C if those are taken for slashes, unless it is exactly that;
//   remove dot segments (section 5.2.4), refusing a path that climbs over the root.
// Idempotent: canonicalising the result gives the same result. An already canonical target costs one pass and one copy.
// Returns ErrorSource::downstream, ErrorKind::malformed, with what is wrong and at which byte; ErrorKind::limit past
// limits::kRequestTargetBytesMax. "*" (OPTIONS) is not a path and is refused here.
Result<Target> canonical_target(std::string_view raw, const TargetOptions& options);

// Splits an absolute-form target ("https://host:port/path?query"). The views point into `raw`; `origin` is the path and
// query, or a literal "/" when both are missing. A query without a path ("https://host?query") is refused.
struct AbsoluteForm {
  std::string_view scheme;  // "http" or "https", as received
  std::string_view authority;
  std::string_view origin;
};
Result<AbsoluteForm> split_absolute_form(std::string_view raw);

}  // namespace sallyport::request
