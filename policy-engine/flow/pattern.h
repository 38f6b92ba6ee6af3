#pragma once
// What a node of a flow graph says of the requests that it stands for: "PUT s3.amazonaws.com/photos/{uuid}/*".
//
//   pattern    = METHOD " " [ "http://" ] host [ ":" port ] path [ "?" query ]
//   host       = labels; a label may have one placeholder in it: "{hex}", "hooks-{word}"
//   path       = segments, in which placeholders may stand; "*" as the very last byte: whatever follows, also with "/",
//                and also nothing
//   query      = "key=value" joined by "&", values with placeholders; "?*" alone: any query
//   placeholder = {int} decimal digits · {uuid} RFC 9562, either case · {hex} 4 or more hexadecimal digits ·
//                {date} 2024-01-31, 20240131, or either with a time behind "T" · {word} one or more of A-Z a-z 0-9 . _
//                ~ - · {any} one or more bytes without "/" (in a query: without "&"; an escape is never split)
//
// In a host no placeholder stands for a ".", nor for the port. Between two placeholders there is literal text. Without
// a query in the pattern the request must have none. A literal "{", "}" or "*" is written %7B, %7D or %2A, which stands
// for both forms of the byte. The rest is as canonical targets and hosts are (request/target.h, request/host.h): what
// no request could have is refused.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy-engine/flow/operation.h"

namespace sallyport::flow {

enum class Class : std::uint8_t { integer, uuid, hex, date, word, any };

// A piece of a pattern: literal text, or one placeholder.
struct Piece {
  std::string literal;  // empty for a placeholder
  Class placeholder = Class::any;
};

struct Pattern {
  std::string method;
  bool plain_http = false;
  std::vector<Piece> host;  // with the port
  std::vector<Piece> path;  // with "/"
  bool open_path = false;   // ends with "*"
  std::vector<Piece> query;
  bool any_query = false;
  std::string action;  // from the node: "" where it says none

  bool matches(const Operation& operation) const;
  // As it is parsed, without the action.
  std::string to_string() const;
};

// ErrorKind::invalid, with what is wrong, at which byte, and what to write instead.
Result<Pattern> parse_pattern(std::string_view text, std::string_view action);

// The most specific first: a literal before a placeholder, a narrower class before a wider one ({date}, {uuid}, {int},
// {hex}, {word}, {any}), "*" last, a longer literal beginning before a shorter one; from the left, host, path, query.
// Total on patterns that differ. A request that several patterns of a graph match is taken for the first of them alone
// (exact nodes first, then the longest prefix).
bool more_specific(const Pattern& a, const Pattern& b);

// The pattern that matches exactly this operation, but for its action.
std::string pattern_text(const Operation& operation);

}  // namespace sallyport::flow
