// What comes over the link of guards, from either side: frames are the same messages however they are cut. A message of
// a controller goes to the guard's end, with a spool behind it: whatever that sends is an Envelope that a guard may
// say, and no event is taken that was not sent. A message of a guard means the same when it has been sent on.
//
// The first byte of an input says who sends, the second how it is cut; then come frames without masks: bytes that are
// masked would be out of a fuzzer's reach.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "controller/link/links.h"
#include "proxy/http1/websocket_messages.h"
#include "proxy/link/guard_end.h"
#include "tests/fuzz/require.h"

namespace sallyport::controller {
namespace {

using fuzz::require;
using http1::MessageReader;
using v1alpha1::Envelope;

constexpr std::size_t kMessageBytesMax = 65'536;

struct Told {
  std::vector<std::string> messages;
  unsigned end = 0;  // a close code
  bool operator==(const Told&) const = default;
};

Told read(std::string_view input, http1::FrameSender sender, std::size_t piece) {
  MessageReader reader(sender, kMessageBytesMax);
  Told told;
  std::string held;
  for (;;) {
    const MessageReader::Next next = reader.next(held);
    require(next.consumed <= held.size(), "no more is consumed than there is");
    require(reader.held() <= 2 * kMessageBytesMax, "no more is held than a message");
    switch (next.what) {
      case MessageReader::What::message:
        told.messages.emplace_back(next.payload);
        break;
      case MessageReader::What::ping:
      case MessageReader::What::pong:
        require(next.payload.size() <= 125, "control frames are short");
        break;
      case MessageReader::What::closed:
      case MessageReader::What::broken:
        told.end = next.close_code;
        require(told.end != 0, "an end has a code");
        return told;
      case MessageReader::What::more:
        held.erase(0, next.consumed);
        require(held.size() < http1::FrameChecker::kHeaderBytesMax, "no more than a header waits");
        if (input.empty()) return told;
        held += input.substr(0, piece);
        input.remove_prefix(std::min(piece, input.size()));
        continue;
    }
    held.erase(0, next.consumed);
  }
}

// Frames of a client, made of frames without masks by the length that each says; what is behind the last that fits is
// left as it is.
std::string masked(std::string_view frames) {
  std::string out;
  while (frames.size() >= 2 && (static_cast<unsigned char>(frames[1]) & 0x7F) < 126) {
    const std::size_t length = static_cast<unsigned char>(frames[1]) & 0x7F;
    if (frames.size() < 2 + length) break;
    const http1::FrameMask mask{7, 77, 177, static_cast<unsigned char>(length)};
    out += frames[0];
    out += static_cast<char>(length | 0x80);
    out.append(mask.begin(), mask.end());
    std::string payload(frames.substr(2, length));
    http1::apply_mask(payload, mask);
    out += payload;
    frames.remove_prefix(2 + length);
  }
  return out.append(frames);
}

// The guard's end without a connection, and without a thread: what is sent is looked at.
class Guard final : public link::GuardEnd {
 public:
  Guard() : GuardEnd([] { return Result<v1alpha1::Register>(v1alpha1::Register()); }, {}) {
    for (int i = 0; i < 3; ++i) report({});
  }
  bool take(std::string_view message) {
    Envelope envelope;
    if (!envelope.ParseFromArray(message.data(), static_cast<int>(message.size()))) return false;
    const bool is_registered = envelope.has_registered();
    const bool taken = static_cast<bool>(received(std::move(envelope)));
    if (taken && is_registered)
      require(up() && status().state == link::LinkState::connected, "registered is connected");
    require(figures().events_taken <= 4, "no more is taken than there was");
    return taken;
  }

 protected:
  net::Task<void> run() override { co_return; }
  void transmit(std::string_view envelope) override {
    Envelope parsed;
    require(parsed.ParseFromArray(envelope.data(), static_cast<int>(envelope.size())), "a guard sends Envelopes");
    require(speaker_of(parsed) == Speaker::guard, "a guard speaks as one");
  }
  std::size_t backlog() const override { return 0; }
  void hang_up() override {}
};

// What a server does before anything is handed on.
void take_as_server(std::string_view message) {
  Envelope envelope;
  if (!envelope.ParseFromArray(message.data(), static_cast<int>(message.size()))) return;
  const SharedEnvelope shared(envelope);
  Envelope again;
  require(again.ParseFromArray(shared.payload().data(), static_cast<int>(shared.payload().size())),
          "what was parsed can be sent on");
  require(speaker_of(again) == speaker_of(envelope), "and says the same");
}

}  // namespace
}  // namespace sallyport::controller

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::controller;
  using sallyport::http1::FrameSender;
  if (size < 3) return 0;
  const bool to_server = (data[0] & 1) != 0;
  const std::size_t piece = 1 + data[1];
  const std::string_view frames(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::string input = to_server ? masked(frames) : std::string(frames);
  const FrameSender sender = to_server ? FrameSender::client : FrameSender::server;
  const Told told = read(input, sender, std::max<std::size_t>(1, input.size()));
  sallyport::fuzz::require(told == read(input, sender, piece), "cuts change nothing");
  if (to_server) {
    for (const std::string& message : told.messages) take_as_server(message);
  } else {
    Guard guard;
    for (const std::string& message : told.messages) {
      if (!guard.take(message)) break;
    }
  }
  return 0;
}
