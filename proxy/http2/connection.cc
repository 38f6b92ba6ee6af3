#include "proxy/http2/connection.h"

#include <exception>

#include "base/limits.h"
#include "proxy/net/read_buffer.h"

namespace sallyport::http2 {

void FrameBudget::earn(std::uint32_t count) { left_ = std::min(left_ + count, limits::kH2IdleFramesMax); }

bool FrameBudget::spend(std::uint32_t count, net::Deadline now) {
  const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(now - refilled_);
  const std::int64_t fresh = passed.count() * limits::kH2IdleFramesPerSecond / 1000;
  if (fresh > 0) {
    left_ = std::min(left_ + fresh, limits::kH2IdleFramesMax);
    refilled_ = now;
  }
  left_ -= count;
  return left_ >= 0;
}

// What nghttp2 calls. Nothing may be thrown through it: out of memory ends the connection.
struct Connection::Callbacks {
  template <class Function>
  static int guarded(Function function) noexcept {
    try {
      return function();
    } catch (...) {
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
  }

  static Connection& of(void* self) { return *static_cast<Connection*>(self); }
  static Stream* stream_of(nghttp2_session* session, std::int32_t id) {
    return static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id));
  }

  // Whether a frame with a request's head or body is for a stream that is over, or was passed over. nghttp2 would
  // ignore it, as it keeps nothing of those. What is on its way when we reset a stream is no fault (RFC 9113
  // section 5.1).
  static bool is_for_closed(nghttp2_session* session, std::int32_t id) {
    return nghttp2_session_check_server_session(session) != 0 && id % 2 == 1 &&
           id <= nghttp2_session_get_last_proc_stream_id(session) &&
           nghttp2_session_find_stream(session, id) == nullptr;
  }

  // Not called for what nghttp2 ignores.
  static int begin_frame(nghttp2_session* session, const nghttp2_frame_hd* header, void* self) {
    return guarded([&] {
      Connection& connection = of(self);
      const bool carries = header->type == NGHTTP2_DATA || header->type == NGHTTP2_HEADERS;
      if (carries && is_for_closed(session, header->stream_id)) {
        if (connection.resets_.has(header->stream_id)) return 0;
        connection.terminate(NGHTTP2_STREAM_CLOSED, "a frame for a stream that is closed");
        return static_cast<int>(NGHTTP2_ERR_CALLBACK_FAILURE);
      }
      if (header->type == NGHTTP2_PRIORITY && header->stream_id == 0) {
        connection.terminate(NGHTTP2_PROTOCOL_ERROR, "a priority for no stream");
        return static_cast<int>(NGHTTP2_ERR_CALLBACK_FAILURE);
      }
      if (header->type == NGHTTP2_DATA) connection.budget_.earn(1);
      return 0;
    });
  }

