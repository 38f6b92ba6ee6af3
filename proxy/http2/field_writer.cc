#include "proxy/http2/field_writer.h"

#include <openssl/crypto.h>

#include <algorithm>

#include "proxy/http1/fields.h"
#include "proxy/http1/syntax.h"

namespace sallyport::http2 {
namespace {

using http1::Field;

// The fields besides those of the head take no more than this.
constexpr std::size_t kFixedBytesMax = 128;

bool may_be_written(const request::Header& field) {
  if (!http1::is_token(field.name) || !http1::is_value(field.value)) return false;
  switch (http1::classify(field.name)) {
    case Field::other:
    case Field::expect:
      return true;
    case Field::host:
    case Field::content_length:
    case Field::transfer_encoding:
    case Field::connection:
    case Field::upgrade:
    case Field::te:
    case Field::hop_by_hop:
    case Field::disguised:
      return false;
  }
  return false;
}

// Not to be put into a table that later messages are compressed with (RFC 7541 section 7.1.3).
bool is_secret(std::string_view name) {
  constexpr std::string_view kParts[] = {"cookie", "auth", "key", "token", "secret", "password", "signature"};
  return std::ranges::any_of(kParts, [name](std::string_view part) { return name.find(part) != name.npos; });
}

std::uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));  // nghttp2 only reads
}

}  // namespace

// Everything that is kept afterwards fits, so that no view moves.
void FieldWriter::begin(const request::HeaderList& headers, std::size_t more) {
  std::size_t size = more;
  for (const request::Header& field : headers) size += field.name.size() + field.value.size();
  text_.clear();
  text_.reserve(size);
  fields_.clear();
  fields_.reserve(headers.size() + 8);
}

std::string_view FieldWriter::keep(std::string_view text, bool lower) {
  const std::size_t begin = text_.size();
  for (const char c : text) text_ += lower && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  return std::string_view(text_).substr(begin);
}

void FieldWriter::put(std::string_view name, std::string_view value) {
  const std::uint8_t flags = is_secret(name) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
  fields_.push_back({bytes_of(name), bytes_of(value), name.size(), value.size(), flags});
}

bool FieldWriter::put_all(const request::HeaderList& headers, std::string_view but) {
  for (const request::Header& field : headers) {
    if (!but.empty() && request::name_equals(field.name, but)) continue;
    if (!may_be_written(field)) return false;
    const std::string_view name = keep(field.name, true);
    put(name, http1::trim(field.value));
  }
  return true;
}

bool FieldWriter::response(int status, const request::HeaderList& headers,
                           std::optional<std::uint64_t> content_length) {
  if (status < 100 || status > 599 || status == 101) return false;
  begin(headers, kFixedBytesMax);
  put(":status", keep(std::to_string(status), false));
  if (!put_all(headers)) return false;
  if (content_length) put("content-length", keep(std::to_string(*content_length), false));
  return true;
}

bool FieldWriter::request(const Target& target, const request::HeaderList& headers,
                          std::optional<std::uint64_t> content_length, bool te_trailers) {
  const auto is_visible = [](std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= 0x21 && c <= 0x7e; });
  };
  if (!http1::is_token(target.method) || !is_visible(target.authority) || !is_visible(target.path)) return false;
  const bool extended = !target.protocol.empty();
  begin(headers, kFixedBytesMax);
  put(":method", extended ? "CONNECT" : target.method);
  if (extended) put(":protocol", target.protocol);
  put(":scheme", "https");
  put(":authority", target.authority);
  put(":path", target.path);
  // A key proves nothing to a server of HTTP/2, which would not answer it (RFC 8441 section 5).
  if (!put_all(headers, extended ? "sec-websocket-key" : std::string_view())) return false;
  if (content_length) put("content-length", keep(std::to_string(*content_length), false));
  if (te_trailers) put("te", "trailers");
  return true;
}

void FieldWriter::wipe() {
  OPENSSL_cleanse(text_.data(), text_.size());
  text_.clear();
  fields_.clear();
}

bool FieldWriter::trailers(const request::HeaderList& headers) {
  begin(headers, 0);
  for (const request::Header& field : headers) {
    if (http1::trailer_use(field.name) != http1::TrailerUse::keep) return false;
  }
  return put_all(headers);
}

}  // namespace sallyport::http2
