#include "proxy/http1/fields.h"

#include <algorithm>
#include <array>
#include <span>

#include "policy-engine/request/head.h"

namespace sallyport::http1 {
namespace {

using request::name_equals;

Field classify_plain(std::string_view name) {
  switch (name.size()) {
    case 2:
      return name_equals(name, "te") ? Field::te : Field::other;
    case 4:
      return name_equals(name, "host") ? Field::host : Field::other;
    case 6:
      return name_equals(name, "expect") ? Field::expect : Field::other;
    case 7:
      return name_equals(name, "upgrade") ? Field::upgrade : Field::other;
    case 10:
      if (name_equals(name, "connection")) return Field::connection;
      return name_equals(name, "keep-alive") ? Field::hop_by_hop : Field::other;
    case 14:
      return name_equals(name, "content-length") ? Field::content_length : Field::other;
    case 16:
      return name_equals(name, "proxy-connection") ? Field::hop_by_hop : Field::other;
    case 17:
      return name_equals(name, "transfer-encoding") ? Field::transfer_encoding : Field::other;
    case 18:
      return name_equals(name, "proxy-authenticate") ? Field::hop_by_hop : Field::other;
    case 19:
      return name_equals(name, "proxy-authorization") ? Field::hop_by_hop : Field::other;
  }
  return Field::other;
}

bool is_alphanumeric(char c) {
  const char lower = static_cast<char>(c | 0x20);
  return (c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z');
}

// Both are as long as names that matter here; nothing else can pass for one.
bool is_disguised(std::string_view name) {
  if (name.size() != 14 && name.size() != 17) return false;
  std::array<char, 17> plain{};
  std::ranges::transform(name, plain.begin(), [](char c) { return is_alphanumeric(c) ? c : '-'; });
  return classify_plain({plain.data(), name.size()}) != Field::other;
}

bool any_equals(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::any_of(names, [name](std::string_view one) { return name_equals(one, name); });
}

bool begins_with(std::string_view name, std::string_view prefix) {
  return name.size() >= prefix.size() && name_equals(name.substr(0, prefix.size()), prefix);
}

}  // namespace

Field classify(std::string_view name) {
  const Field field = classify_plain(name);
  return field == Field::other && is_disguised(name) ? Field::disguised : field;
}

bool is_end_to_end(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "host",
      "transfer-encoding",
      "authorization",
      "www-authenticate",
      "cookie",
      "set-cookie",
      "date",
      "cache-control",
      "expires",
      "vary",
      "etag",
      "location",
      "expect",
      "range",
      "accept-encoding",
      "authority",
      "origin",
      "referer",
      "forwarded",
      "via",
      "age",
      "traceparent",
      "tracestate",
      "x-api-key",
      "x-goog-api-key",
      "api-key",
      "retry-after",
      "ce-sallyporttag",
  };
  static constexpr std::string_view kPrefixes[] = {"content-", "x-amz-", "x-forwarded-", "if-", "sec-", "sallyport-"};
  return any_equals(kNames, name) ||
         std::ranges::any_of(kPrefixes, [name](std::string_view prefix) { return begins_with(name, prefix); });
}

TrailerUse trailer_use(std::string_view name) {
  static constexpr std::string_view kDropped[] = {
      "trailer", "authorization", "www-authenticate", "cookie", "set-cookie",      "cache-control",   "max-forwards",
      "range",   "age",           "expires",          "date",   "location",        "retry-after",     "vary",
      "pragma",  "authority",     "forwarded",        "via",    "accept-encoding", "ce-sallyporttag", "ce_sallyporttag",
  };
  static constexpr std::string_view kDroppedPrefixes[] = {
      "content-",      "if-",           "proxy-",        "x-forwarded-",  "sallyport-", "sallyport_",
      "x-http-method", "x_http_method", "x-http_method", "x_http-method", "x-method",   "x_method",
      "x-original",    "x_original",    "x-rewrite",     "x_rewrite",
  };
  switch (classify(name)) {
    case Field::host:
    case Field::content_length:
    case Field::transfer_encoding:
    case Field::disguised:
      return TrailerUse::refuse;
    case Field::connection:
    case Field::upgrade:
    case Field::te:
    case Field::expect:
    case Field::hop_by_hop:
      return TrailerUse::drop;
    case Field::other:
      break;
  }
  const bool dropped =
      any_equals(kDropped, name) ||
      std::ranges::any_of(kDroppedPrefixes, [name](std::string_view prefix) { return begins_with(name, prefix); });
  return dropped ? TrailerUse::drop : TrailerUse::keep;
}

}  // namespace sallyport::http1