  static int begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
    return guarded([&] {
      Connection& connection = of(self);
      connection.in_block_ = true;
      connection.block_began_ = connection.loop().now();
      Stream* stream = stream_of(session, frame->hd.stream_id);
      bool is_head = true;
      if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        stream = connection.on_new_stream(frame->hd.stream_id);
        nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
      } else if (frame->headers.cat == NGHTTP2_HCAT_HEADERS) {
        is_head = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0;
      }
      const std::size_t bytes_max = is_head ? limits::kHeadBytesMax : limits::kTrailerBytesMax;
      if (stream == nullptr) return 0;
      connection.budget_.earn(4);  // what was refused has earned nothing
      stream->block_ = std::make_unique<HeaderBlock>(bytes_max);
      return 0;
    });
  }

  static int header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t* name,
                    std::size_t name_size, const std::uint8_t* value, std::size_t value_size, std::uint8_t,
                    void* self) {
    return guarded([&] {
      Stream* stream = stream_of(session, frame->hd.stream_id);
      if (stream == nullptr || !stream->block_) return 0;
      stream->block_->add({reinterpret_cast<const char*>(name), name_size},
                          {reinterpret_cast<const char*>(value), value_size});
      if (stream->block_->bytes_seen() <= limits::kH2HeaderBytesSeenMax) return 0;
      of(self).terminate(NGHTTP2_ENHANCE_YOUR_CALM, "a header list without end");
      return static_cast<int>(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE);
    });
  }

  static int invalid_header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t*, std::size_t,
                            const std::uint8_t*, std::size_t, std::uint8_t, void*) {
    Stream* stream = stream_of(session, frame->hd.stream_id);
    if (stream != nullptr && stream->block_) stream->block_->spoil();
    return 0;
  }

  static int frame_received(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
    return guarded([&] {
      Connection& connection = of(self);
      const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
      if (frame->hd.type == NGHTTP2_HEADERS) connection.in_block_ = false;
      if (frame->hd.type == NGHTTP2_SETTINGS && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) connection.on_settings();
      if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code == NGHTTP2_HTTP_1_1_REQUIRED) {
        connection.on_http1_required();
      }
      if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
      if (frame->hd.type == NGHTTP2_DATA && frame->hd.length == frame->data.padlen && !ends && !connection.charge(1)) {
        return static_cast<int>(NGHTTP2_ERR_CALLBACK_FAILURE);  // nothing, or nothing but padding
      }
      Stream* stream = stream_of(session, frame->hd.stream_id);
      if (stream == nullptr) return 0;
      bool good = true;
      if (frame->hd.type == NGHTTP2_HEADERS) good = stream->on_headers(std::move(stream->block_), ends);
      if (good && ends) good = stream->on_end();
      if (!good) {
        connection.on_complaint(frame->hd.stream_id, "the message breaks the rules of HTTP/2");
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
      }
      return 0;
    });
  }

  static int invalid_frame(nghttp2_session*, const nghttp2_frame* frame, int error, void* self) {
    return guarded([&] {
      Connection& connection = of(self);
      if (frame->hd.type == NGHTTP2_HEADERS) connection.in_block_ = false;
      connection.on_complaint(frame->hd.stream_id, nghttp2_strerror(error));
      // Frames that make us reset streams cost as much as resets.
      return connection.charge(limits::kH2ResetCost) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    });
  }

  static int data(nghttp2_session* session, std::uint8_t, std::int32_t id, const std::uint8_t* bytes, std::size_t size,
                  void* self) {
    return guarded([&] {
      of(self).body_came_ = true;
      Stream* stream = stream_of(session, id);
      if (stream == nullptr) {
        nghttp2_session_consume(session, id, size);  // of a stream that was given up: nobody will read it
      } else if (!stream->on_data({reinterpret_cast<const char*>(bytes), size})) {
        nghttp2_session_consume(session, id, size);
        of(self).on_complaint(id, "more content than content-length says");
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_PROTOCOL_ERROR);
      }
      return 0;
    });
  }

  // A request that can't be sent any more (after a GOAWAY): nobody has seen it.
  static int frame_not_sent(nghttp2_session* session, const nghttp2_frame* frame, int, void*) {
    return guarded([&] {
      Stream* stream = stream_of(session, frame->hd.stream_id);
      if (frame->hd.type == NGHTTP2_HEADERS && stream != nullptr) stream->on_closed(NGHTTP2_REFUSED_STREAM);
      return 0;
    });
  }

  static int stream_closed(nghttp2_session* session, std::int32_t id, std::uint32_t code, void* self) {
    return guarded([&] {
      if (code == NGHTTP2_HTTP_1_1_REQUIRED) of(self).on_http1_required();
      if (Stream* stream = stream_of(session, id)) stream->on_closed(code);
      return 0;
    });
  }

  // nghttp2 ends the connection by itself where the peer has broken the rules of all of it.
  static int frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    return guarded([&] {
      if (frame->hd.type == NGHTTP2_RST_STREAM) of(self).resets_.add(frame->hd.stream_id);
      if (frame->hd.type != NGHTTP2_GOAWAY || frame->goaway.error_code == NGHTTP2_NO_ERROR) return 0;
      Connection& connection = of(self);
      if (connection.complaint_.empty()) connection.complaint_ = nghttp2_http2_strerror(frame->goaway.error_code);
      return 0;
    });
  }

  static int send_data(nghttp2_session* session, nghttp2_frame* frame, const std::uint8_t* frame_header,
                       std::size_t size, nghttp2_data_source*, void* self) {
    return guarded([&] {
      Connection& connection = of(self);
      if (connection.out_.size() >= limits::kH2OutBytes) return static_cast<int>(NGHTTP2_ERR_WOULDBLOCK);
      Stream* stream = stream_of(session, frame->hd.stream_id);
      if (stream == nullptr || !stream->put_data(frame_header, size)) {
        return static_cast<int>(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE);
      }
      connection.budget_.earn(4);  // the peer tells of its windows as it reads
      return 0;
    });
  }

  struct Tables {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_option* options = nullptr;
  };
  static const Tables& tables() {
    static const Tables made = [] {
      Tables result;
      // Fails closed: without memory at the first connection there is no session either.
      if (nghttp2_session_callbacks_new(&result.callbacks) != 0) return Tables{};
      nghttp2_session_callbacks* c = result.callbacks;
      nghttp2_session_callbacks_set_on_begin_frame_callback(c, begin_frame);
      nghttp2_session_callbacks_set_on_begin_headers_callback(c, begin_headers);
      nghttp2_session_callbacks_set_on_header_callback(c, header);
      nghttp2_session_callbacks_set_on_invalid_header_callback(c, invalid_header);
      nghttp2_session_callbacks_set_on_frame_recv_callback(c, frame_received);
      nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, invalid_frame);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, data);
      nghttp2_session_callbacks_set_on_stream_close_callback(c, stream_closed);
      nghttp2_session_callbacks_set_on_frame_not_send_callback(c, frame_not_sent);
      nghttp2_session_callbacks_set_on_frame_send_callback(c, frame_sent);
      nghttp2_session_callbacks_set_send_data_callback(c, send_data);
      if (nghttp2_option_new(&result.options) != 0) return Tables{};
      nghttp2_option* o = result.options;
      nghttp2_option_set_no_auto_window_update(o, 1);  // only as fast as the other side takes it
      nghttp2_option_set_no_closed_streams(o, 1);
      nghttp2_option_set_max_reserved_remote_streams(o, 0);
      nghttp2_option_set_max_continuations(o, limits::kH2ContinuationsMax);
      nghttp2_option_set_max_settings(o, limits::kH2SettingsMax);
      return result;
    }();
    return made;
  }
};

