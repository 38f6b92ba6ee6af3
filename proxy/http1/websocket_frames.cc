#include "proxy/http1/websocket_frames.h"

#include <algorithm>

#include "policy-engine/request/head.h"
#include "proxy/http1/syntax.h"

namespace sallyport::http1 {
namespace {

constexpr unsigned kContinuation = 0, kBinary = 2, kClose = 8, kPong = 10;  // text is 1, ping 9
constexpr unsigned kRsv1 = 4;
constexpr std::size_t kMaskBytes = 4;
constexpr std::uint16_t kProtocolError = 1002, kTooLarge = 1009, kNoCode = 1005;

unsigned byte_at(std::string_view bytes, std::size_t at) { return static_cast<unsigned char>(bytes[at]); }

// RFC 6455 section 7.4: those that may stand in a frame.
bool is_close_code(unsigned code) {
  if (code >= 3000 && code <= 4999) return true;
  return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

}  // namespace

FrameChecker::Header FrameChecker::read_header(std::string_view bytes) {
  Header header;
  if (bytes.size() < 2) return header;
  header.final = (byte_at(bytes, 0) & 0x80) != 0;
  header.reserved = byte_at(bytes, 0) >> 4 & 7;
  header.opcode = byte_at(bytes, 0) & 15;
  header.masked = (byte_at(bytes, 1) & 0x80) != 0;
  const unsigned short_length = byte_at(bytes, 1) & 0x7F;
  const std::size_t length_bytes = short_length == 126 ? 2 : short_length == 127 ? 8 : 0;
  const std::size_t size = 2 + length_bytes + (header.masked ? kMaskBytes : 0);
  if (bytes.size() < size) return header;
  header.length = length_bytes == 0 ? short_length : 0;
  for (std::size_t i = 0; i < length_bytes; ++i) header.length = header.length << 8 | byte_at(bytes, 2 + i);
  if (length_bytes == 2) header.short_enough = header.length >= 126;
  if (length_bytes == 8) header.short_enough = header.length > 0xFFFF;
  header.size = size;
  return header;
}

std::string_view FrameChecker::judge_control(const Header& header) const {
  if (header.opcode > kPong) return "a frame has an opcode that means nothing";
  if (!header.final) return "a control frame is fragmented";
  if (header.length > 125) return "a control frame is longer than 125 bytes";
  if (header.reserved != 0) return "a control frame has a reserved bit";
  if (header.opcode == kClose && header.length == 1) return "a close frame has half a code";
  return {};
}

// What is wrong with a frame by its header alone; empty if nothing is.
std::string_view FrameChecker::judge(const Header& header) const {
  if (header.masked != (sender_ == FrameSender::client)) {
    return header.masked ? "a frame of the server is masked" : "a frame of the client is not masked";
  }
  if (!header.short_enough || header.length >> 63 != 0) return "a length is not in its shortest form";
  if (header.opcode >= kClose) return judge_control(header);
  if (header.opcode > kBinary) return "a frame has an opcode that means nothing";
  if (in_message_ != (header.opcode == kContinuation)) {
    return in_message_ ? "a message begins within another" : "a continuation has no message to continue";
  }
  const unsigned allowed = deflate_ && header.opcode != kContinuation ? kRsv1 : 0;
  if ((header.reserved & ~allowed) != 0) return "a frame has a reserved bit that nobody agreed on";
  return {};
}

// `code` are the bytes behind the header of a close frame that has a code, as they are sent.
std::optional<FrameProblem> FrameChecker::begin(const Header& header, std::string_view code) {
  payload_left_ = header.length - code.size();
  if (header.opcode == kClose) {
    const unsigned value = code.empty() ? kNoCode : byte_at(code, 0) << 8 | byte_at(code, 1);
    if (!code.empty() && !is_close_code(value)) {
      return FrameProblem{kProtocolError, "a close frame has a code that is none"};
    }
    close_code_ = static_cast<std::uint16_t>(value);
  }
  if (header.opcode >= kClose) return std::nullopt;
  if (!in_message_) message_bytes_ = 0;
  if (header.length > message_bytes_max_ - message_bytes_) {
    return FrameProblem{kTooLarge, "a message is larger than the policy allows"};
  }
  message_bytes_ += header.length;
  in_message_ = !header.final;
  return std::nullopt;
}

std::size_t FrameChecker::finish_frame(std::string_view bytes) {
  const std::size_t passes = static_cast<std::size_t>(std::min<std::uint64_t>(payload_left_, bytes.size()));
  payload_left_ -= passes;
  return passes;
}

FrameChecker::Checked FrameChecker::check(std::string_view bytes) {
  Checked checked;
  while (checked.bytes < bytes.size()) {
    const std::string_view rest = bytes.substr(checked.bytes);
    if (payload_left_ > 0) {
      checked.bytes += finish_frame(rest);
      continue;
    }
    if (close_code_) return checked;
    const Header header = read_header(rest);
    if (header.size == 0) return checked;
    if (const std::string_view wrong = judge(header); !wrong.empty()) {
      checked.problem = FrameProblem{kProtocolError, wrong};
      return checked;
    }
    char code[2];
    const std::size_t code_size = header.opcode == kClose && header.length >= 2 ? 2 : 0;
    if (rest.size() < header.size + code_size) return checked;
    for (std::size_t i = 0; i < code_size; ++i) {
      const unsigned mask = header.masked ? byte_at(rest, header.size - kMaskBytes + i) : 0;
      code[i] = static_cast<char>(byte_at(rest, header.size + i) ^ mask);
    }
    checked.problem = begin(header, {code, code_size});
    if (checked.problem) {
      payload_left_ = 0;  // nothing of it goes on
      return checked;
    }
    checked.bytes += header.size + code_size;
  }
  return checked;
}

bool is_only_deflate(std::string_view extensions) {
  bool any = false, good = true;
  for_each_element(extensions, [&](std::string_view extension) {
    std::string_view name = extension.substr(0, extension.find(';'));
    while (!name.empty() && (name.back() == ' ' || name.back() == '\t')) name.remove_suffix(1);
    any = true;
    good = request::name_equals(name, "permessage-deflate");
    return good;
  });
  return any && good;
}

}  // namespace sallyport::http1
