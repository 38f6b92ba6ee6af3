#pragma once
// An HTTP/2 connection (RFC 9113): nghttp2 on a byte stream. This is what both roles share: reading, writing, bounds,
// the end. One coroutine reads and one writes; exchanges hand their frames over and are woken.

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "proxy/http2/field_writer.h"
#include "proxy/http2/frame_meter.h"
#include "proxy/http2/stream.h"
#include "proxy/http2/window_share.h"
#include "proxy/http2/wiping_memory.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/stream.h"

namespace sallyport::http2 {

// Frames that a peer may send without asking for anything: pings, settings, resets, window updates, empty data, and
// what nobody knows. Every frame is paid for, and real work earns more than it costs. Who has used all up is flooding.
class FrameBudget {
 public:
  explicit FrameBudget(net::Deadline now) : refilled_(now) {}
  void earn(std::uint32_t count);
  bool spend(std::uint32_t count, net::Deadline now);  // false: none are left

 private:
  std::int64_t left_ = limits::kH2IdleFramesMax;
  net::Deadline refilled_;
};

// The streams that were reset last, as many as can be open at one time: what the peer sent for them before it heard of
// that may still come. Small while there are none.
class RecentResets {
 public:
  void add(std::int32_t stream);
  bool has(std::int32_t stream) const;

 private:
  std::vector<std::int32_t> streams_;
  std::size_t oldest_ = 0;
};

class Connection {
 public:
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  virtual ~Connection();

  net::Loop& loop() const { return transport_.loop(); }
  nghttp2_session* session() const { return session_.get(); }
  FieldWriter& writer() { return writer_; }
  // Moves frames that may be sent to the writing coroutine. Nothing when called from within nghttp2: it comes later.
  void flush();
  // From within nghttp2: bytes of the frame that is being sent.
  void put(std::string_view bytes) { out_ += bytes; }

 protected:
  enum class Role : std::uint8_t { server, client };
  Connection(net::Stream& transport, Role role);

  // Once. Reads and writes until either side has ended the connection. When it returns no more frames come or go; the
  // streams have been told, and may still be there. `early` was read from the transport already.
  net::Task<void> work(std::string_view early, std::span<const nghttp2_settings_entry> settings);
  // Ends it with GOAWAY.
  void terminate(std::uint32_t code, std::string why);
  // No new streams from now on (RFC 9113 section 6.8): GOAWAY twice, so that none is lost that is on its way.
  void wind_down();
  // Why it ended, if that was the peer's mistake.
  const std::string& complaint() const { return complaint_; }
  bool over() const;
  // Whether it was the peer that closed it.
  bool peer_left() const { return peer_left_; }
  // Ends reading and writing at once.
  void break_off() { transport_.cancel(); }

  // Within nghttp2, as those of Stream. Null: the stream was refused, and what comes for it is ignored.
  virtual Stream* on_new_stream(std::int32_t id) = 0;
  virtual void on_complaint(std::int32_t id, std::string_view why) = 0;
  // The peer's SETTINGS have come, for the first time or again.
  virtual void on_settings() = 0;
  // The peer wants HTTP/1 instead, of a stream or of all.
  virtual void on_http1_required() = 0;
  // Outside of it: after frames have been read, and before the writing coroutine writes.
  virtual void after_read() = 0;
  virtual void before_write() = 0;
  // When the reading coroutine should look at the time again, and what it does then.
  virtual net::Deadline look_again() = 0;
  virtual void look() = 0;
  // The connection is going: tell every stream.
  virtual void lose_streams(const Error& error) = 0;

  bool in_header_block() const { return in_block_; }
  net::Deadline block_began() const { return block_began_; }
  void wake_writer() { wake_.set(); }

 private:
  struct SessionDeleter {
    void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
  };
  struct Callbacks;
  friend struct Callbacks;

  void feed(std::string_view bytes);
  void widen_window();
  bool charge(std::uint32_t count);
  net::Task<void> read_all();
  net::Task<void> write_all();
  void read_turn(bool& ended, bool& more);

  net::Stream& transport_;
  bool inside_ = false;  // of nghttp2
  bool failed_ = false;  // the session can't go on
  bool write_failed_ = false;
  bool writing_ = false;
  bool in_block_ = false;
  bool winding_down_ = false;
  bool peer_left_ = false;
  std::uint64_t discarded_ = 0;
  net::Deadline block_began_ = net::Deadline::min();
  net::Deadline last_call_ = net::kNoDeadline;  // when a winding down becomes final
  std::string complaint_;
  FrameBudget budget_;
  RecentResets resets_;  // by this side
  FrameMeter meter_;
  WindowShare window_share_;
  bool body_came_ = false;
  FieldWriter writer_;
  // Fields are in them, and some are credentials.
  bool out_has_fields_ = false;
  WipedString out_;      // to be written next
  WipedString sending_;  // being written
  net::Event wake_;
  std::unique_ptr<nghttp2_session, SessionDeleter> session_;
  net::Concurrent writing_task_;  // last: its frame refers to everything above
};

}  // namespace sallyport::http2