Connection::Connection(net::Stream& transport, Role role)
    : transport_(transport),
      budget_(transport.loop().now()),
      meter_(role == Role::server ? NGHTTP2_CLIENT_MAGIC_LEN : 0),
      wake_(transport.loop()),
      writing_task_(transport.loop()) {
  const Callbacks::Tables& tables = Callbacks::tables();
  nghttp2_session* session = nullptr;
  if (tables.options == nullptr) {
    failed_ = true;
    return;
  }
  const auto create = role == Role::server ? nghttp2_session_server_new3 : nghttp2_session_client_new3;
  const int made = create(&session, tables.callbacks, this, tables.options, wiping_memory());
  failed_ = made != 0;  // out of memory: fails closed
  session_.reset(session);
}

Connection::~Connection() = default;

void RecentResets::add(std::int32_t stream) {
  if (streams_.size() < limits::kH2StreamsMax) {
    streams_.push_back(stream);
    return;
  }
  streams_[oldest_] = stream;
  oldest_ = (oldest_ + 1) % streams_.size();
}

bool RecentResets::has(std::int32_t stream) const { return std::ranges::find(streams_, stream) != streams_.end(); }

bool Connection::charge(std::uint32_t count) {
  if (budget_.spend(count, loop().now())) return true;
  terminate(NGHTTP2_ENHANCE_YOUR_CALM, "a flood of frames that ask for nothing");
  return false;
}

void Connection::terminate(std::uint32_t code, std::string why) {
  if (complaint_.empty()) complaint_ = std::move(why);
  nghttp2_session_terminate_session(session_.get(), code);
  flush();
}

void Connection::wind_down() {
  if (winding_down_ || failed_) return;
  winding_down_ = true;
  nghttp2_submit_shutdown_notice(session_.get());
  last_call_ = loop().in(limits::kH2DrainNotice);
  flush();
  wake_.set();
}

bool Connection::over() const {
  if (failed_ || write_failed_) return true;
  return out_.empty() && !writing_ && nghttp2_session_want_read(session_.get()) == 0 &&
         nghttp2_session_want_write(session_.get()) == 0;
}

void Connection::flush() {
  if (inside_ || failed_ || write_failed_) return;
  while (out_.size() < limits::kH2OutBytes) {
    const std::uint8_t* bytes = nullptr;
    inside_ = true;
    const ssize_t size = nghttp2_session_mem_send(session_.get(), &bytes);
    inside_ = false;
    if (size < 0) failed_ = true;  // out of memory
    if (size <= 0) break;
    out_.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
    out_has_fields_ = true;  // or a frame without any, which is as small
    // nghttp2 keeps the memory of the frame until there is a next one, and does not look at it again.
    wipe(const_cast<std::uint8_t*>(bytes), static_cast<std::size_t>(size));
  }
  if (!out_.empty() || over()) wake_.set();
}

