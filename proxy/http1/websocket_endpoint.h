#pragma once
// One end of a WebSocket (RFC 6455) over a stream, after its opening handshake: binary messages, whole, in both
// directions. Pings are answered, frames that break the protocol end it, and an idle one holds no buffers.
//
// One coroutine reads (wait_readable, try_receive) and one runs write_queued(). What is queued meanwhile goes out
// together: many small messages are one TLS record and one system call. All on the stream's thread.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "proxy/http1/websocket_messages.h"
#include "proxy/net/loop.h"
#include "proxy/net/read_buffer.h"
#include "proxy/net/stream.h"

namespace sallyport::http1 {

class WebSocketEndpoint {
 public:
  // `self` decides who masks. `already_read` came behind the head of the handshake.
  WebSocketEndpoint(net::Stream& stream, FrameSender self, std::size_t message_bytes_max,
                    std::string_view already_read = {});
  WebSocketEndpoint(const WebSocketEndpoint&) = delete;
  WebSocketEndpoint& operator=(const WebSocketEndpoint&) = delete;

  // The next message, if it is here as a whole; it stays until the next call. Nothing: wait_readable() first. Errors
  // are final: `malformed` when the other end broke the protocol (a close frame that says so is queued), `closed` when
  // it has sent its close frame, or ended without.
  Result<std::optional<std::string_view>> try_receive();
  // Until try_receive() may have something to tell. Holds no buffer if nothing of a message is here.
  net::Task<net::Wait> wait_readable(net::Deadline deadline);
  bool in_message() const { return reader_.in_message() || !buffer_.empty(); }
  // Memory that messages under way take, besides a block while something is unread.
  std::size_t held() const { return reader_.held(); }
  void set_message_bytes_max(std::size_t bytes) { reader_.set_message_bytes_max(bytes); }
  // Anything at all came from the other end since the last call: what tells that it lives.
  bool heard() { return std::exchange(heard_, false); }

  // Queues a binary message of `size` bytes that `write` puts at the place it is given. Nothing is queued once close()
  // has been called.
  template <class Write>
  void queue(std::size_t size, Write&& write) {
    if (char* payload = begin_frame(Opcode::binary, size)) {
      std::forward<Write>(write)(payload);
      end_frame(size);
    }
  }
  void queue(std::string_view message) {
    queue(message.size(), [&](char* to) { message.copy(to, message.size()); });
  }
  // The same frame for many connections, as frame() makes it. Servers only: what clients send is masked for each.
  void queue_shared(std::shared_ptr<const std::string> frame);
  static std::string frame(std::string_view message);
  void ping();
  // Bytes that are queued or being written.
  std::size_t queued() const { return queued_; }

  // Queues a close frame, behind all that is queued. write_queued() ends when it is out.
  void close(std::uint16_t code, std::string_view reason);
  bool closing() const { return closing_; }
  // Writes what is queued, now and later. Ends with an error when the other end takes nothing for
  // limits::kLinkWriteTimeout; every wait then ends, too.
  net::Task<Result<void>> write_queued();
  // For the end of it: reads what still comes, and throws it away, until the other end has ended or a wait is
  // cancelled. A connection that is closed with bytes unread is reset, and that may overtake the close frame.
  net::Task<void> read_away(net::Deadline deadline);
  // Set while no more than `limits::kLinkQueuedBytesPause` bytes are queued: who reads waits for it, so that an other
  // end that asks and does not read is not read from either.
  net::Event& room() { return room_; }

 private:
  struct Piece {
    std::string own;
    std::shared_ptr<const std::string> shared;
  };
  char* begin_frame(Opcode opcode, std::size_t size);
  void end_frame(std::size_t size);
  void queue_control(Opcode opcode, std::string_view payload);
  void count(std::size_t bytes);
  net::Task<Result<void>> write(std::string_view bytes);
  Result<std::optional<std::string_view>> tell(const MessageReader::Next& next);

  net::Stream& stream_;
  FrameSender self_;
  MessageReader reader_;
  net::ReadBuffer buffer_;
  bool heard_ = false;
  bool turn_over_ = false;  // there may be more, but others are to have their turn

  std::vector<Piece> pieces_;
  FrameMask mask_{};  // of the frame that is being written
  std::size_t queued_ = 0;
  bool closing_ = false;
  net::Event to_write_;
  net::Event room_;
};

}  // namespace sallyport::http1
