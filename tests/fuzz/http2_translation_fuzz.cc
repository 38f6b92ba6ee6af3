// Heads and trailers between HTTP/2 and HTTP/1, in both directions and in all the ways that the guard sends them: what
// was accepted in one means the same in the other, for a strict reader, and is one message. The first byte of an input
// says which way; header blocks of HTTP/2 are read from HPACK, without the checks that nghttp2 makes.

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "policy-engine/request/host.h"
#include "proxy/http1/chunked.h"
#include "proxy/http1/parser.h"
#include "proxy/http1/serialize.h"
#include "proxy/http2/field_writer.h"
#include "proxy/http2/heads.h"
#include "tests/fuzz/require.h"

namespace sallyport::http2 {
namespace {

using fuzz::require;
using Fields = std::vector<std::pair<std::string, std::string>>;

// Nothing when it is no HPACK.
std::optional<Fields> inflate(std::string_view bytes) {
  nghttp2_hd_inflater* made = nullptr;
  require(nghttp2_hd_inflate_new(&made) == 0, "there is memory");
  const std::unique_ptr<nghttp2_hd_inflater, void (*)(nghttp2_hd_inflater*)> inflater(made, nghttp2_hd_inflate_del);
  Fields fields;
  const auto* at = reinterpret_cast<const std::uint8_t*>(bytes.data());
  std::size_t left = bytes.size(), total = 0;
  while (true) {
    nghttp2_nv field;
    int flags = 0;
    const ssize_t used = nghttp2_hd_inflate_hd2(made, &field, &flags, at, left, 1);
    if (used < 0) return std::nullopt;
    at += used;
    left -= static_cast<std::size_t>(used);
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
      fields.emplace_back(std::string(reinterpret_cast<const char*>(field.name), field.namelen),
                          std::string(reinterpret_cast<const char*>(field.value), field.valuelen));
      total += field.namelen + field.valuelen;
      if (total > limits::kH2HeaderBytesSeenMax) return std::nullopt;
    }
    if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) return fields;
    if (used == 0 && (flags & NGHTTP2_HD_INFLATE_EMIT) == 0) return std::nullopt;
  }
}

HeaderBlock block_of(const Fields& fields, std::size_t bytes_max) {
  HeaderBlock block(bytes_max);
  for (const auto& [name, value] : fields) block.add(name, value);
  return block;
}

