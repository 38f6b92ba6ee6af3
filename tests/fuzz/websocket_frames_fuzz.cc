// The frames of a WebSocket: however they are cut, what passes is what a second implementation lets pass, which has
// the whole input before it and reads it frame by frame, as RFC 6455 section 5 says. The first bytes of an input say
// who sends, whether compression was agreed on, how large a message may be, and how it is cut.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/http1/websocket_frames.h"
#include "tests/fuzz/require.h"

namespace sallyport::http1 {
namespace {

using fuzz::require;

struct Rules {
  bool from_client = false;
  bool deflate = false;
  std::uint64_t message_bytes_max = 0;
};

// What there is to say about an input that ends where it ends.
struct Judgement {
  std::size_t passed = 0;   // bytes that may go on
  unsigned wrong = 0;       // close code of what follows them; 0: nothing is wrong
  bool at_boundary = true;  // what has passed ends with a frame
  std::optional<unsigned> closed;
};

struct Frame {
  unsigned final, reserved, opcode, masked;
  std::uint64_t length;
  std::string_view mask;
  std::size_t header_size;
};

// Nothing while the header is incomplete. `minimal` says whether the length is written as RFC 6455 wants it.
std::optional<Frame> frame_at(std::string_view bytes, bool& minimal) {
  const auto number = [&](std::size_t at, std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i) value = value * 256 + static_cast<unsigned char>(bytes[at + i]);
    return value;
  };
  if (bytes.size() < 2) return std::nullopt;
  const unsigned first = static_cast<unsigned char>(bytes[0]), second = static_cast<unsigned char>(bytes[1]);
  Frame frame{first / 128, first / 16 % 8, first % 16, second / 128, second % 128, {}, 2};
  minimal = true;
  const std::size_t more = frame.length == 126 ? 2 : frame.length == 127 ? 8 : 0;
  if (bytes.size() < 2 + more + 4 * frame.masked) return std::nullopt;
  if (more > 0) {
    frame.length = number(2, more);
    minimal = frame.length > (more == 2 ? 125u : 65'535u) && frame.length < 1ULL << 63;
  }
  frame.mask = bytes.substr(2 + more, 4 * frame.masked);
  frame.header_size = 2 + more + frame.mask.size();
  return frame;
}

bool opcode_fits(const Frame& frame, bool in_message) {
  switch (frame.opcode) {
    case 0:
      return in_message;
    case 1:
    case 2:
      return !in_message;
    case 8:
      return frame.final && frame.length <= 125 && frame.length != 1;
    case 9:
    case 10:
      return frame.final && frame.length <= 125;
    default:
      return false;
  }
}

bool reserved_fit(const Frame& frame, bool deflate) {
  const bool begins_message = frame.opcode == 1 || frame.opcode == 2;
  return frame.reserved == 0 || (frame.reserved == 4 && deflate && begins_message);
}

bool may_be_sent(unsigned code) {
  switch (code) {
    case 1004:
    case 1005:
    case 1006:
      return false;
    default:
      return (code >= 1000 && code <= 1014) || (code >= 3000 && code <= 4999);
  }
}

// The code of a close frame, as sent: 1005 stands for none. Nothing while it is not there.
std::optional<unsigned> close_code(const Frame& frame, std::string_view payload) {
  if (frame.length == 0) return 1005;
  if (payload.size() < 2) return std::nullopt;
  unsigned bytes[2];
  for (std::size_t i = 0; i < 2; ++i) {
    bytes[i] = static_cast<unsigned char>(payload[i] ^ (frame.masked != 0 ? frame.mask[i] : 0));
  }
  return bytes[0] * 256 + bytes[1];
}

Judgement judge(std::string_view input, const Rules& rules) {
  Judgement result;
  bool in_message = false;
  std::uint64_t message = 0;
  while (!result.closed) {
    const std::string_view rest = input.substr(result.passed);
    bool minimal = true;
    const std::optional<Frame> frame = frame_at(rest, minimal);
    if (!frame) return result;
    const bool good = minimal && frame->masked == (rules.from_client ? 1u : 0u) && opcode_fits(*frame, in_message) &&
                      reserved_fit(*frame, rules.deflate);
    if (!good) return result.wrong = 1002, result;
    const std::string_view payload = rest.substr(frame->header_size);
    std::optional<unsigned> code;
    if (frame->opcode == 8) {
      code = close_code(*frame, payload);
      if (!code) return result;
      if (frame->length > 0 && !may_be_sent(*code)) return result.wrong = 1002, result;
    }
    if (frame->opcode < 8) {
      message = (in_message ? message : 0) + frame->length;
      if (message > rules.message_bytes_max) return result.wrong = 1009, result;
      in_message = frame->final == 0;
    }
    const bool whole = payload.size() >= frame->length;
    result.passed += frame->header_size + (whole ? static_cast<std::size_t>(frame->length) : payload.size());
    result.at_boundary = whole;
    if (!whole) return result;
    result.closed = code;
  }
  return result;
}

struct Cutter {
  std::uint32_t state;
  // Small pieces mostly: headers are what is cut.
  std::size_t next() {
    state = state * 1'664'525 + 1'013'904'223;
    const unsigned kind = state >> 30;
    return kind == 3 ? 1 + (state >> 16) % 400 : 1 + (state >> 16) % (kind == 0 ? 1 : 20);
  }
};

void check(std::string_view input, const Rules& rules, std::uint32_t cuts) {
  FrameChecker checker(rules.from_client ? FrameSender::client : FrameSender::server, rules.deflate,
                       rules.message_bytes_max);
  Cutter cutter{cuts};
  std::size_t here = 0, passed = 0;
  while (here < input.size()) {
    here = std::min(input.size(), here + (cuts == 0 ? input.size() : cutter.next()));
    const std::string_view piece = input.substr(passed, here - passed);
    const std::unique_ptr<char[]> copy = std::make_unique<char[]>(piece.size());
    piece.copy(copy.get(), piece.size());
    const FrameChecker::Checked checked = checker.check({copy.get(), piece.size()});
    require(checked.bytes <= piece.size(), "no more passes than has come");
    passed += checked.bytes;
    const Judgement right = judge(input.substr(0, here), rules);
    require(passed == right.passed, "exactly what is right passes");
    require((checked.problem ? checked.problem->close_code : 0u) == right.wrong, "what is wrong is found, at once");
    if (checked.problem) {
      const FrameChecker::Checked again = checker.check(input.substr(passed));
      require(again.bytes == 0 && again.problem, "behind what is wrong nothing passes");
      return;
    }
    require(checker.closed() || piece.size() - checked.bytes < FrameChecker::kHeaderBytesMax,
            "no more than a header is held");
    require(checker.at_boundary() == right.at_boundary, "a frame is over where it is over");
    require(checker.closed() == right.closed, "the close frame is seen, and its code");
  }
}

}  // namespace
}  // namespace sallyport::http1

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::http1;
  if (size < 3) return 0;
  constexpr std::uint64_t kLimits[] = {1, 10, 126, 1'000, 65'536, 1 << 20, 1ULL << 40, UINT64_MAX >> 1};
  const Rules rules{(data[0] & 1) != 0, (data[0] & 2) != 0, kLimits[data[0] >> 2 & 7]};
  const std::string_view input(reinterpret_cast<const char*>(data) + 2, size - 2);
  check(input, rules, 0);
  check(input, rules, data[1] + 1u);
  return 0;
}
