#pragma once
// One stream of an HTTP/2 connection: the bodies in both directions, and how it ends. What a head means is for those
// who derive from it. At most one coroutine receives and one sends at a time.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "proxy/http/exchange.h"
#include "proxy/http2/field_writer.h"
#include "proxy/http2/header_block.h"

namespace sallyport::http2 {

class Connection;

class Stream {
 public:
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  virtual ~Stream();  // detaches it

 protected:
  Stream(Connection& connection, ErrorSource source);
  void open(std::int32_t id) { id_ = id; }
  // The connection forgets it, and gets back the window of what nobody has read. For who may let go of the connection
  // before this goes: nothing can be sent or received any more.
  void detach();

  std::int32_t id() const { return id_; }
  Connection& connection() const { return connection_; }

  // The next piece of the body. The window that the piece before it took is opened again: who calls has passed it on.
  net::Task<Result<http::Chunk>> receive(net::Deadline deadline);
  // What is there already: may be empty, never waits.
  Result<http::Chunk> take();
  bool received_all() const { return remote_ended_ && in_.empty(); }
  bool remote_ended() const { return remote_ended_; }
  std::size_t buffered() const { return in_.size(); }
  const request::HeaderList& trailers() const { return trailers_; }
  // Set before the body comes: bytes that there must be, neither more nor fewer.
  void expect_bytes(std::uint64_t count) { bytes_left_ = count; }

  // Ready when something has arrived, or the stream has failed.
  net::Event& arrived() { return arrived_; }

  // Hands `data` to the connection, and with `end` the end of the message after it; returns when all of it is on its
  // way, which the peer's window may delay. `trailers` may be null, and must stay until this has returned.
  net::Task<Result<void>> send(std::string_view data, bool end, const request::HeaderList* trailers);
  // The two halves of it. What is unsent after the first may be shown from another place.
  void begin_send(std::string_view data, bool end, const request::HeaderList* trailers);
  net::Task<Result<void>> sent();
  net::Task<Result<void>> sent(net::Deadline deadline);
  std::string_view unsent() const { return out_; }
  void show_again(std::string_view data) { out_ = data; }
  bool sent_all() const { return local_ended_; }
  // The head that was submitted was all.
  void sent_without_body() { local_ended_ = true; }
  // What nghttp2 asks for the body of a message that has one.
  nghttp2_data_provider body_source();

  // Ends the stream with RST_STREAM if it is still open, and everything that waits for it.
  void reset(std::uint32_t code, Error error);
  // Ends what waits; the stream itself stays open.
  void fail_with(Error error);
  const std::optional<Error>& error() const { return error_; }
  bool closed() const { return closed_; }
  // The peer has said that it did nothing with it.
  bool refused() const { return refused_; }

  // Called within nghttp2: they may wake coroutines and submit frames, but neither send nor run anything.
  //
  // A header block is complete. False when the message is malformed: the stream is reset.
  virtual bool on_headers(std::unique_ptr<HeaderBlock> block, bool end) = 0;
  // The stream has failed, or the peer has closed it before its time.
  virtual void on_lost() = 0;

  // False when they refuse the message. Keeps the block.
  bool accept_trailers(std::unique_ptr<HeaderBlock> block);

 private:
  friend class Connection;
  friend class ClientConnection;
  friend class Tunnel;
  bool on_data(std::string_view data);
  bool on_end();
  void on_closed(std::uint32_t code);
  void give_back_window();
  bool put_data(const std::uint8_t* frame_header, std::size_t size);
  ssize_t pull(std::size_t size_max, std::uint32_t& flags);

  Connection& connection_;
  ErrorSource source_;
  std::int32_t id_ = 0;                 // 0: not open yet
  std::unique_ptr<HeaderBlock> block_;  // that is being received
  std::unique_ptr<HeaderBlock> trailer_block_;
  request::HeaderList trailers_;
  bool closed_ = false;
  bool refused_ = false;
  std::optional<Error> error_;

  std::string in_;        // received, and not taken
  std::string taken_;     // what the last Chunk shows
  std::size_t owed_ = 0;  // bytes taken for which the window is not open again
  std::optional<std::uint64_t> bytes_left_;
  bool remote_ended_ = false;
  net::Event arrived_;

  std::string_view out_;  // of the coroutine in send()
  const request::HeaderList* out_trailers_ = nullptr;
  bool out_ends_ = false;
  bool local_ended_ = false;
  net::Event moved_;
};

}  // namespace sallyport::http2