// A connection begins with a window of 64 KiB, which HTTP/2 gives to everybody. Bodies make it wider where the worker
// has some left, or one stream that rests would hold up the others.
void Connection::widen_window() {
  constexpr std::int32_t kMore = limits::kH2ConnectionWindow - NGHTTP2_INITIAL_CONNECTION_WINDOW_SIZE;
  if (!body_came_ || window_share_.held() || !window_share_.take(kMore)) return;
  // Without memory for it the window stays as it is.
  nghttp2_session_set_local_window_size(session_.get(), NGHTTP2_FLAG_NONE, 0, limits::kH2ConnectionWindow);
}

void Connection::feed(std::string_view bytes) {
  const FrameMeter::Count frames = meter_.count(bytes);
  if (!charge(frames.others + frames.resets * limits::kH2ResetCost)) {
    after_read();
    return;
  }
  inside_ = true;
  const ssize_t taken =
      nghttp2_session_mem_recv(session_.get(), reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  inside_ = false;
  if (taken < 0) {
    const bool alien = taken == NGHTTP2_ERR_BAD_CLIENT_MAGIC;
    if (complaint_.empty()) complaint_ = nghttp2_strerror(static_cast<int>(taken));
    terminate(alien ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_ENHANCE_YOUR_CALM, {});
  }
  widen_window();
  flush();
  after_read();
  flush();
}

// Reads what is there, up to a fair share.
void Connection::read_turn(bool& ended, bool& more) {
  net::ReadBuffer buffer;
  for (std::size_t turn = 0; turn < limits::kFairnessBytes;) {
    const std::optional<Result<std::size_t>> count = transport_.try_read(buffer.space());
    more = count.has_value();
    if (!more) return;
    ended = !*count || **count == 0;
    if (ended && !over()) peer_left_ = true;
    if (ended) return;
    buffer.filled(**count);
    turn += **count;
    const std::string_view bytes = buffer.unread();
    if (!over()) {
      feed(bytes);
    } else {
      discarded_ += bytes.size();
    }
    buffer.consume(bytes.size());
  }
}

net::Task<void> Connection::read_all() {
  bool ended = false;
  while (!ended && discarded_ < limits::kLingerBytesMax) {
    const net::Wait wait = co_await transport_.wait_readable(look_again());
    if (wait == net::Wait::cancelled) co_return;
    if (wait == net::Wait::timeout) {
      if (!over()) look();
      continue;
    }
    bool more = true;
    while (more && !ended) {
      read_turn(ended, more);
      if (more && !ended) co_await loop().yield();
    }
  }
}

net::Task<void> Connection::write_all() {
  while (true) {
    // Without a deadline it ends with its owner.
    const net::Wait wait = co_await wake_.wait(last_call_);
    wake_.reset();
    if (wait == net::Wait::timeout) {
      last_call_ = net::kNoDeadline;
      nghttp2_submit_goaway(session_.get(), NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_.get()),
                            NGHTTP2_NO_ERROR, nullptr, 0);
      flush();
    }
    before_write();
    while (!out_.empty()) {
      out_.swap(sending_);
      const bool has_fields = std::exchange(out_has_fields_, false);
      writing_ = true;
      Result<void> written = co_await transport_.write_all(sending_, loop().in(limits::kBodyIdleTimeout));
      writing_ = false;
      if (has_fields) wipe(sending_.data(), sending_.size());
      sending_.clear();
      if (!written) {
        // A peer that leaves without reading resets the connection, which a write may find out before a read does.
        if (written.error().kind == ErrorKind::reset && !over()) peer_left_ = true;
        write_failed_ = true;
        transport_.cancel();
        co_return;
      }
      flush();
    }
    if (sending_.capacity() > limits::kBufferBytes) sending_ = WipedString();
    if (out_.capacity() > limits::kBufferBytes) out_ = WipedString();
    if (over()) break;
  }
  // The peer gets some time to read why, and to close (as in HTTP/1).
  transport_.shutdown_write();
  co_await loop().sleep_until(loop().in(limits::kLingerIdleTimeout));
  transport_.cancel();
}

net::Task<void> Connection::work(std::string_view early, std::span<const nghttp2_settings_entry> settings) {
  if (!failed_ && nghttp2_submit_settings(session_.get(), NGHTTP2_FLAG_NONE, settings.data(), settings.size()) == 0) {
    writing_task_.start(write_all());
    flush();
    if (!early.empty()) feed(early);
    co_await read_all();
  }
  lose_streams({transport_.source(), ErrorKind::closed, "the connection of HTTP/2 has ended"});
}

}  // namespace sallyport::http2
