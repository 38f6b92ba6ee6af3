#include "proxy/http1/server_exchange.h"

#include <poll.h>

#include "base/limits.h"
#include "proxy/http1/serialize.h"
#include "proxy/http1/websocket_handshake.h"

namespace sallyport::http1 {
namespace {

using http::BodyInfo;
using http::Chunk;

// True when the client will not read an answer any more. A plain client may close its sending side and still read (RFC
// 9112 section 9.6 allows it, old tools do it); with TLS nobody does.
bool peer_is_gone(net::Stream& stream) {
  pollfd descriptor{stream.socket().fd(), POLLRDHUP, 0};
  if (::poll(&descriptor, 1, 0) <= 0) return false;
  short gone = !stream.tls() ? POLLHUP | POLLERR : POLLHUP | POLLERR | POLLRDHUP;
  return (descriptor.revents & gone) != 0;
}

}  // namespace

void ServerExchange::attach(net::Stream& stream, std::string_view first_bytes) {
  stream_ = &stream;
  if (first_bytes.empty()) return;
  std::span<char> space = in_.space();
  std::copy(first_bytes.begin(), first_bytes.end(), space.begin());
  in_.filled(first_bytes.size());
}

void ServerExchange::detach() {
  begin();
  in_.release();
  stream_ = nullptr;
}

void ServerExchange::begin() {
  head_.headers.clear();
  head_.method = head_.target = head_.authority = {};
  info_ = {};
  body_.start(BodyKind::none, 0);
  response_ = Response::none;
  response_left_ = 0;
  websocket_accept_.clear();
  head_request_ = close_ = false;
}

// RFC 6455 section 4.2.1: exactly one key, of 16 bytes.
void ServerExchange::note_websocket() {
  if (!info_.upgrade_websocket || head_.headers.count("sec-websocket-key") != 1) return;
  const std::string_view key = head_.headers.find("sec-websocket-key")->value;
  if (is_websocket_key(key)) websocket_accept_ = websocket_accept(key);
}

RequestFailure ServerExchange::failure_of(const Error& error, bool begun) const {
  switch (error.kind) {
    case ErrorKind::timeout:
      return {Reason::downstream_timeout, "the request head did not arrive in time", begun};
    case ErrorKind::limit:
      return {Reason::head_too_large, "the request head is too large", true};
    case ErrorKind::closed:
    case ErrorKind::reset:
    case ErrorKind::cancelled:
    case ErrorKind::malformed:
    case ErrorKind::refused:
    case ErrorKind::unverified:
    case ErrorKind::unresolved:
    case ErrorKind::unavailable:
    case ErrorKind::invalid:
      break;
  }
  return {Reason::downstream_closed, error.text, false};
}

net::Task<std::expected<ServerExchange::Read, RequestFailure>> ServerExchange::read_request(net::Deadline deadline) {
  begin();
  std::size_t scanned = 0;
  while (true) {
    if (!in_.empty()) {
      ParseError error;
      Parse parsed = parse_request(in_.unread(), scanned, info_, head_, error);
      head_request_ = parsed != Parse::incomplete && head_.method == "HEAD";
      if (parsed == Parse::error)
        co_return std::unexpected(RequestFailure{error.reason, std::string(error.text), true});
      if (parsed == Parse::complete) {
        in_.consume(info_.head_size);
        body_.start(info_.body, info_.content_length);
        note_websocket();
        co_return Read::request;
      }
    }
    Result<std::size_t> filled = co_await fill(*stream_, in_, limits::kHeadBytesMax, deadline);
    if (!filled) co_return std::unexpected(failure_of(filled.error(), !in_.empty()));
    if (*filled == 0 && in_.empty()) co_return Read::end;
    if (*filled == 0) {
      co_return std::unexpected(
          RequestFailure{Reason::downstream_closed, "the connection ended within a request head", false});
    }
  }
}

bool ServerExchange::can_continue() const {
  return response_ == Response::complete && body_.ended() && !close_ && info_.keep_alive;
}

BodyInfo ServerExchange::body() const {
  switch (info_.body) {
    case BodyKind::none:
      return {};
    case BodyKind::length:
      return {BodyInfo::Kind::sized, info_.content_length, false};
    case BodyKind::chunked:
    case BodyKind::until_close:
      return {BodyInfo::Kind::streamed, 0, false};
  }
  return {};
}

net::Task<Result<Chunk>> ServerExchange::read_body(net::Deadline deadline) {
  co_return co_await body_.read(*stream_, in_, deadline);
}

net::Task<Result<void>> ServerExchange::write(std::string_view first, std::string_view second) {
  Result<void> written = co_await stream_->write_all(first, second, stream_->loop().in(limits::kBodyIdleTimeout));
  if (!written) response_ = Response::broken;
  co_return written;
}

net::Task<Result<void>> ServerExchange::inform(const request::ResponseHead& head) {
  if (info_.version_minor == 0) co_return Result<void>();  // HTTP/1.0 knows no 1xx (RFC 9110 section 15.2)
  out_.clear();
  if (!serialize_response(out_, head.status, head.reason, head.headers, Framing{})) {
    co_return fail(ErrorSource::upstream, ErrorKind::malformed, "an informational response that can't be passed on");
  }
  co_return co_await write(out_, {});
}

// How the body goes to this client. Its length is known, or it is chunked; for HTTP/1.0 the end of the connection is
// its end.
ServerExchange::Response ServerExchange::body_form(const request::ResponseHead& head, BodyInfo body,
                                                   Framing& framing) const {
  const bool bodyless = head_request_ || head.status == 204 || head.status == 304;
  if (bodyless || body.kind == BodyInfo::Kind::empty) {
    // What a GET would have had is passed on; a 204 has no length at all (RFC 9110 section 8.6).
    const bool tells_length = body.length_without_body || (body.kind == BodyInfo::Kind::sized && bodyless);
    if (tells_length && head.status != 204) {
      framing.body = BodyKind::length;
      framing.content_length = body.length;
    } else if (!bodyless) {
      framing.body =
          BodyKind::length;  // an empty body must be framed too, or the client waits for the connection's end
    }
    return Response::bodyless;
  }
  if (body.kind == BodyInfo::Kind::sized) {
    framing.body = BodyKind::length;
    framing.content_length = body.length;
    return Response::sized;
  }
  framing.body = info_.version_minor == 0 ? BodyKind::until_close : BodyKind::chunked;
  return info_.version_minor == 0 ? Response::until_close : Response::chunked;
}

net::Task<Result<void>> ServerExchange::respond(const request::ResponseHead& head, BodyInfo body, Chunk first) {
  // A streamed body that is here as a whole needs no chunks.
  if (body.kind == BodyInfo::Kind::streamed && first.end) body = {BodyInfo::Kind::sized, first.data.size(), false};
  Framing framing;
  response_ = body_form(head, body, framing);
  if (response_ == Response::until_close) close_ = true;
  framing.keep_alive = info_.keep_alive && !close_;
  framing.keep_alive_spoken = info_.version_minor == 0 && framing.keep_alive;
  out_.clear();
  if (!serialize_response(out_, head.status, head.reason, head.headers, framing)) {
    response_ = Response::broken;
    co_return fail(ErrorSource::upstream, ErrorKind::malformed, "a response head that can't be passed on");
  }
  if (response_ == Response::bodyless) {
    Result<void> written = co_await write(out_, {});
    if (written) response_ = Response::complete;
    co_return written;
  }
  response_left_ = framing.content_length;
  if (response_ == Response::chunked && !first.data.empty()) {
    out_ += ChunkLine(first.data.size()).view();
    out_ += first.data;
    out_ += kChunkEnd;
    first.data = {};
  }
  Result<void> written = co_await write(out_, first.data);
  if (!written) co_return written;
  if (response_ == Response::sized) response_left_ -= std::min<std::uint64_t>(response_left_, first.data.size());
  if (first.end) co_return co_await finish(nullptr);
  co_return written;
}

net::Task<Result<void>> ServerExchange::write_body(Chunk chunk) {
  if (response_ == Response::bodyless || response_ == Response::complete) co_return Result<void>();
  if (response_ == Response::broken)
    co_return fail(ErrorSource::downstream, ErrorKind::closed, "the response was broken off");
  if (response_ == Response::sized) {
    if (chunk.data.size() > response_left_) {  // more than was announced would be read as the next response
      response_ = Response::broken;
      co_return fail(ErrorSource::upstream, ErrorKind::malformed, "more body than was announced");
    }
    response_left_ -= chunk.data.size();
  }
  Result<void> written;
  if (response_ == Response::chunked && !chunk.data.empty()) {
    out_.clear();
    out_ += ChunkLine(chunk.data.size()).view();
    out_ += chunk.data;
    out_ += kChunkEnd;
    written = co_await write(out_, {});
  } else if (!chunk.data.empty()) {
    written = co_await write(chunk.data, {});
  }
  if (written && chunk.end) co_return co_await finish(nullptr);
  co_return written;
}

net::Task<Result<void>> ServerExchange::finish(const request::HeaderList* trailers) {
  switch (response_) {
    case Response::bodyless:
    case Response::complete:
      break;
    case Response::none:
    case Response::broken:
      co_return fail(ErrorSource::downstream, ErrorKind::closed, "the response was broken off");
    case Response::until_close:
      break;
    case Response::sized:
      if (response_left_ > 0) {
        response_ = Response::broken;
        co_return fail(ErrorSource::upstream, ErrorKind::closed, "less body than was announced");
      }
      break;
    case Response::chunked: {
      out_.clear();
      if (trailers == nullptr || trailers->empty() || !serialize_trailers(out_, *trailers)) out_ = kLastChunk;
      Result<void> written = co_await write(out_, {});
      if (!written) co_return written;
      break;
    }
  }
  response_ = Response::complete;
  co_return Result<void>();
}

net::Task<Result<net::ByteStream*>> ServerExchange::switch_protocols(const request::ResponseHead& head,
                                                                     std::string_view& leftover) {
  out_.clear();
  Framing framing;
  framing.upgrade_websocket = true;
  framing.websocket_accept = websocket_accept_;
  if (!serialize_response(out_, head.status, head.reason, head.headers, framing)) {
    response_ = Response::broken;
    co_return fail(ErrorSource::upstream, ErrorKind::malformed, "a response head that can't be passed on");
  }
  close_ = true;
  Result<void> written = co_await write(out_, {});
  if (!written) co_return std::unexpected(written.error());
  response_ = Response::complete;
  leftover = in_.unread();
  in_.consume(leftover.size());
  co_return stream_;
}

void ServerExchange::abort() {
  stream_->break_off(response_ == Response::until_close && !stream_->tls());
  response_ = Response::broken;
}

void ServerExchange::end_response() {
  close_ = true;
  // A response that was broken off must not look complete.
  if (response_ == Response::complete) stream_->shutdown_write();
}

void ServerExchange::watch_peer(std::function<void()> gone) {
  if (!gone) {
    stream_->socket().on_idle_event(nullptr);
    return;
  }
  gone_ = std::move(gone);
  stream_->socket().on_idle_event([this] {
    if (peer_is_gone(*stream_)) gone_();
  });
}

net::Task<void> ServerExchange::linger() {
  const bool client_may_be_sending = !body_.ended() || !in_.empty();
  if (response_ != Response::complete || !client_may_be_sending) co_return;
  end_response();
  net::Deadline deadline = stream_->loop().in(limits::kLingerTimeout);
  in_.release();
  for (std::uint64_t drained = 0; drained < limits::kLingerBytesMax;) {
    net::Deadline idle_until = stream_->loop().in(limits::kLingerIdleTimeout);
    Result<std::size_t> read = co_await stream_->read_some(in_.space(), std::min(deadline, idle_until));
    if (!read || *read == 0) co_return;
    drained += *read;
  }
}

}  // namespace sallyport::http1
