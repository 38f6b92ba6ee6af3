#include "proxy/http2/server_exchange.h"

#include "proxy/http2/server_connection.h"

namespace sallyport::http2 {

using http::BodyInfo;
using http::Chunk;

ServerExchange::ServerExchange(ServerConnection& connection, request::Scheme scheme, std::int32_t id)
    : Stream(connection, ErrorSource::downstream), server_(connection), scheme_(scheme) {
  open(id);
}

bool ServerExchange::on_headers(std::unique_ptr<HeaderBlock> block, bool end) {
  if (has_head()) return accept_trailers(std::move(block));
  head_block_ = std::move(block);
  ended_with_head_ = end;
  http1::ParseError error;
  if (parse_request(*head_block_, scheme_, info_, head_, error)) {
    head_request_ = head_.method == "HEAD";
    if (info_.content_length) expect_bytes(*info_.content_length);
    if (info_.websocket && end) refuse(Reason::malformed_http, "a WebSocket's CONNECT ends its stream");
  } else {
    refuse(error.reason, error.text);
  }
  server_.begin(*this);
  return true;
}

void ServerExchange::refuse(Reason reason, std::string_view text) {
  if (!failure_) failure_ = http::RequestFailure{reason, std::string(text), true};
}

// The frames of a WebSocket are not content.
Result<Chunk> ServerExchange::buffered_body() {
  if (info_.websocket) return Chunk{{}, true};
  return take();
}

BodyInfo ServerExchange::body() const {
  if (info_.websocket) return {};
  if (info_.content_length) return {BodyInfo::Kind::sized, *info_.content_length, false};
  if (!ended_with_head_) {
    // All of it is here, so its length is known: some servers of HTTP/1 take no chunked requests.
    if (remote_ended() && Stream::trailers().empty()) return {BodyInfo::Kind::sized, buffered(), false};
    return {BodyInfo::Kind::streamed, 0, false};
  }
  // RFC 9110 section 8.6: where a method is about content, HTTP/1 says that there is none.
  const bool about_content = head_.method == "POST" || head_.method == "PUT" || head_.method == "PATCH";
  return {about_content ? BodyInfo::Kind::sized : BodyInfo::Kind::empty, 0, false};
}

net::Task<Result<void>> ServerExchange::inform(const request::ResponseHead& head) {
  if (error()) co_return std::unexpected(*error());
  FieldWriter& writer = connection().writer();
  if (!writer.response(head.status, head.headers, std::nullopt)) {
    co_return fail(ErrorSource::upstream, ErrorKind::malformed, "an informational response that can't be passed on");
  }
  nghttp2_submit_headers(connection().session(), NGHTTP2_FLAG_NONE, id(), nullptr, writer.fields().data(),
                         writer.fields().size(), nullptr);
  connection().flush();
  co_return Result<void>();
}

net::Task<Result<void>> ServerExchange::respond(const request::ResponseHead& head, BodyInfo body, Chunk first) {
  responded_ = true;
  if (error()) co_return std::unexpected(*error());
  if (closed()) co_return fail(ErrorSource::downstream, ErrorKind::closed, "the client has closed the stream");
  // A streamed body that is here as a whole has a length.
  if (body.kind == BodyInfo::Kind::streamed && first.end) body = {BodyInfo::Kind::sized, first.data.size(), false};
  const bool never_content = head_request_ || head.status == 204 || head.status == 304;
  const bool bodyless = never_content || body.kind == BodyInfo::Kind::empty;
  const bool tells_length = body.kind == BodyInfo::Kind::sized || body.length_without_body;
  std::optional<std::uint64_t> length;
  if (tells_length && head.status != 204) length = body.length;
  FieldWriter& writer = connection().writer();
  if (!writer.response(head.status, head.headers, length)) {
    co_return fail(ErrorSource::upstream, ErrorKind::malformed, "a response head that can't be passed on");
  }
  if (!bodyless) response_left_ = length;
  const nghttp2_data_provider source = body_source();
  const int submitted = nghttp2_submit_response(connection().session(), id(), writer.fields().data(),
                                                writer.fields().size(), bodyless ? nullptr : &source);
  if (submitted != 0) co_return fail(ErrorSource::internal, ErrorKind::limit, nghttp2_strerror(submitted));
  if (bodyless) {
    sent_without_body();
    connection().flush();
    co_return Result<void>();
  }
  co_return co_await write_body(first);
}

net::Task<Result<void>> ServerExchange::write_body(Chunk chunk) {
  if (sent_all()) co_return Result<void>();
  if (response_left_) {
    if (chunk.data.size() > *response_left_) {
      co_return fail(ErrorSource::upstream, ErrorKind::malformed, "more body than was announced");
    }
    *response_left_ -= chunk.data.size();
    if (chunk.end && *response_left_ > 0) {
      co_return fail(ErrorSource::upstream, ErrorKind::closed, "less body than was announced");
    }
  }
  if (chunk.data.empty() && !chunk.end) {
    connection().flush();  // the head, at least
    co_return Result<void>();
  }
  co_return co_await send(chunk.data, chunk.end, nullptr);
}

net::Task<Result<void>> ServerExchange::finish(const request::HeaderList* trailers) {
  if (sent_all()) co_return Result<void>();
  if (response_left_.value_or(0) > 0) {
    co_return fail(ErrorSource::upstream, ErrorKind::closed, "less body than was announced");
  }
  co_return co_await send({}, true, trailers);
}

// RFC 8441 section 5: 200 says what 101 says in HTTP/1. What came before it is what the tunnel gives out first.
net::Task<Result<net::ByteStream*>> ServerExchange::switch_protocols(const request::ResponseHead& head,
                                                                     std::string_view&) {
  responded_ = true;
  if (error()) co_return std::unexpected(*error());
  constexpr int kEstablished = 200;
  FieldWriter& writer = connection().writer();
  if (!writer.response(kEstablished, head.headers, std::nullopt)) {
    co_return fail(ErrorSource::upstream, ErrorKind::malformed, "a response head that can't be passed on");
  }
  const nghttp2_data_provider source = body_source();
  const int submitted =
      nghttp2_submit_response(connection().session(), id(), writer.fields().data(), writer.fields().size(), &source);
  if (submitted != 0) co_return fail(ErrorSource::internal, ErrorKind::limit, nghttp2_strerror(submitted));
  connection().flush();
  co_return &tunnel_.emplace(static_cast<Stream&>(*this));
}

// RFC 8441 section 5: CANCEL stands for a reset of TCP. What was ended in order stays so.
std::uint32_t ServerExchange::broken_off_code() const {
  if (!tunnel_) return NGHTTP2_INTERNAL_ERROR;
  return sent_all() ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL;
}

void ServerExchange::abort() {
  reset(broken_off_code(), {ErrorSource::downstream, ErrorKind::closed, "the response was broken off"});
}

void ServerExchange::end_response() {
  if (!sent_all() || remote_ended()) return;
  // RFC 9113 section 8.1: the client need not send the rest.
  reset(NGHTTP2_NO_ERROR, {ErrorSource::downstream, ErrorKind::closed, "the response is complete"});
}

void ServerExchange::cancel() {
  gone_ = nullptr;  // it is not the client that went
  fail_with({ErrorSource::downstream, ErrorKind::cancelled, "given up by this program"});
}

void ServerExchange::watch_peer(std::function<void()> gone) {
  gone_ = std::move(gone);
  if (gone_ && error() && !sent_all()) std::exchange(gone_, nullptr)();
}

void ServerExchange::on_lost() {
  if (gone_ && !sent_all()) std::exchange(gone_, nullptr)();
}

// The exchange is over, however it went: what is open of the stream is closed.
void ServerExchange::leave() {
  gone_ = nullptr;
  if (closed() || (sent_all() && remote_ended())) return;
  reset(sent_all() ? NGHTTP2_NO_ERROR : broken_off_code(),
        {ErrorSource::downstream, ErrorKind::closed, "the exchange is over"});
}

}  // namespace sallyport::http2
