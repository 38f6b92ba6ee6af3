#include "proxy/http2/heads.h"

#include <algorithm>
#include <string>

#include "base/limits.h"
#include "proxy/http1/fields.h"
#include "proxy/http1/syntax.h"

namespace sallyport::http2 {
namespace {

using http1::Field;
using http1::ParseError;
using request::Header;
using request::name_equals;

constexpr std::string_view kGood;

bool wrong(ParseError& error, std::string_view text, Reason reason = Reason::malformed_http) {
  error = {reason, text};
  return false;
}

// What a request says besides its fields.
struct Pseudo {
  std::optional<std::string_view> method, scheme, authority, path, protocol, status;
};

struct Seen {
  Pseudo pseudo;
  std::optional<std::string_view> host;
  std::optional<std::uint64_t> content_length;
  bool expect_continue = false;
  bool accepts_trailers = false;
  bool regular = false;  // a field that is no pseudo-header field came
  std::size_t cookies = 0;
};

std::string_view note_pseudo(const Header& field, bool of_request, Seen& seen) {
  if (seen.regular) return "a pseudo-header field behind another field";
  Pseudo& pseudo = seen.pseudo;
  std::optional<std::string_view>* place = nullptr;
  if (!of_request) {
    if (field.name == ":status") place = &pseudo.status;
  } else if (field.name == ":method") {
    place = &pseudo.method;
  } else if (field.name == ":scheme") {
    place = &pseudo.scheme;
  } else if (field.name == ":authority") {
    place = &pseudo.authority;
  } else if (field.name == ":path") {
    place = &pseudo.path;
  } else if (field.name == ":protocol") {
    place = &pseudo.protocol;
  }
  if (place == nullptr) return "a pseudo-header field that is not known here";
  if (*place) return "a pseudo-header field that is repeated";
  *place = field.value;
  return kGood;
}

bool has_capitals(std::string_view name) {
  return std::ranges::any_of(name, [](char c) { return c >= 'A' && c <= 'Z'; });
}

std::string_view note_content_length(std::string_view value, Seen& seen) {
  if (seen.content_length) return "more than one content-length";
  constexpr std::uint64_t kMax = INT64_MAX;
  std::uint64_t length = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return "content-length is not a number";
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (length > (kMax - digit) / 10) return "content-length is too large";
    length = length * 10 + digit;
  }
  if (value.empty()) return "content-length is empty";
  seen.content_length = length;
  return kGood;
}

// Returns what is wrong with the field, or kGood.
std::string_view note_field(const Header& field, Seen& seen, request::HeaderList& headers) {
  if (!http1::is_token(field.name)) return "a field name is no token";
  if (has_capitals(field.name)) return "a field name has capitals";
  if (!http1::is_value(field.value)) return "a field value has a byte that is not allowed";
  if (http1::trim(field.value).size() != field.value.size()) return "a field value begins or ends with whitespace";
  seen.regular = true;
  switch (http1::classify(field.name)) {
    case Field::other:
      if (field.name == "cookie" && ++seen.cookies > 1) return kGood;  // joined to the first afterwards
      headers.add(field.name, field.value);
      return kGood;
    case Field::host:
      if (seen.host) return "more than one host";
      seen.host = field.value;
      return kGood;
    case Field::content_length:
      return note_content_length(field.value, seen);
    case Field::te:
      if (!name_equals(field.value, "trailers")) return "te is not exactly 'trailers'";
      seen.accepts_trailers = true;
      return kGood;
    case Field::expect:
      if (seen.expect_continue || !name_equals(field.value, "100-continue")) {
        return "expect is not exactly '100-continue'";
      }
      seen.expect_continue = true;
      headers.add(field.name, field.value);
      return kGood;
    case Field::transfer_encoding:
    case Field::connection:
    case Field::upgrade:
      return "a field that belongs to one connection of HTTP/1";
    case Field::hop_by_hop:
      // Those of proxies are meant for nobody here; the others RFC 9113 section 8.2.2 forbids.
      if (field.name.starts_with("proxy-auth")) return kGood;
      return "a field that belongs to one connection of HTTP/1";
    case Field::disguised:
      return "a field that frames the message is spelled with another byte for its hyphen";
  }
  return kGood;
}

bool read_fields(const HeaderBlock& block, bool of_request, Seen& seen, request::HeaderList& headers,
                 ParseError& error) {
  headers.clear();
  if (block.spoilt()) return wrong(error, "a field has a name or a value that is not allowed");
  if (block.too_large()) return wrong(error, "the header list is too large", Reason::head_too_large);
  for (std::size_t i = 0; i < block.size(); ++i) {
    const Header field = block[i];
    const std::string_view text =
        field.name.starts_with(':') ? note_pseudo(field, of_request, seen) : note_field(field, seen, headers);
    if (!text.empty()) return wrong(error, text);
  }
  return true;
}

void join_cookies(const HeaderBlock& block, request::HeaderList& headers) {
  std::string joined;
  for (std::size_t i = 0; i < block.size(); ++i) {
    // An empty crumb would leave whitespace at the end, which is no part of a value.
    if (block[i].name != "cookie" || block[i].value.empty()) continue;
    if (!joined.empty()) joined += "; ";
    joined += block[i].value;
  }
  for (std::size_t i = 0; i < headers.size(); ++i) {
    if (headers[i].name != "cookie") continue;
    headers.replace_value(i, std::move(joined));
    return;  // only the first was added
  }
}

bool check_method(std::string_view method, ParseError& error) {
  if (!http1::is_token(method)) return wrong(error, ":method is no token");
  if (method.size() > limits::kMethodBytesMax) {
    return wrong(error, "the method is too long", Reason::unsupported_method);
  }
  if (std::ranges::any_of(method, [](char c) { return c >= 'a' && c <= 'z'; })) {
    return wrong(error, "the method has small letters, which servers read in two ways", Reason::unsupported_method);
  }
  return true;
}

// RFC 8441 sections 4 and 5. The frames of the WebSocket are not content, so nothing may say that there is some.
bool check_connect(const Seen& seen, ParseError& error) {
  const Pseudo& pseudo = seen.pseudo;
  const bool connect = pseudo.method == "CONNECT";
  if (!pseudo.protocol) {
    return !connect || wrong(error, "CONNECT is not supported here but for WebSocket", Reason::unsupported_method);
  }
  if (!connect) return wrong(error, ":protocol without CONNECT");
  if (*pseudo.protocol != "websocket") {
    return wrong(error, "CONNECT with another :protocol than websocket", Reason::unsupported_method);
  }
  if (seen.content_length || seen.expect_continue) return wrong(error, "a WebSocket's CONNECT announces content");
  return true;
}

bool check_path(std::string_view path, std::string_view method, ParseError& error) {
  if (path.size() > limits::kRequestTargetBytesMax) {
    return wrong(error, "the request target is too long", Reason::head_too_large);
  }
  if (path == "*" ? method != "OPTIONS" : !path.starts_with('/')) return wrong(error, ":path is no path");
  if (std::ranges::any_of(path, [](char c) { return c < 0x21 || c > 0x7e; })) {
    return wrong(error, ":path has a byte that is not allowed");
  }
  return true;
}

}  // namespace

