#include "proxy/http1/websocket_messages.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sallyport::http1 {
namespace {

constexpr std::uint16_t kNotAccepted = 1003;

bool is_control(Opcode opcode) { return static_cast<unsigned>(opcode) >= 8; }

}  // namespace

void apply_mask(std::span<char> bytes, const FrameMask& mask, std::size_t phase) {
  std::array<unsigned char, 8> wide{};
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = mask[(phase + i) % mask.size()];
  std::uint64_t key = 0;
  std::memcpy(&key, wide.data(), sizeof key);
  std::size_t at = 0;
  for (; at + sizeof key <= bytes.size(); at += sizeof key) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    word ^= key;
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  for (; at < bytes.size(); ++at) bytes[at] = static_cast<char>(bytes[at] ^ wide[at % wide.size()]);
}

void append_frame_header(std::string& out, Opcode opcode, std::uint64_t payload_bytes, const FrameMask* mask) {
  std::array<char, 14> header{};
  std::size_t size = 0;
  const unsigned masked = mask != nullptr ? 0x80 : 0;
  const auto put = [&](std::uint64_t byte) { header[size++] = static_cast<char>(byte); };
  put(0x80U | static_cast<unsigned>(opcode));
  std::size_t length_bytes = 0;
  if (payload_bytes < 126) {
    put(masked | payload_bytes);
  } else {
    length_bytes = payload_bytes <= 0xFFFF ? 2 : 8;
    put(masked | (length_bytes == 2 ? 126U : 127U));
  }
  while (length_bytes-- > 0) put(payload_bytes >> (8 * length_bytes) & 0xFF);
  if (mask != nullptr) {
    for (const unsigned char byte : *mask) put(byte);
  }
  out.append(header.data(), size);
}

bool MessageReader::begin_frame(std::string_view bytes, std::size_t& at) {
  const FrameChecker::Header header = FrameChecker::read_header(bytes.substr(at));
  if (header.size == 0) return false;
  frame_ = {.opcode = static_cast<Opcode>(header.opcode),
            .final = header.final,
            .masked = header.masked,
            .left = static_cast<std::size_t>(header.length)};
  if (header.masked) {
    std::memcpy(frame_.mask.data(), bytes.data() + at + header.size - frame_.mask.size(), frame_.mask.size());
  }
  at += header.size;
  in_frame_ = true;
  control_size_ = 0;
  return true;
}

MessageReader::Next MessageReader::end_control() const {
  const std::string_view payload(control_.data(), control_size_);
  if (frame_.opcode == Opcode::ping) return {.what = What::ping, .payload = payload};
  if (frame_.opcode == Opcode::pong) return {.what = What::pong, .payload = payload};
  const std::string_view words = payload.size() < 2 ? std::string_view() : payload.substr(2);
  return {.what = What::closed, .payload = words, .close_code = checker_.closed().value_or(1005)};
}

// Takes what is here of the frame; tells of what is whole with it.
std::optional<MessageReader::Next> MessageReader::take_payload(std::span<char> bytes, std::size_t& at) {
  const std::size_t count = std::min(frame_.left, bytes.size() - at);
  const std::span<char> piece = bytes.subspan(at, count);
  if (frame_.masked) apply_mask(piece, frame_.mask, frame_.taken);
  at += count;
  frame_.left -= count;
  frame_.taken += count;
  const std::string_view text(piece.data(), piece.size());
  if (is_control(frame_.opcode)) {
    text.copy(control_.data() + control_size_, text.size());
    control_size_ += text.size();
    if (frame_.left > 0) return std::nullopt;
    in_frame_ = false;
    return end_control();
  }
  const bool whole = frame_.left == 0 && frame_.final;
  const bool at_once = whole && !fragmented_ && count == frame_.taken;
  if (!at_once) message_ += text;
  if (frame_.left == 0) {
    in_frame_ = false;
    fragmented_ = !frame_.final;
  }
  if (!whole) return std::nullopt;
  delivered_ = true;
  return Next{.what = What::message, .payload = at_once ? text : std::string_view(message_)};
}

// A link that is idle has no memory for messages.
void MessageReader::let_go_of_message() {
  if (!delivered_) return;
  delivered_ = false;
  std::string().swap(message_);  // an assignment would keep the memory
}

MessageReader::Next MessageReader::next(std::span<char> bytes) {
  let_go_of_message();
  if (!problem_ && bytes.size() > checked_) {
    const FrameChecker::Checked checked =
        checker_.check(std::string_view(bytes.data() + checked_, bytes.size() - checked_));
    checked_ += std::min(checked.bytes, bytes.size() - checked_);
    problem_ = checked.problem;
  }
  const std::span<char> good = bytes.first(checked_);
  std::size_t at = 0;
  const auto told = [&](Next next) {
    next.consumed = at;
    checked_ -= at;
    return next;
  };
  while (in_frame_ || at < good.size()) {
    if (!in_frame_ && !begin_frame({good.data(), good.size()}, at)) break;
    if (frame_.opcode == Opcode::text) {
      return told({.what = What::broken, .payload = "a message is text", .close_code = kNotAccepted});
    }
    if (frame_.left > 0 && at == good.size()) break;
    if (const std::optional<Next> next = take_payload(good, at)) return told(*next);
  }
  if (problem_) return told({.what = What::broken, .payload = problem_->text, .close_code = problem_->close_code});
  return told({});
}

}  // namespace sallyport::http1
