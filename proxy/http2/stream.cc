#include "proxy/http2/stream.h"

#include "base/limits.h"
#include "proxy/http2/connection.h"
#include "proxy/http2/heads.h"

namespace sallyport::http2 {

using http::Chunk;

namespace {

std::string_view who(ErrorSource source) { return source == ErrorSource::downstream ? "the client" : "the server"; }

}  // namespace

Stream::Stream(Connection& connection, ErrorSource source)
    : connection_(connection), source_(source), arrived_(connection.loop()), moved_(connection.loop()) {}

Stream::~Stream() { detach(); }

void Stream::detach() {
  if (id_ == 0) return;
  owed_ += in_.size();
  give_back_window();
  nghttp2_session_set_stream_user_data(connection_.session(), std::exchange(id_, 0), nullptr);
}

void Stream::give_back_window() {
  if (owed_ == 0) return;
  // Of a stream that is gone only the connection's window is opened again.
  nghttp2_session_consume(connection_.session(), id_, std::exchange(owed_, 0));
  connection_.flush();
}

Result<Chunk> Stream::take() {
  if (error_ && !remote_ended_) return std::unexpected(*error_);
  taken_.swap(in_);
  in_.clear();
  owed_ += taken_.size();
  return Chunk{taken_, remote_ended_};
}

net::Task<Result<Chunk>> Stream::receive(net::Deadline deadline) {
  give_back_window();
  while (true) {
    if (error_ && (!remote_ended_ || error_->kind == ErrorKind::cancelled)) co_return std::unexpected(*error_);
    if (!in_.empty() || remote_ended_) co_return take();
    arrived_.reset();
    const net::Wait wait = co_await arrived_.wait(deadline);
    if (wait != net::Wait::ready) {
      co_return fail(source_, ErrorKind::timeout,
                     "reading from " + std::string(who(source_)) + " failed: nothing moved before the deadline");
    }
  }
}

bool Stream::on_data(std::string_view data) {
  if (bytes_left_) {
    if (data.size() > *bytes_left_) return false;
    *bytes_left_ -= data.size();
  }
  in_ += data;
  arrived_.set();
  return true;
}

bool Stream::on_end() {
  if (bytes_left_.value_or(0) != 0) return false;
  remote_ended_ = true;
  arrived_.set();
  return true;
}

bool Stream::accept_trailers(std::unique_ptr<HeaderBlock> block) {
  trailer_block_ = std::move(block);
  http1::ParseError error;
  return parse_trailers(*trailer_block_, trailers_, error);
}

void Stream::on_closed(std::uint32_t code) {
  closed_ = true;
  // Chrome, curl and others take HTTP_1_1_REQUIRED for a refusal, too: what was asked for is to be asked in HTTP/1.
  refused_ = code == NGHTTP2_REFUSED_STREAM || code == NGHTTP2_HTTP_1_1_REQUIRED;
  if (local_ended_ && (remote_ended_ || code == NGHTTP2_NO_ERROR)) return;
  const bool malformed = code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_FLOW_CONTROL_ERROR;
  // With NO_ERROR the peer has said all, and needs nothing more (RFC 9113 section 8.1).
  const ErrorKind kind = malformed                                   ? ErrorKind::malformed
                         : remote_ended_ && code == NGHTTP2_NO_ERROR ? ErrorKind::closed
                                                                     : ErrorKind::reset;
  fail_with({source_, kind, std::string(who(source_)) + " ended the stream: " + nghttp2_http2_strerror(code)});
}

void Stream::fail_with(Error error) {
  if (!error_) error_ = std::move(error);
  out_ = {};  // the coroutine that owns it is about to leave
  out_ends_ = false;
  out_trailers_ = nullptr;
  arrived_.set();
  moved_.set();
  on_lost();
}

void Stream::reset(std::uint32_t code, Error error) {
  if (id_ != 0 && !closed_) {
    nghttp2_submit_rst_stream(connection_.session(), NGHTTP2_FLAG_NONE, id_, code);
    connection_.flush();
  }
  fail_with(std::move(error));
}

net::Task<Result<void>> Stream::send(std::string_view data, bool end, const request::HeaderList* trailers) {
  begin_send(data, end, trailers);
  co_return co_await sent();
}

void Stream::begin_send(std::string_view data, bool end, const request::HeaderList* trailers) {
  if (local_ended_ || error_ || closed_) return;
  out_ = data;
  out_ends_ = end;
  out_trailers_ = trailers;
  nghttp2_session_resume_data(connection_.session(), id_);
  connection_.flush();
}

net::Task<Result<void>> Stream::sent() { return sent(connection_.loop().in(limits::kBodyIdleTimeout)); }

net::Task<Result<void>> Stream::sent(net::Deadline deadline) {
  if (local_ended_) co_return Result<void>();
  if (closed_ && !error_)
    co_return fail(source_, ErrorKind::closed, std::string(who(source_)) + " has closed the stream");
  while (!error_ && (!out_.empty() || (out_ends_ && !local_ended_))) {
    moved_.reset();
    const net::Wait wait = co_await moved_.wait(deadline);
    if (wait == net::Wait::ready) continue;
    reset(NGHTTP2_CANCEL, {source_, ErrorKind::timeout,
                           "writing to " + std::string(who(source_)) + " failed: nothing moved before the deadline"});
  }
  if (error_ && !local_ended_) co_return std::unexpected(*error_);
  co_return Result<void>();
}

nghttp2_data_provider Stream::body_source() {
  nghttp2_data_provider provider{};
  // By its number: nghttp2 may ask once more when this object has gone.
  provider.read_callback = [](nghttp2_session* session, std::int32_t id, std::uint8_t*, std::size_t size_max,
                              std::uint32_t* flags, nghttp2_data_source*, void*) -> ssize_t {
    auto* stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id));
    return stream == nullptr ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : stream->pull(size_max, *flags);
  };
  return provider;
}

// How much the next DATA frame takes; put_data() is then called for it.
ssize_t Stream::pull(std::size_t size_max, std::uint32_t& flags) {
  if (out_.empty() && !out_ends_) return NGHTTP2_ERR_DEFERRED;
  const std::size_t size = std::min(size_max, out_.size());
  flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (size < out_.size() || !out_ends_) return static_cast<ssize_t>(size);
  flags |= NGHTTP2_DATA_FLAG_EOF;
  if (out_trailers_ != nullptr && !out_trailers_->empty()) {
    FieldWriter& writer = connection_.writer();
    // Trailers that can't be passed on are left out, as in HTTP/1.
    if (writer.trailers(*out_trailers_) &&
        nghttp2_submit_trailer(connection_.session(), id_, writer.fields().data(), writer.fields().size()) == 0) {
      flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      if (size == 0) {  // the trailers are next: no empty DATA frame is sent, and put_data() not called
        local_ended_ = true;
        moved_.set();
      }
    }
    out_trailers_ = nullptr;
  }
  return static_cast<ssize_t>(size);
}

// False when what was promised has gone meanwhile: the stream has failed, and must not look complete.
bool Stream::put_data(const std::uint8_t* frame_header, std::size_t size) {
  if (size > out_.size()) return false;
  constexpr std::size_t kFrameHeader = 9;
  connection_.put(std::string_view(reinterpret_cast<const char*>(frame_header), kFrameHeader));
  connection_.put(out_.substr(0, size));
  out_.remove_prefix(size);
  if (!out_.empty()) return true;
  if (out_ends_) local_ended_ = true;
  moved_.set();
  return true;
}

}  // namespace sallyport::http2
