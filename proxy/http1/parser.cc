#include "proxy/http1/parser.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

#include "base/limits.h"
#include "proxy/http1/fields.h"

namespace sallyport::http1 {
namespace {

using request::Header;
using request::HeaderList;
using request::name_equals;

struct Input {
  const char* at;
  const char* end;
};

// What the fields that the codec owns have said so far.
struct Seen {
  std::optional<std::string_view> host;
  std::optional<std::uint64_t> content_length;
  bool chunked = false;
  bool expect_continue = false;
  bool accepts_trailers = false;
  bool upgrade = false;
  bool upgrade_is_websocket = false;
  // Connection options.
  bool close = false;
  bool keep_alive = false;
  bool upgrade_option = false;
  std::size_t named_fields = 0;  // options that name fields; their Connection fields wait in the header list
};

constexpr std::string_view kGood;

enum class Wanted : std::uint8_t { request, connect };

// Digits only, one value: "5, 5", "+5" and "0x5" are refused.
std::string_view note_content_length(std::string_view value, Seen& seen) {
  if (seen.content_length) return "more than one Content-Length";
  std::uint64_t length = 0;
  constexpr std::uint64_t kMax = INT64_MAX;
  for (const char c : value) {
    if (c < '0' || c > '9') return "Content-Length is not a number";
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (length > (kMax - digit) / 10) return "Content-Length is too large";
    length = length * 10 + digit;
  }
  if (value.empty()) return "Content-Length is empty";
  seen.content_length = length;
  return kGood;
}

std::string_view note_transfer_encoding(std::string_view value, Seen& seen) {
  if (seen.chunked) return "more than one Transfer-Encoding";
  if (!name_equals(value, "chunked")) return "Transfer-Encoding is not exactly 'chunked'";
  seen.chunked = true;
  return kGood;
}

std::string_view note_connection(const Header& field, Seen& seen, HeaderList& headers) {
  std::string_view wrong = kGood;
  const std::size_t named_before = seen.named_fields;
  for_each_element(field.value, [&](std::string_view option) {
    if (name_equals(option, "close")) {
      seen.close = true;
    } else if (name_equals(option, "keep-alive")) {
      seen.keep_alive = true;
    } else if (name_equals(option, "upgrade")) {
      seen.upgrade_option = true;
    } else if (!is_token(option)) {
      wrong = "a Connection option is not a token";
    } else if (is_end_to_end(option)) {
      wrong = "Connection names a field that is not the connection's";
    } else if (classify(option) == Field::other && ++seen.named_fields > limits::kConnectionOptionsMax) {
      wrong = "Connection names too many fields";
    }
    return wrong.empty();
  });
  if (seen.named_fields != named_before) headers.add(field.name, field.value);
  return wrong;
}

std::string_view note_expect(const Header& field, Seen& seen, HeaderList& headers) {
  // Servers disagree about every other spelling, and a body that one side waits for desynchronises the connection.
  if (seen.expect_continue || !name_equals(field.value, "100-continue")) return "Expect is not exactly '100-continue'";
  seen.expect_continue = true;
  headers.add(field.name, field.value);
  return kGood;
}

// Returns what is wrong with the field, or kGood.
std::string_view note_field(const Header& field, Seen& seen, HeaderList& headers) {
  switch (classify(field.name)) {
    case Field::other:
      headers.add(field.name, field.value);
      return kGood;
    case Field::host:
      if (seen.host) return "more than one Host";
      if (field.value.empty()) return "Host is empty";
      seen.host = field.value;
      return kGood;
    case Field::content_length:
      return note_content_length(field.value, seen);
    case Field::transfer_encoding:
      return note_transfer_encoding(field.value, seen);
    case Field::connection:
      return note_connection(field, seen, headers);
    case Field::upgrade:
      seen.upgrade_is_websocket = !seen.upgrade && name_equals(field.value, "websocket");
      seen.upgrade = true;
      return kGood;
    case Field::te:
      for_each_element(field.value, [&](std::string_view coding) {
        seen.accepts_trailers = seen.accepts_trailers || name_equals(coding, "trailers");
        return true;
      });
      return kGood;
    case Field::expect:
      return note_expect(field, seen, headers);
    case Field::hop_by_hop:
      return kGood;
    case Field::disguised:
      return "a field that frames the message is spelled with another byte for its hyphen";
  }
  return kGood;
}

// Removes the fields that Connection names, and the Connection fields that waited for it.
void drop_named_fields(HeaderList& headers) {
  for (std::size_t i = 0; i < headers.size();) {
    if (classify(headers[i].name) != Field::connection) {
      ++i;
      continue;
    }
    const std::string_view options = headers[i].value;
    headers.erase_at(i);
    for_each_element(options, [&](std::string_view option) {
      headers.erase(option);
      return true;
    });
    i = 0;
  }
}

Parse wrong(ParseError& error, std::string_view text, Reason reason = Reason::malformed_http) {
  error = {reason, text};
  return Parse::error;
}

Parse read_line_end(Input& in, ParseError& error) {
  const Parse read = read_literal(in.at, in.end, "\r\n");
  return read == Parse::error ? wrong(error, "a line does not end with CRLF where it should") : read;
}

// The header section with its empty line.
Parse read_fields(Input& in, Seen& seen, HeaderList& headers, ParseError& error) {
  for (std::size_t count = 0;; ++count) {
    if (in.at == in.end) return Parse::incomplete;
    if (*in.at == '\r') return read_line_end(in, error);
    if (count == limits::kHeaderCountMax) return wrong(error, "too many fields", Reason::head_too_large);
    Header field;
    std::string_view text;
    const Parse read = read_field_line(in.at, in.end, field, text);
    if (read == Parse::incomplete) return read;
    if (read == Parse::complete) text = note_field(field, seen, headers);
    if (!text.empty()) return wrong(error, text);
  }
}

Parse read_method(Input& in, Wanted wanted, std::string_view& method, ParseError& error) {
  const char* p = in.at;
  while (p != in.end && is_token_byte(*p)) ++p;
  if (p == in.end) return Parse::incomplete;
  if (p == in.at || *p != ' ') return wrong(error, "the request line does not begin with a method and one space");
  method = {in.at, p};
  in.at = p + 1;
  if (method.size() > limits::kMethodBytesMax) {
    return wrong(error, "the method is too long", Reason::unsupported_method);
  }
  // Methods are compared by case (RFC 9110 section 9.1), but some servers put them into upper case first: "get" would
  // be decided and framed as one method and carried out as another. No registered method has a small letter.
  if (std::ranges::any_of(method, [](char c) { return c >= 'a' && c <= 'z'; })) {
    return wrong(error, "the method has small letters, which servers read in two ways", Reason::unsupported_method);
  }
  if ((method == "CONNECT") == (wanted == Wanted::connect)) return Parse::complete;
  return wrong(error, wanted == Wanted::connect ? "the method is not CONNECT" : "CONNECT is not supported here",
               Reason::unsupported_method);
}

Parse read_target(Input& in, std::string_view& target, ParseError& error) {
  const auto size_max = std::min<std::ptrdiff_t>(in.end - in.at, limits::kRequestTargetBytesMax + 1);
  const char* const stop = in.at + size_max;
  const char* p = in.at;
  while (p != stop && *p >= 0x21 && *p <= 0x7e) ++p;
  if (p - in.at > static_cast<std::ptrdiff_t>(limits::kRequestTargetBytesMax)) {
    return wrong(error, "the request target is too long", Reason::head_too_large);
  }
  if (p == in.end) return Parse::incomplete;
  if (*p != ' ') return wrong(error, "the request target has a byte that is not allowed, or no version follows it");
  target = {in.at, p};
  in.at = p + 1;
  return Parse::complete;
}

bool is_target_of(std::string_view target, std::string_view method) {
  if (target.starts_with('/')) return true;
  if (target == "*") return method == "OPTIONS";
  const std::size_t scheme = target.find("://");
  return scheme != std::string_view::npos &&
         (name_equals(target.substr(0, scheme), "http") || name_equals(target.substr(0, scheme), "https"));
}

Parse read_version(Input& in, int& minor, ParseError& error) {
  const Parse read = read_literal(in.at, in.end, "HTTP/1.");
  if (read == Parse::error) return wrong(error, "the version is not HTTP/1.1 or HTTP/1.0");
  if (read == Parse::incomplete || in.at == in.end) return Parse::incomplete;
  if (*in.at != '0' && *in.at != '1') return wrong(error, "the version is not HTTP/1.1 or HTTP/1.0");
  minor = *in.at++ - '0';
  return Parse::complete;
}

Parse read_request_line(Input& in, Wanted wanted, RequestInfo& info, request::RequestHead& head, ParseError& error) {
  // RFC 9112 section 2.2: one empty line may follow the last message.
  if (in.at != in.end && *in.at == '\r') {
    if (const Parse read = read_line_end(in, error); read != Parse::complete) return read;
  }
  if (const Parse read = read_method(in, wanted, head.method, error); read != Parse::complete) return read;
  if (const Parse read = read_target(in, head.target, error); read != Parse::complete) return read;
  if (wanted == Wanted::request && !is_target_of(head.target, head.method))
    return wrong(error, "the request target is neither a path nor a URL");
  if (const Parse read = read_version(in, info.version_minor, error); read != Parse::complete) return read;
  return read_line_end(in, error);
}

bool keeps_alive(const Seen& seen, int version_minor) { return !seen.close && (version_minor == 1 || seen.keep_alive); }

std::string_view check_framing(const Seen& seen, int version_minor) {
  if (!seen.chunked) return kGood;
  if (seen.content_length) return "Content-Length and Transfer-Encoding in one message";
  if (version_minor == 0) return "Transfer-Encoding in a message of HTTP/1.0";
  return kGood;
}

Parse finish_request(const Seen& seen, RequestInfo& info, request::RequestHead& head, ParseError& error) {
  if (const std::string_view text = check_framing(seen, info.version_minor); !text.empty()) return wrong(error, text);
  if (!seen.host && info.version_minor == 1) return wrong(error, "no Host");
  head.authority = seen.host.value_or(std::string_view());
  if (seen.chunked) {
    info.body = BodyKind::chunked;
  } else if (seen.content_length) {
    info.body = BodyKind::length;
    info.content_length = *seen.content_length;
  }
  if (seen.named_fields > 0) drop_named_fields(head.headers);
  info.keep_alive = keeps_alive(seen, info.version_minor);
  info.accepts_trailers = seen.accepts_trailers;
  info.expect_continue = seen.expect_continue && info.version_minor == 1;
  // A client of HTTP/1.0 does not know the 100 that the field would bring (RFC 9110 section 10.1.1).
  if (seen.expect_continue && info.version_minor == 0) head.headers.erase("expect");
  info.upgrade_websocket = seen.upgrade_is_websocket && seen.upgrade_option && head.method == "GET" &&
                           info.version_minor == 1 && !seen.chunked && info.content_length == 0;
  info.other_upgrade = seen.upgrade && !info.upgrade_websocket;
  return Parse::complete;
}

Parse parse_whole_request(Input in, Wanted wanted, RequestInfo& info, request::RequestHead& head, ParseError& error) {
  const char* const begin = in.at;
  info = {};
  Seen seen;
  if (const Parse read = read_request_line(in, wanted, info, head, error); read != Parse::complete) return read;
  if (const Parse read = read_fields(in, seen, head.headers, error); read != Parse::complete) return read;
  info.head_size = static_cast<std::size_t>(in.at - begin);
  // Content of a CONNECT means nothing (RFC 9110 section 9.3.6), and would be taken for the tunnel's.
  if (wanted == Wanted::connect && (seen.chunked || seen.content_length.value_or(0) > 0)) {
    return wrong(error, "a CONNECT with content");
  }
  return finish_request(seen, info, head, error);
}

Parse read_status(Input& in, request::ResponseHead& head, ParseError& error) {
  for (int digits = 0; digits < 3; ++digits, ++in.at) {
    if (in.at == in.end) return Parse::incomplete;
    if (*in.at < '0' || *in.at > '9') return wrong(error, "the status is not three digits");
    head.status = head.status * 10 + (*in.at - '0');
  }
  if (head.status < 100 || head.status > 599) return wrong(error, "the status is not from 100 to 599");
  return Parse::complete;
}

Parse read_status_line(Input& in, ResponseInfo& info, request::ResponseHead& head, ParseError& error) {
  if (const Parse read = read_version(in, info.version_minor, error); read != Parse::complete) return read;
  if (in.at == in.end) return Parse::incomplete;
  if (*in.at++ != ' ') return wrong(error, "no space follows the version");
  if (const Parse read = read_status(in, head, error); read != Parse::complete) return read;
  if (in.at == in.end) return Parse::incomplete;
  // Servers without a reason often leave out its space, too; nothing else can be meant.
  if (*in.at == '\r') return read_line_end(in, error);
  if (*in.at++ != ' ') return wrong(error, "no space follows the status");
  const char* const reason_end = find_value_end(in.at, in.end);
  if (reason_end == in.end) return Parse::incomplete;
  head.reason = {in.at, reason_end};
  in.at = reason_end;
  return read_line_end(in, error);
}

Parse finish_response(const Seen& seen, bool request_was_head, ResponseInfo& info, request::ResponseHead& head,
                      ParseError& error) {
  if (const std::string_view text = check_framing(seen, info.version_minor); !text.empty()) return wrong(error, text);
  info.has_content_length = seen.content_length.has_value();
  info.content_length = seen.content_length.value_or(0);
  info.keep_alive = keeps_alive(seen, info.version_minor);
  info.informational = head.status < 200 && head.status != 101;
  info.upgrade_websocket = head.status == 101 && seen.upgrade_is_websocket && seen.upgrade_option;
  const bool never_content = head.status < 200 || head.status == 204;
  if (never_content && (seen.chunked || info.content_length > 0)) info.keep_alive = false;
  if (never_content || head.status == 304 || request_was_head) {
    info.body = BodyKind::none;
  } else if (seen.chunked) {
    info.body = BodyKind::chunked;
  } else if (seen.content_length) {
    info.body = BodyKind::length;
  } else {
    info.body = BodyKind::until_close;
    info.keep_alive = false;
  }
  if (seen.named_fields > 0) drop_named_fields(head.headers);
  return Parse::complete;
}

Parse parse_whole_response(Input in, bool request_was_head, ResponseInfo& info, request::ResponseHead& head,
                           ParseError& error) {
  const char* const begin = in.at;
  info = {};
  Seen seen;
  if (const Parse read = read_status_line(in, info, head, error); read != Parse::complete) return read;
  if (const Parse read = read_fields(in, seen, head.headers, error); read != Parse::complete) return read;
  info.head_size = static_cast<std::size_t>(in.at - begin);
  return finish_response(seen, request_was_head, info, head, error);
}

// Whether parsing now can end in anything new: the head may be complete, a line ends wrongly, or the input has reached
// a new power of two since the last attempt. So all attempts together look at each byte a few times at most.
bool is_worth_parsing(std::string_view input, std::size_t& scanned) {
  const std::size_t before = std::exchange(scanned, input.size());
  if (before >= input.size() || std::bit_width(before) != std::bit_width(input.size())) return true;
  for (std::size_t lf = input.find('\n', before); lf != std::string_view::npos; lf = input.find('\n', lf + 1)) {
    const std::string_view to_here = input.substr(0, lf + 1);
    if (!to_here.ends_with("\r\n") || to_here.ends_with("\r\n\r\n")) return true;
  }
  return false;
}

// Runs `parse_whole` on the part of the input that may be a head.
template <class Head, class ParseWhole>
Parse parse_head(std::string_view input, std::size_t& scanned, Head& head, ParseError& error, ParseWhole parse_whole) {
  const std::string_view window = input.substr(0, limits::kHeadBytesMax);
  Parse result = Parse::incomplete;
  if (is_worth_parsing(window, scanned)) {
    head.headers.clear();
    result = parse_whole(Input{window.data(), window.data() + window.size()});
  }
  if (result == Parse::incomplete && window.size() == limits::kHeadBytesMax) {
    result = wrong(error, "the head is too long", Reason::head_too_large);
  }
  if (result != Parse::incomplete) scanned = 0;
  return result;
}

}  // namespace

Parse parse_request(std::string_view input, std::size_t& scanned, RequestInfo& info, request::RequestHead& head,
                    ParseError& error) {
  return parse_head(input, scanned, head, error,
                    [&](Input in) { return parse_whole_request(in, Wanted::request, info, head, error); });
}

Parse parse_connect(std::string_view input, std::size_t& scanned, RequestInfo& info, request::RequestHead& head,
                    ParseError& error) {
  return parse_head(input, scanned, head, error,
                    [&](Input in) { return parse_whole_request(in, Wanted::connect, info, head, error); });
}

Parse parse_response(std::string_view input, std::size_t& scanned, bool request_was_head, ResponseInfo& info,
                     request::ResponseHead& head, ParseError& error) {
  const Parse result = parse_head(input, scanned, head, error, [&](Input in) {
    head.status = 0;
    head.reason = {};
    return parse_whole_response(in, request_was_head, info, head, error);
  });
  if (result == Parse::error) error.reason = Reason::upstream_malformed;
  return result;
}

}  // namespace sallyport::http1
