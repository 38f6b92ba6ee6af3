#include "proxy/http1/serialize.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "proxy/http1/fields.h"
#include "proxy/http1/syntax.h"

namespace sallyport::http1 {
namespace {

using request::Header;
using request::HeaderList;

// The start line and the framing fields take no more than this besides what is passed in. Those of a WebSocket have
// some 28 bytes of value.
constexpr std::size_t kFixedBytesMax = 256;

// The first and the last `Size` bytes of a text that is no longer than both together.
template <std::size_t Size>
void put_ends(char* at, std::string_view text) {
  std::array<char, Size> first, last;
  std::memcpy(first.data(), text.data(), Size);
  std::memcpy(last.data(), text.data() + text.size() - Size, Size);
  std::memcpy(at, first.data(), Size);
  std::memcpy(at + text.size() - Size, last.data(), Size);
}

// Names and values are short: a call of memcpy would cost more than the copy.
char* put(char* at, std::string_view text) {
  const std::size_t size = text.size();
  if (size > 32) {
    std::memcpy(at, text.data(), size);
  } else if (size >= 16) {
    put_ends<16>(at, text);
  } else if (size >= 8) {
    put_ends<8>(at, text);
  } else if (size >= 4) {
    put_ends<4>(at, text);
  } else {
    for (std::size_t i = 0; i < size; ++i) at[i] = text[i];
  }
  return at + size;
}

char* put_number(char* at, std::uint64_t number) { return std::to_chars(at, at + 20, number).ptr; }

bool frames_message(std::string_view name) {
  switch (classify(name)) {
    case Field::host:
    case Field::content_length:
    case Field::transfer_encoding:
    case Field::connection:
    case Field::upgrade:
    case Field::te:
    case Field::disguised:
      return true;
    case Field::other:
    case Field::expect:
    case Field::hop_by_hop:
      return false;
  }
  return true;
}

// The bytes that the fields take, or nothing if one of them must not be written.
std::optional<std::size_t> size_of(const HeaderList& headers) {
  std::size_t size = 0;
  for (const Header& field : headers) {
    if (!is_token(field.name) || !is_value(field.value) || frames_message(field.name)) return std::nullopt;
    size += field.name.size() + field.value.size() + 4;
  }
  return size;
}

char* put_fields(char* at, const HeaderList& headers) {
  for (const Header& field : headers) {
    at = put(at, field.name);
    at = put(at, ": ");
    at = put(at, field.value);
    at = put(at, "\r\n");
  }
  return at;
}

// Nothing where there is no value.
char* put_field(char* at, std::string_view name, std::string_view value) {
  if (value.empty()) return at;
  at = put(at, name);
  at = put(at, ": ");
  at = put(at, value);
  return put(at, "\r\n");
}

char* put_connection(char* at, const Framing& framing) {
  const bool close = !framing.keep_alive || framing.body == BodyKind::until_close;
  std::string_view option;
  if (framing.upgrade_websocket) {
    at = put(at, "Upgrade: websocket\r\n");
    at = put_field(at, "Sec-WebSocket-Key", framing.websocket_key);
    at = put_field(at, "Sec-WebSocket-Accept", framing.websocket_accept);
    option = "Upgrade";
  } else if (close) {
    option = "close";
  } else if (framing.keep_alive_spoken) {
    option = "keep-alive";
  }
  if (framing.te_trailers) at = put(at, "TE: trailers\r\n");
  if (option.empty() && !framing.te_trailers) return at;
  at = put(at, "Connection: ");
  at = put(at, option);
  if (framing.te_trailers) at = put(at, option.empty() ? "TE" : ", TE");
  return put(at, "\r\n");
}

char* put_framing(char* at, const Framing& framing) {
  switch (framing.body) {
    case BodyKind::length:
      at = put(at, "Content-Length: ");
      at = put_number(at, framing.content_length);
      at = put(at, "\r\n");
      break;
    case BodyKind::chunked:
      at = put(at, "Transfer-Encoding: chunked\r\n");
      break;
    case BodyKind::none:
    case BodyKind::until_close:
      break;
  }
  return put_connection(at, framing);
}

// Appends at most `size` bytes: those that `write(begin)` writes; it returns their end.
template <class Write>
void append(std::string& out, std::size_t size, Write write) {
  const std::size_t before = out.size();
  out.resize_and_overwrite(
      before + size, [&](char* bytes, std::size_t) { return static_cast<std::size_t>(write(bytes + before) - bytes); });
}

bool is_visible(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= 0x21 && c <= 0x7e; });
}

// What goes into the place that is kept for it.
bool fits(const Framing& framing) {
  constexpr std::size_t kMax = 32;
  return framing.websocket_key.size() <= kMax && framing.websocket_accept.size() <= kMax;
}

}  // namespace

bool serialize_request(std::string& out, std::string_view method, std::string_view target, std::string_view authority,
                       const HeaderList& headers, const Framing& framing) {
  const std::optional<std::size_t> size = size_of(headers);
  if (!size || !is_token(method) || !is_visible(target) || !is_visible(authority)) return false;
  if (!fits(framing)) return false;
  if (framing.body == BodyKind::until_close) return false;
  append(out, *size + method.size() + target.size() + authority.size() + kFixedBytesMax, [&](char* at) {
    at = put(at, method);
    at = put(at, " ");
    at = put(at, target);
    at = put(at, " HTTP/1.1\r\nHost: ");
    at = put(at, authority);
    at = put(at, "\r\n");
    at = put_fields(at, headers);
    return put(put_framing(at, framing), "\r\n");
  });
  return true;
}

bool serialize_response(std::string& out, int status, std::string_view reason, const HeaderList& headers,
                        const Framing& framing) {
  const std::optional<std::size_t> size = size_of(headers);
  if (!size || status < 100 || status > 599 || !is_value(reason) || !fits(framing)) return false;
  append(out, *size + reason.size() + kFixedBytesMax, [&](char* at) {
    at = put(at, "HTTP/1.1 ");
    at = put_number(at, static_cast<std::uint64_t>(status));
    at = put(at, " ");
    at = put(at, reason);
    at = put(at, "\r\n");
    at = put_fields(at, headers);
    return put(put_framing(at, framing), "\r\n");
  });
  return true;
}

bool serialize_trailers(std::string& out, const HeaderList& trailers) {
  const std::optional<std::size_t> size = size_of(trailers);
  if (!size) return false;
  for (const Header& field : trailers) {
    if (trailer_use(field.name) != TrailerUse::keep) return false;
  }
  append(out, *size + 5, [&](char* at) {
    at = put(at, "0\r\n");
    at = put_fields(at, trailers);
    return put(at, "\r\n");
  });
  return true;
}

}  // namespace sallyport::http1
