#include "policy-engine/request/target.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "base/hex.h"
#include "base/limits.h"
#include "policy-engine/request/head.h"

namespace sallyport::request {
namespace {

constexpr std::uint8_t kRefused = 1;      // never in a target
constexpr std::uint8_t kPathRefused = 2;  // not in a path
constexpr std::uint8_t kUnreserved = 4;   // RFC 3986 section 2.3

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool digit = c >= '0' && c <= '9';
    if (c < 0x21 || c > 0x7e || c == '#') classes[c] = kRefused | kPathRefused;
    if (c == '\\') classes[c] = kPathRefused;
    if (letter || digit || c == '-' || c == '.' || c == '_' || c == '~') classes[c] = kUnreserved;
  }
  return classes;
}
constexpr std::array<std::uint8_t, 256> kClasses = make_classes();

std::uint8_t class_of(char c) { return kClasses[static_cast<unsigned char>(c)]; }

std::unexpected<Error> refuse(std::string text) {
  return fail(ErrorSource::downstream, ErrorKind::malformed, std::move(text));
}

std::unexpected<Error> refuse_byte(char c, std::size_t offset) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  return refuse(std::string("byte 0x") + kDigits[byte >> 4] + kDigits[byte & 15] + " at offset " +
                std::to_string(offset) + " is not allowed in a request target");
}

char upper_hex(char c) { return c >= 'a' ? static_cast<char>(c & ~0x20) : c; }

// What one look at the bytes says about the work that is left.
struct Survey {
  std::size_t path_size = 0;
  bool path_escapes = false;
  bool path_segments = false;  // an empty segment, or one that begins with a dot
  bool query_escapes = false;
};

Result<Survey> survey(std::string_view raw) {
  Survey found;
  found.path_size = raw.size();
  char previous = 0;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    const char c = raw[i];
    if (c == '?') {
      found.path_size = i;
      break;
    }
    if (class_of(c) & kPathRefused) return refuse_byte(c, i);
    if (c == '%') found.path_escapes = true;
    if (previous == '/' && (c == '.' || c == '/')) found.path_segments = true;
    previous = c;
  }
  for (std::size_t i = found.path_size; i < raw.size(); ++i) {
    if (class_of(raw[i]) & kRefused) return refuse_byte(raw[i], i);
    if (raw[i] == '%') found.query_escapes = true;
  }
  return found;
}

enum class Part { path, query };

bool allowed_escape(int byte, Part part, const TargetOptions& options) {
  if (part == Part::query) return true;
  if (byte < 0x20 || byte == 0x7f) return false;
  return options.encoded_slashes || (byte != '/' && byte != '\\');
}

// Appends raw[begin, end) with its escapes in their one form. Offsets in errors are those of `raw`.
Result<void> append_escaped(std::string_view raw, std::size_t begin, std::size_t end, Part part,
                            const TargetOptions& options, std::string& out) {
  for (std::size_t i = begin; i < end; ++i) {
    if (raw[i] != '%') {
      out += raw[i];
      continue;
    }
    const int high = i + 2 < end ? hex_value(raw[i + 1]) : -1;
    const int low = i + 2 < end ? hex_value(raw[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return refuse("the percent sign at offset " + std::to_string(i) + " is not followed by two hex digits");
    }
    const int byte = high * 16 + low;
    if (!allowed_escape(byte, part, options)) {
      return refuse("the escape " + std::string(raw.substr(i, 3)) + " at offset " + std::to_string(i) +
                    " is not allowed in a path");
    }
    if (class_of(static_cast<char>(byte)) & kUnreserved) {
      out += static_cast<char>(byte);
    } else {
      out += {'%', upper_hex(raw[i + 1]), upper_hex(raw[i + 2])};
    }
    i += 2;
  }
  return {};
}

bool is_dots(std::string_view segment) { return segment == "." || segment == ".."; }

// Whether some server would read a dot segment in a segment that is none: one that cuts parameters off first ("..;x",
// also with the semicolon escaped), or one that takes an encoded slash for a slash ("..%2Fx").
bool hides_dots(std::string_view segment) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= segment.size(); ++i) {
    const std::string_view escape = segment.substr(i, 3);
    const bool slash = escape == "%2F" || escape == "%5C";
    const bool end = i == segment.size();
    if (!end && !slash && segment[i] != ';' && escape != "%3B") continue;
    if (is_dots(segment.substr(begin, i - begin)) && !(begin == 0 && end)) return true;
    if (!slash) {  // parameters run to the next slash
      const std::size_t next = std::min(segment.find("%2F", i), segment.find("%5C", i));
      if (next == std::string_view::npos) return false;
      i = next;
    }
    begin = i + 3;
    i += 2;
  }
  return false;
}

