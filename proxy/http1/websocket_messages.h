#pragma once
// The messages of one end of a WebSocket (RFC 6455), without any input or output: frames in, messages out, and the
// other way round. Messages are binary; text is refused. No extensions.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "proxy/http1/websocket_frames.h"

namespace sallyport::http1 {

enum class Opcode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

using FrameMask = std::array<unsigned char, 4>;

// XORs the bytes with the mask, of which `phase` bytes have been used (RFC 6455 section 5.3).
void apply_mask(std::span<char> bytes, const FrameMask& mask, std::size_t phase = 0);

// Appends the header of a whole frame; the payload is to follow, masked if there is a mask.
void append_frame_header(std::string& out, Opcode opcode, std::uint64_t payload_bytes, const FrameMask* mask);

// What comes from the other end.
class MessageReader {
 public:
  // `sender` is the other end. What its frames have to be is FrameChecker's to say.
  MessageReader(FrameSender sender, std::size_t message_bytes_max) : checker_(sender, false, message_bytes_max) {}

  enum class What : std::uint8_t { more, message, ping, pong, closed, broken };
  struct Next {
    What what = What::more;
    std::size_t consumed = 0;       // of the bytes, whatever came of them
    std::string_view payload = {};  // of a message, a ping or a pong: in the bytes, or here until the next call; of a
                                    // close frame the other end's words, of what is broken the reason
    std::uint16_t close_code = 0;   // of a close frame (1005: it had none), or what to answer what is broken with
  };
  // Looks at bytes that have not been consumed, the oldest first, until there is something to tell; they are unmasked
  // in place. After `closed` or `broken` there is nothing more to come. With `more` all but the beginning of a header
  // has been consumed.
  Next next(std::span<char> bytes);

  // A message has begun and is not here as a whole.
  bool in_message() const { return in_frame_ || fragmented_; }
  // Memory for a message that did not come at once.
  std::size_t held() const { return message_.capacity(); }
  void set_message_bytes_max(std::size_t bytes) { checker_.set_message_bytes_max(bytes); }

 private:
  struct Frame {
    Opcode opcode = Opcode::binary;
    bool final = false;
    bool masked = false;
    FrameMask mask{};
    std::size_t left = 0;
    std::size_t taken = 0;
  };
  static constexpr std::size_t kControlBytesMax = 125;

  bool begin_frame(std::string_view bytes, std::size_t& at);
  std::optional<Next> take_payload(std::span<char> bytes, std::size_t& at);
  Next end_control() const;
  void let_go_of_message();

  FrameChecker checker_;
  std::size_t checked_ = 0;  // of what has not been consumed
  std::optional<FrameProblem> problem_;
  bool in_frame_ = false;
  bool fragmented_ = false;  // frames of this message have been, and more are to come
  bool delivered_ = false;   // message_ has been given out
  Frame frame_;
  std::string message_;
  std::array<char, kControlBytesMax> control_;
  std::size_t control_size_ = 0;
};

}  // namespace sallyport::http1
