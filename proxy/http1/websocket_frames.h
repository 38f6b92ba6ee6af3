#pragma once
// The frames of a WebSocket (RFC 6455 section 5), looked at while they pass: nothing is changed, and no message is
// held. What the two ends could read in two ways is refused, as in HTTP. The content of messages is theirs: whether
// text is UTF-8 is not looked at.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sallyport::http1 {

enum class FrameSender : std::uint8_t { client, server };

struct FrameProblem {
  std::uint16_t close_code = 0;  // 1002: it breaks the protocol; 1009: the message is too large
  std::string_view text;         // for a person; static
};

// One direction of one connection.
class FrameChecker {
 public:
  // `deflate`: permessage-deflate was agreed on (RFC 7692), so a message's first frame may have RSV1. The largest
  // message counts as it is sent, compressed or not.
  FrameChecker(FrameSender sender, bool deflate, std::uint64_t message_bytes_max)
      : sender_(sender), deflate_(deflate), message_bytes_max_(message_bytes_max) {}

  struct Checked {
    // Of the input, those that may go on. The rest, kHeaderBytesMax at most, comes again with more; once closed() it is
    // of no meaning (RFC 6455 section 5.5.1), and may be any number.
    std::size_t bytes = 0;
    std::optional<FrameProblem> problem;  // of what follows them: nothing more may go on, now or later
  };
  Checked check(std::string_view bytes);
  // In place of check() when nothing new may go on: how many of the bytes are still of the frame that has begun.
  std::size_t finish_frame(std::string_view bytes);

  // Nothing of a frame is outstanding: one of our own may follow.
  bool at_boundary() const { return payload_left_ == 0; }
  // The whole close frame has passed. Its code, 1005 if it had none.
  std::optional<std::uint16_t> closed() const { return payload_left_ == 0 ? close_code_ : std::nullopt; }

  // Of the messages that begin from now on.
  void set_message_bytes_max(std::uint64_t bytes) { message_bytes_max_ = bytes; }

  // Header, and of a close frame also its code.
  static constexpr std::size_t kHeaderBytesMax = 16;

  struct Header {
    std::size_t size = 0;  // 0: incomplete
    bool final = false;
    unsigned reserved = 0;
    unsigned opcode = 0;
    bool masked = false;
    std::uint64_t length = 0;
    bool short_enough = true;  // the length takes the fewest bytes it can
  };
  // Reads and does not judge.
  static Header read_header(std::string_view bytes);

 private:
  std::string_view judge(const Header& header) const;
  std::string_view judge_control(const Header& header) const;
  std::optional<FrameProblem> begin(const Header& header, std::string_view code);

  FrameSender sender_;
  bool deflate_;
  std::uint64_t message_bytes_max_;
  std::uint64_t payload_left_ = 0;
  std::uint64_t message_bytes_ = 0;  // of the message that is under way
  bool in_message_ = false;
  std::optional<std::uint16_t> close_code_;
};

// What Sec-WebSocket-Extensions names: nothing but permessage-deflate, with whatever parameters?
bool is_only_deflate(std::string_view extensions);

}  // namespace sallyport::http1