// Resolves the dot segments of a path (RFC 3986 section 5.2.4). The result is never longer than what it replaces.
Result<std::string> resolve_segments(std::string_view path, bool merge_slashes) {
  std::string out;
  out.reserve(path.size());
  for (std::size_t begin = 1; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view segment = path.substr(begin, end - begin);
    const bool last = end == path.size();
    begin = end + 1;
    if (hides_dots(segment)) {
      return refuse("a path segment of dots with parameters or encoded slashes is not allowed");
    }
    if (segment.empty() && merge_slashes && !last) continue;
    if (!is_dots(segment)) {
      out.append(1, '/').append(segment);
      continue;
    }
    if (segment == "..") {
      if (out.empty()) return refuse("the path climbs over its root with '..'");
      out.resize(out.rfind('/'));
    }
    if (last) out += '/';
  }
  if (out.starts_with("//")) return refuse("the path begins with '//', which some servers take for a host");
  return out;
}

}  // namespace

Result<Target> canonical_target(std::string_view raw, const TargetOptions& options) {
  if (!raw.starts_with('/')) return refuse("a request target must begin with '/'");
  if (raw.size() > limits::kRequestTargetBytesMax) {
    return fail(ErrorSource::downstream, ErrorKind::limit, "the request target is too long");
  }
  const Result<Survey> found = survey(raw);
  if (!found) return std::unexpected(found.error());
  if (raw.starts_with("//")) return refuse("the path begins with '//', which some servers take for a host");

  Target target;
  target.text.reserve(raw.size());
  if (!found->path_escapes) {
    target.text.assign(raw.substr(0, found->path_size));
  } else if (Result<void> good = append_escaped(raw, 0, found->path_size, Part::path, options, target.text); !good) {
    return std::unexpected(std::move(good.error()));
  }
  if (found->path_escapes || found->path_segments) {
    Result<std::string> path = resolve_segments(target.text, options.merge_slashes);
    if (!path) return std::unexpected(std::move(path.error()));
    target.text.assign(*path);
  }
  target.path_size = target.text.size();

  if (found->path_size + 1 >= raw.size()) return target;  // no query, or an empty one
  if (!found->query_escapes) {
    target.text.append(raw.substr(found->path_size));
  } else if (Result<void> good = append_escaped(raw, found->path_size, raw.size(), Part::query, options, target.text);
             !good) {
    return std::unexpected(std::move(good.error()));
  }
  return target;
}

Result<AbsoluteForm> split_absolute_form(std::string_view raw) {
  const std::size_t colon = raw.find("://");
  if (colon == std::string_view::npos) return refuse("the request target is neither a path nor a URL");
  AbsoluteForm form;
  form.scheme = raw.substr(0, colon);
  if (!name_equals(form.scheme, "http") && !name_equals(form.scheme, "https")) {
    return refuse("the URL in the request line is neither http nor https");
  }
  const std::string_view rest = raw.substr(colon + 3);
  const std::size_t end = rest.find_first_of("/?#");
  form.authority = rest.substr(0, end);
  if (form.authority.empty()) return refuse("the URL in the request line has no host");
  form.origin = end == std::string_view::npos ? std::string_view("/") : rest.substr(end);
  // A view into `raw` cannot have the slash that is missing, and no client is known to leave it out.
  if (form.origin[0] != '/') return refuse("the URL in the request line has no path");
  return form;
}

}  // namespace sallyport::request
