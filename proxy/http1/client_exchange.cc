#include "proxy/http1/client_exchange.h"

#include <openssl/crypto.h>

#include "base/limits.h"
#include "proxy/http1/serialize.h"
#include "proxy/http1/websocket_handshake.h"

namespace sallyport::http1 {

using http::BodyInfo;
using http::Chunk;
using http::UpstreamHead;

void ClientExchange::attach(net::Stream& stream) {
  stream_ = &stream;
  info_ = {};
  body_.start(BodyKind::none, 0);
  request_left_ = 0;
  chunked_ = request_complete_ = response_started_ = final_head_ = false;
  content_taken_ = keep_alive_ = true;
}

void ClientExchange::detach() {
  in_.release();
  out_.clear();
  stream_ = nullptr;
}

net::Task<Result<void>> ClientExchange::write(std::string_view first, std::string_view second) {
  co_return co_await stream_->write_all(first, second, stream_->loop().in(limits::kBodyIdleTimeout));
}

net::Task<Result<void>> ClientExchange::send(const Request& request, Chunk first) {
  head_request_ = request.head->method == "HEAD";
  websocket_ = request.websocket;
  content_taken_ = request.body.kind == BodyInfo::Kind::empty || request.head->headers.find("expect") == nullptr;
  Framing framing;
  std::string own_key;
  if (websocket_) {
    framing.upgrade_websocket = true;
    const request::Header* key = request.head->headers.find("sec-websocket-key");
    if (key == nullptr) framing.websocket_key = own_key = new_websocket_key();  // the function has asked by HTTP/2
    const std::string_view sent = key == nullptr ? std::string_view(own_key) : key->value;
    websocket_accept_ = sent.empty() ? std::string() : websocket_accept(sent);
  }
  switch (request.body.kind) {
    case BodyInfo::Kind::empty:
      break;
    case BodyInfo::Kind::sized:
      framing.body = BodyKind::length;
      framing.content_length = request_left_ = request.body.length;
      break;
    case BodyInfo::Kind::streamed:
      framing.body = BodyKind::chunked;
      chunked_ = true;
      break;
  }
  out_.clear();
  if (!serialize_request(out_, request.head->method, request.target, request.authority, request.head->headers,
                         framing)) {
    co_return fail(ErrorSource::internal, ErrorKind::malformed, "a request head that can't be sent");
  }
  if (chunked_ && !first.data.empty()) {
    out_ += ChunkLine(first.data.size()).view();
    out_ += first.data;
    out_ += kChunkEnd;
    first.data = {};
  }
  Result<void> written = co_await write(out_, first.data);
  OPENSSL_cleanse(out_.data(), out_.size());  // it may hold a credential
  out_.clear();
  if (!written) co_return written;
  request_left_ -= std::min<std::uint64_t>(request_left_, first.data.size());
  if (!first.end) co_return written;
  // A chunked request whose end came along may still have trailers, which are the caller's.
  co_return co_await finish(request.trailers);
}

net::Task<Result<void>> ClientExchange::write_body(Chunk chunk) {
  if (chunk.data.empty()) co_return Result<void>();
  if (!chunked_) {
    request_left_ -= std::min<std::uint64_t>(request_left_, chunk.data.size());
    co_return co_await write(chunk.data, {});
  }
  out_.clear();
  out_ += ChunkLine(chunk.data.size()).view();
  out_ += chunk.data;
  out_ += kChunkEnd;
  co_return co_await write(out_, {});
}

net::Task<Result<void>> ClientExchange::finish(const request::HeaderList* trailers) {
  if (chunked_) {
    out_.clear();
    if (trailers == nullptr || trailers->empty() || !serialize_trailers(out_, *trailers)) out_ = kLastChunk;
    Result<void> written = co_await write(out_, {});
    if (!written) co_return written;
  }
  request_complete_ = request_left_ == 0;
  co_return Result<void>();
}

net::Task<Result<UpstreamHead>> ClientExchange::read_head(request::ResponseHead& head, net::Deadline deadline) {
  std::size_t scanned = 0;
  while (true) {
    if (!in_.empty()) {
      response_started_ = true;
      ParseError error;
      head.headers.clear();
      Parse parsed = parse_response(in_.unread(), scanned, head_request_, info_, head, error);
      if (parsed == Parse::error) {
        co_return fail(ErrorSource::upstream, ErrorKind::malformed,
                       "the server's response is malformed: " + std::string(error.text));
      }
      if (parsed == Parse::complete) break;
    }
    Result<std::size_t> filled = co_await fill(*stream_, in_, limits::kHeadBytesMax, deadline);
    if (!filled) co_return std::unexpected(filled.error());
    if (*filled == 0) {
      co_return fail(ErrorSource::upstream, ErrorKind::closed,
                     in_.empty() ? "the server closed the connection without a response"
                                 : "the server closed the connection within a response head");
    }
  }
  in_.consume(info_.head_size);
  keep_alive_ = keep_alive_ && info_.keep_alive;
  content_taken_ = content_taken_ || head.status == 100;
  if (head.status == 101 && !(websocket_ && info_.upgrade_websocket)) {
    co_return fail(ErrorSource::upstream, ErrorKind::malformed, "the server switched protocols without being asked to");
  }
  // A server that did not mean it, or one that stands before another and only passes its status on, must not open a
  // tunnel: what would go through it is not decided.
  if (head.status == 101 && !accepts_websocket(head.headers)) {
    co_return fail(ErrorSource::upstream, ErrorKind::malformed,
                   "the server switched protocols without the Sec-WebSocket-Accept that belongs to the request's key");
  }
  UpstreamHead result{head.status, {}};
  if (info_.informational || head.status == 101) co_return result;
  final_head_ = true;
  body_.start(info_.body, info_.content_length);
  switch (info_.body) {
    case BodyKind::none:
      result.body.length_without_body = info_.has_content_length;
      result.body.length = info_.content_length;
      break;
    case BodyKind::length:
      result.body = {BodyInfo::Kind::sized, info_.content_length, false};
      break;
    case BodyKind::chunked:
    case BodyKind::until_close:
      result.body.kind = BodyInfo::Kind::streamed;
      break;
  }
  co_return result;
}

bool ClientExchange::accepts_websocket(const request::HeaderList& headers) const {
  const request::Header* accept = headers.find("sec-websocket-accept");
  return accept != nullptr && !websocket_accept_.empty() && accept->value == websocket_accept_;
}

net::Task<Result<Chunk>> ClientExchange::read_body(net::Deadline deadline) {
  co_return co_await body_.read(*stream_, in_, deadline);
}

net::ByteStream* ClientExchange::switched(std::string_view& leftover) {
  leftover = in_.unread();
  in_.consume(leftover.size());
  return stream_;
}

bool ClientExchange::reusable() const {
  // Bytes behind the response were not asked for: the connection has lost its place. A server that gave its final
  // answer where it was asked for a 100 may have skipped the content, or wait for it still (RFC 9110 section 10.1.1).
  return final_head_ && request_complete_ && body_.ended() && keep_alive_ && content_taken_ && in_.empty();
}

}  // namespace sallyport::http1
