#include "proxy/http1/websocket_opening.h"

#include <algorithm>

#include "base/limits.h"
#include "proxy/http1/parser.h"
#include "proxy/http1/serialize.h"
#include "proxy/http1/websocket_handshake.h"

namespace sallyport::http1 {
namespace {

using request::HeaderList;

std::unexpected<Error> malformed(net::Stream& stream, std::string_view text) {
  return fail(stream.source(), ErrorKind::malformed, std::string(text));
}

// Reads on behind what the parser calls incomplete.
net::Task<Result<void>> read_more(net::Stream& stream, net::ReadBuffer& buffer, net::Deadline deadline) {
  buffer.compact();
  if (buffer.space().empty()) co_return malformed(stream, "a head of more than 16 KiB");
  auto got = co_await stream.read_some(buffer.space(), deadline);
  if (!got) co_return std::unexpected(std::move(got.error()));
  if (*got == 0) co_return fail(stream.source(), ErrorKind::closed, "the connection ended before the WebSocket began");
  buffer.filled(*got);
  co_return Result<void>{};
}

// Printable, and short: it goes into logs and onto terminals.
std::string excerpt(std::string_view text) {
  std::string shown;
  for (const char c : text.substr(0, 200)) shown += c >= ' ' && c < 0x7F ? c : ' ';
  while (shown.ends_with(' ')) shown.pop_back();
  return shown;
}

Result<void> judge_answer(net::Stream& stream, const ResponseInfo& info, const request::ResponseHead& head,
                          std::string_view body, std::string_view key) {
  if (head.status != 101 || !info.upgrade_websocket) {
    std::string text = "it answered " + std::to_string(head.status) + " instead of opening a WebSocket";
    if (const std::string said = excerpt(body); !said.empty()) text += ": " + said;
    return fail(stream.source(), ErrorKind::refused, std::move(text));
  }
  const std::string expected = websocket_accept(key);
  const request::Header* accept = head.headers.find("sec-websocket-accept");
  if (expected.empty() || accept == nullptr || accept->value != expected) {
    return malformed(stream, "the answer does not belong to this handshake (Sec-WebSocket-Accept)");
  }
  if (head.headers.find("sec-websocket-extensions") != nullptr ||
      head.headers.find("sec-websocket-protocol") != nullptr) {
    return malformed(stream, "the answer takes up what was not offered (extensions, subprotocol)");
  }
  return {};
}

struct Refusal {
  int status = 0;  // 0: it is none
  std::string_view reason, text;
};

Refusal judge_request(const RequestInfo& info, const request::RequestHead& head, std::string_view path) {
  if (head.target != path) return {404, "Not Found", "nothing is here but the link of guards\n"};
  if (!info.upgrade_websocket) return {426, "Upgrade Required", "a WebSocket is expected here\n"};
  const request::Header* version = head.headers.find("sec-websocket-version");
  const request::Header* key = head.headers.find("sec-websocket-key");
  if (version == nullptr || version->value != "13" || head.headers.count("sec-websocket-version") != 1) {
    return {426, "Upgrade Required", "version 13 of WebSocket is expected here\n"};
  }
  if (key == nullptr || head.headers.count("sec-websocket-key") != 1 || !is_websocket_key(key->value)) {
    return {400, "Bad Request", "Sec-WebSocket-Key is none\n"};
  }
  return {};
}

net::Task<void> answer_refusal(net::Stream& stream, Refusal refusal, net::Deadline deadline) {
  HeaderList headers;
  headers.add("Content-Type", "text/plain");
  if (refusal.status == 426) headers.add("Sec-WebSocket-Version", "13");
  std::string out;
  const Framing framing{.body = BodyKind::length, .content_length = refusal.text.size(), .keep_alive = false};
  if (!serialize_response(out, refusal.status, refusal.reason, headers, framing)) co_return;
  // Whether the answer arrives changes nothing: the connection ends.
  [[maybe_unused]] const Result<void> written = co_await stream.write_all(out, refusal.text, deadline);
  stream.shutdown_write();
}

}  // namespace

net::Task<Result<void>> open_websocket(net::Stream& stream, net::ReadBuffer& buffer, std::string authority,
                                       std::string path, net::Deadline deadline) {
  const std::string key = new_websocket_key();
  HeaderList headers;
  headers.add("Sec-WebSocket-Version", "13");
  std::string out;
  const Framing framing{.upgrade_websocket = true, .websocket_key = key};
  if (key.empty() || !serialize_request(out, "GET", path, authority, headers, framing)) {
    co_return fail(ErrorSource::internal, ErrorKind::unavailable, "no request for a WebSocket can be made");
  }
  Result<void> written = co_await stream.write_all(out, deadline);
  if (!written) co_return written;
  std::size_t scanned = 0;
  for (;;) {
    ResponseInfo info;
    request::ResponseHead head;
    ParseError error;
    const Parse parsed = parse_response(buffer.unread(), scanned, false, info, head, error);
    if (parsed == Parse::error) co_return malformed(stream, error.text);
    if (parsed == Parse::complete) {
      if (info.informational) co_return malformed(stream, "an answer of 1xx that nobody asked for");
      Result<void> judged = judge_answer(stream, info, head, buffer.unread().substr(info.head_size), key);
      buffer.consume(info.head_size);
      co_return judged;
    }
    Result<void> more = co_await read_more(stream, buffer, deadline);
    if (!more) co_return more;
  }
}

net::Task<Result<void>> accept_websocket(net::Stream& stream, net::ReadBuffer& buffer, std::string path,
                                         net::Deadline deadline) {
  std::size_t scanned = 0;
  for (;;) {
    RequestInfo info;
    request::RequestHead head;
    ParseError error;
    const Parse parsed = parse_request(buffer.unread(), scanned, info, head, error);
    Refusal refusal;
    if (parsed == Parse::error) refusal = {400, "Bad Request", "this is no request of HTTP/1.1\n"};
    if (parsed == Parse::complete) refusal = judge_request(info, head, path);
    if (refusal.status != 0) {
      co_await answer_refusal(stream, refusal, deadline);
      co_return malformed(stream, refusal.text.substr(0, refusal.text.size() - 1));
    }
    if (parsed == Parse::complete) {
      const std::string accept = websocket_accept(head.headers.find("sec-websocket-key")->value);
      buffer.consume(info.head_size);
      std::string out;
      const Framing framing{.upgrade_websocket = true, .websocket_accept = accept};
      if (accept.empty() || !serialize_response(out, 101, "Switching Protocols", {}, framing)) {
        co_return fail(ErrorSource::internal, ErrorKind::unavailable, "no answer to a WebSocket can be made");
      }
      Result<void> written = co_await stream.write_all(out, deadline);
      co_return written;
    }
    Result<void> more = co_await read_more(stream, buffer, deadline);
    if (!more) co_return more;
  }
}

}  // namespace sallyport::http1