// What the writer has made, through HPACK as to a peer, which must not have a reason to refuse any of it.
Fields sent(FieldWriter& writer) {
  nghttp2_hd_deflater* made = nullptr;
  require(nghttp2_hd_deflate_new(&made, 4'096) == 0, "there is memory");
  const std::unique_ptr<nghttp2_hd_deflater, void (*)(nghttp2_hd_deflater*)> deflater(made, nghttp2_hd_deflate_del);
  const auto fields = writer.fields();
  std::string bytes(nghttp2_hd_deflate_bound(made, fields.data(), fields.size()), '\0');
  const ssize_t size = nghttp2_hd_deflate_hd(made, reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size(),
                                             fields.data(), fields.size());
  require(size >= 0, "what is written can be compressed");
  bytes.resize(static_cast<std::size_t>(size));
  std::optional<Fields> read = inflate(bytes);
  if (!read) require(bytes.size() > limits::kHeadBytesMax, "what was compressed can be read");
  if (!read) return {};
  for (const auto& [name, value] : *read) {
    const bool pseudo = name.starts_with(':');
    const auto* text = reinterpret_cast<const std::uint8_t*>(name.data()) + (pseudo ? 1 : 0);
    require(nghttp2_check_header_name(text, name.size() - (pseudo ? 1 : 0)) != 0, "a name is one for HTTP/2");
    require(nghttp2_check_header_value_rfc9113(reinterpret_cast<const std::uint8_t*>(value.data()), value.size()) != 0,
            "a value is one for HTTP/2");
  }
  return *read;
}

std::string lower(std::string_view text) {
  std::string made(text);
  std::ranges::transform(made, made.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return made;
}

// One line a field, with the crumbs of cookies that are not empty joined where the first is: both versions mean the
// same by them.
std::string flat(const request::HeaderList& headers, bool join_cookies) {
  std::string cookies, text;
  for (const request::Header& field : headers) {
    if (lower(field.name) == "cookie" && !field.value.empty())
      cookies += (cookies.empty() ? "" : "; ") + std::string(field.value);
  }
  bool joined = false;
  for (const request::Header& field : headers) {
    const bool cookie = join_cookies && lower(field.name) == "cookie";
    if (cookie && std::exchange(joined, true)) continue;
    text += lower(field.name) + ":" + (cookie ? cookies : std::string(field.value)) + "\n";
  }
  return text;
}

bool is_visible(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= 0x21 && c <= 0x7e; });
}

// A request as either version says it.
struct Request {
  std::string method, target, authority, fields;
  std::optional<std::uint64_t> length;
  bool expect = false, trailers = false;
  bool operator==(const Request&) const = default;
};

Request request_of(const request::RequestHead& head, const RequestInfo& info, bool join_cookies = true) {
  return {
      std::string(head.method), std::string(head.target), std::string(head.authority), flat(head.headers, join_cookies),
      info.content_length,      info.expect_continue,     info.accepts_trailers};
}

void check_request_in_http1(const request::RequestHead& head, const RequestInfo& info, bool streamed) {
  http1::Framing framing;
  framing.te_trailers = info.accepts_trailers;
  if (info.content_length) {
    framing.body = http1::BodyKind::length;
    framing.content_length = *info.content_length;
  } else if (streamed) {
    framing.body = http1::BodyKind::chunked;
  }
  std::string bytes;
  if (!http1::serialize_request(bytes, head.method, head.target, head.authority, head.headers, framing)) {
    require(!is_visible(head.authority), "what was accepted can be written");
    return;
  }
  const std::string next = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::size_t written = bytes.size();
  bytes += next;
  std::size_t scanned = 0;
  http1::RequestInfo again;
  request::RequestHead read;
  http1::ParseError error;
  const http1::Parse result = http1::parse_request(bytes, scanned, again, read, error);
  if (result == http1::Parse::error && error.reason == Reason::head_too_large) return;
  require(result == http1::Parse::complete, "what was written is a request of HTTP/1");
  require(again.head_size == written, "it is one message, and ends where it ends");
  require(again.body == framing.body && again.content_length == framing.content_length, "its body is framed as meant");
  require(again.keep_alive && !again.upgrade_websocket && !again.other_upgrade, "it says nothing of the connection");
  RequestInfo same;
  same.content_length = info.content_length;
  same.expect_continue = again.expect_continue;
  same.accepts_trailers = again.accepts_trailers;
  require(request_of(read, same) == request_of(head, info), "it means the same in HTTP/1");
}

// `over`: how much longer it may have become.
void check_request_in_http2(const request::RequestHead& head, const RequestInfo& info) {
  FieldWriter writer;
  const FieldWriter::Target target{.method = head.method,
                                   .authority = head.authority,
                                   .path = head.target,
                                   .protocol = info.websocket ? std::string_view("websocket") : std::string_view()};
  if (!writer.request(target, head.headers, info.content_length, info.accepts_trailers)) {
    require(!is_visible(head.authority), "what was accepted can be written");
    return;
  }
  const HeaderBlock block = block_of(sent(writer), limits::kHeadBytesMax);
  if (block.too_large() || block.size() == 0) return;
  RequestInfo again;
  request::RequestHead read;
  http1::ParseError error;
  const bool good = parse_request(block, request::Scheme::https, again, read, error);
  require(good, "what was written is a request of HTTP/2");
  require(request_of(read, again) == request_of(head, info), "it means the same in HTTP/2");
}

void check_http2_request(std::string_view input, unsigned way) {
  const std::optional<Fields> fields = inflate(input);
  if (!fields) return;
  const HeaderBlock block = block_of(*fields, limits::kHeadBytesMax);
  const auto scheme = (way & 1) != 0 ? request::Scheme::https : request::Scheme::http;
  RequestInfo info;
  request::RequestHead head;
  http1::ParseError error;
  if (!parse_request(block, scheme, info, head, error)) {
    require(!error.text.empty() && error.reason != Reason::none, "who refuses says why");
    return;
  }
  std::size_t authorities = 0;
  for (const auto& [name, value] : *fields) {
    if (name != ":authority" && name != "host") continue;
    ++authorities;
    require(request::name_equals(value, head.authority), "there is no second host to choose");
  }
  require(authorities > 0, "there is a host");
  check_request_in_http1(head, info, (way & 2) != 0);
  check_request_in_http2(head, info);
}

void check_http1_request(std::string_view input) {
  std::size_t scanned = 0;
  http1::RequestInfo info;
  request::RequestHead head;
  http1::ParseError error;
  if (http1::parse_request(input, scanned, info, head, error) != http1::Parse::complete) return;
  // The chain sends a path, and a host that is one.
  if (!head.target.starts_with('/') && head.target != "*") return;
  if (!request::parse_authority(head.authority)) return;
  RequestInfo same{std::nullopt, info.expect_continue, info.accepts_trailers};
  if (info.body == http1::BodyKind::length) same.content_length = info.content_length;
  // Expect is a field like others where HTTP/1.0 has no meaning for it.
  same.expect_continue = head.headers.find("expect") != nullptr;
  check_request_in_http2(head, same);
}

struct Response {
  int status;
  std::string fields;
  std::optional<std::uint64_t> length;
  bool operator==(const Response&) const = default;
};

void check_response_in_http2(const request::ResponseHead& head, std::optional<std::uint64_t> length) {
  FieldWriter writer;
  if (!writer.response(head.status, head.headers, length)) {
    // Expected of a request only, and passed on as a field; 101 is HTTP/1's.
    require(head.status == 101, "what was accepted can be written");
    return;
  }
  const HeaderBlock block = block_of(sent(writer), limits::kHeadBytesMax);
  if (block.too_large() || block.size() == 0) return;
  ResponseInfo again;
  request::ResponseHead read;
  http1::ParseError error;
  require(parse_response(block, again, read, error), "what was written is a response of HTTP/2");
  require(Response{read.status, flat(read.headers, true), again.content_length} ==
              Response{head.status, flat(head.headers, true), length},
          "it means the same in HTTP/2");
}

void check_response_in_http1(const request::ResponseHead& head, std::optional<std::uint64_t> length) {
  http1::Framing framing;
  const bool never = head.status < 200 || head.status == 204 || head.status == 304;
  if (length && !never) framing = {.body = http1::BodyKind::length, .content_length = *length};
  if (!length && !never) framing.body = http1::BodyKind::chunked;
  std::string bytes;
  require(http1::serialize_response(bytes, head.status, "", head.headers, framing), "what was accepted can be written");
  const std::size_t written = bytes.size();
  bytes += "HTTP/1.1 200 Smuggled\r\nContent-Length: 0\r\n\r\n";
  std::size_t scanned = 0;
  http1::ResponseInfo again;
  request::ResponseHead read;
  http1::ParseError error;
  const http1::Parse result = http1::parse_response(bytes, scanned, false, again, read, error);
  if (result == http1::Parse::error && written > limits::kHeadBytesMax / 2) return;
  if (result == http1::Parse::error && head.headers.size() + 4 > limits::kHeaderCountMax) return;
  require(result == http1::Parse::complete, "what was written is a response of HTTP/1");
  require(again.head_size == written, "it is one message, and ends where it ends");
  require(again.body == framing.body && again.content_length == framing.content_length, "its body is framed as meant");
  require(Response{read.status, flat(read.headers, true), length} ==
              Response{head.status, flat(head.headers, true), length},
          "it means the same in HTTP/1");
}

void check_http2_response(std::string_view input) {
  const std::optional<Fields> fields = inflate(input);
  if (!fields) return;
  const HeaderBlock block = block_of(*fields, limits::kHeadBytesMax);
  ResponseInfo info;
  request::ResponseHead head;
  http1::ParseError error;
  if (!parse_response(block, info, head, error)) {
    require(!error.text.empty() && error.reason == Reason::upstream_malformed, "who refuses says why");
    return;
  }
  check_response_in_http1(head, info.content_length);
  check_response_in_http2(head, info.content_length);
}

void check_http1_response(std::string_view input, bool request_was_head) {
  std::size_t scanned = 0;
  http1::ResponseInfo info;
  request::ResponseHead head;
  http1::ParseError error;
  if (http1::parse_response(input, scanned, request_was_head, info, head, error) != http1::Parse::complete) return;
  std::optional<std::uint64_t> length;
  if (info.has_content_length && head.status >= 200 && head.status != 204) length = info.content_length;
  check_response_in_http2(head, length);
}

void check_trailers_in_http1(const request::HeaderList& trailers) {
  std::string bytes;
  require(http1::serialize_trailers(bytes, trailers), "trailers that were accepted can be written");
  http1::ChunkDecoder decoder;
  std::string_view left = bytes, data;
  const auto event = decoder.next(left, data);
  if (event == http1::ChunkDecoder::Event::error && bytes.size() > limits::kTrailerBytesMax) return;
  require(event == http1::ChunkDecoder::Event::done && left.empty(), "trailers end where they end");
  require(flat(decoder.trailers(), false) == flat(trailers, false), "they mean the same in HTTP/1");
}

void check_trailers_in_http2(const request::HeaderList& trailers) {
  FieldWriter writer;
  require(writer.trailers(trailers), "trailers that were accepted can be written");
  const HeaderBlock block = block_of(sent(writer), limits::kTrailerBytesMax);
  if (block.too_large()) return;
  request::HeaderList read;
  http1::ParseError error;
  require(parse_trailers(block, read, error), "what was written are trailers of HTTP/2");
  require(flat(read, false) == flat(trailers, false), "they mean the same in HTTP/2");
}

void check_http2_trailers(std::string_view input) {
  const std::optional<Fields> fields = inflate(input);
  if (!fields) return;
  const HeaderBlock block = block_of(*fields, limits::kTrailerBytesMax);
  request::HeaderList trailers;
  http1::ParseError error;
  if (!parse_trailers(block, trailers, error)) return;
  check_trailers_in_http1(trailers);
  check_trailers_in_http2(trailers);
}

void check_http1_trailers(std::string_view input) {
  http1::ChunkDecoder decoder;
  std::string_view data;
  auto event = http1::ChunkDecoder::Event::data;
  while (event == http1::ChunkDecoder::Event::data) event = decoder.next(input, data);
  if (event == http1::ChunkDecoder::Event::done) check_trailers_in_http2(decoder.trailers());
}

}  // namespace
}  // namespace sallyport::http2

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::http2;
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0:
      check_http2_request(input, data[0] / 6u);
      break;
    case 1:
      check_http2_response(input);
      break;
    case 2:
      check_http2_trailers(input);
      break;
    case 3:
      check_http1_request(input);
      break;
    case 4:
      check_http1_response(input, data[0] / 6 % 2 != 0);
      break;
    default:
      check_http1_trailers(input);
      break;
  }
  return 0;
}