bool parse_request(const HeaderBlock& block, request::Scheme scheme, RequestInfo& info, request::RequestHead& head,
                   ParseError& error) {
  info = {};
  head.method = head.target = head.authority = {};
  Seen seen;
  if (!read_fields(block, true, seen, head.headers, error)) return false;
  const Pseudo& pseudo = seen.pseudo;
  if (!pseudo.method) return wrong(error, "no :method");
  head.method = *pseudo.method;
  if (!check_method(*pseudo.method, error) || !check_connect(seen, error)) return false;
  if (!pseudo.scheme || !pseudo.path) return wrong(error, "no :scheme or no :path");
  if (*pseudo.scheme != (scheme == request::Scheme::https ? "https" : "http")) {
    return wrong(error, ":scheme is not that of the connection");
  }
  if (!check_path(*pseudo.path, *pseudo.method, error)) return false;
  head.target = *pseudo.path;
  // RFC 9113 section 8.3.1: who turns the request into one of HTTP/1 must not be able to choose between two hosts.
  if (pseudo.authority && seen.host && !name_equals(*pseudo.authority, *seen.host)) {
    return wrong(error, "host is not what :authority is");
  }
  head.authority = pseudo.authority.value_or(seen.host.value_or(std::string_view()));
  if (head.authority.empty()) return wrong(error, "no :authority");
  if (seen.cookies > 1) join_cookies(block, head.headers);
  info.content_length = seen.content_length;
  info.expect_continue = seen.expect_continue;
  info.accepts_trailers = seen.accepts_trailers;
  info.websocket = pseudo.protocol.has_value();
  if (info.websocket) {
    head.method = "GET";
    head.headers.erase("sec-websocket-key");  // belongs to the handshake of HTTP/1
  }
  return true;
}

bool parse_response(const HeaderBlock& block, ResponseInfo& info, request::ResponseHead& head, ParseError& error) {
  info = {};
  head.status = 0;
  head.reason = {};
  Seen seen;
  bool good = read_fields(block, false, seen, head.headers, error);
  const std::string_view status = seen.pseudo.status.value_or(std::string_view());
  if (good && (status.size() != 3 || !std::ranges::all_of(status, [](char c) { return c >= '0' && c <= '9'; }))) {
    good = wrong(error, "no :status of three digits");
  }
  if (good) {
    head.status = (status[0] - '0') * 100 + (status[1] - '0') * 10 + (status[2] - '0');
    // RFC 9113 section 8.6: HTTP/2 has no 101.
    if (head.status < 100 || head.status > 599 || head.status == 101) good = wrong(error, "a status that can't be");
  }
  if (!good) {
    error.reason = Reason::upstream_malformed;
    return false;
  }
  if (seen.cookies > 1) join_cookies(block, head.headers);
  info.content_length = seen.content_length;
  return true;
}

bool parse_trailers(const HeaderBlock& block, request::HeaderList& trailers, ParseError& error) {
  trailers.clear();
  if (block.spoilt()) return wrong(error, "a trailer is not a field");
  if (block.too_large()) return wrong(error, "the trailers are too large", Reason::head_too_large);
  for (std::size_t i = 0; i < block.size(); ++i) {
    const Header field = block[i];
    if (!http1::is_token(field.name) || has_capitals(field.name) || !http1::is_value(field.value)) {
      return wrong(error, "a trailer is not a field");
    }
    switch (http1::trailer_use(field.name)) {
      case http1::TrailerUse::keep:
        trailers.add(field.name, http1::trim(field.value));
        break;
      case http1::TrailerUse::drop:
        break;
      case http1::TrailerUse::refuse:
        return wrong(error, "a trailer frames or routes the message");
    }
  }
  return true;
}

}  // namespace sallyport::http2
