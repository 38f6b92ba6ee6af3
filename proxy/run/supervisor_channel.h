#pragma once
// The words between the guard and the supervisor: one packet each, over a SOCK_SEQPACKET pair that nobody else holds.

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace sallyport::run {

enum class Word : std::uint8_t {
  go,           // guard: the identity maps are written
  ready,        // supervisor: the namespace is made; its sockets come along, `value` has a bit for each of the six
  failed,       // supervisor: it is not; `text` says why, `value` is a RefusalKind
  start,        // guard: run the packed command that comes along
  started,      // supervisor: exec has succeeded
  not_started,  // supervisor: it has not; `text` says why, `value` is the exit code
  signal,       // guard: signal number `value` came
  stopped,      // supervisor: the command was stopped
  socket,       // supervisor, on the stock's channel: a new TCP socket of the namespace comes along
};

struct Message {
  Word word{};
  std::int32_t value = 0;
  std::array<char, 1000> text{};  // NUL-terminated, cut where it is longer

  Message() = default;
  explicit Message(Word w, int v = 0, std::string_view t = {});
  std::string_view text_view() const { return text.data(); }
};

struct Received {
  Message message;
  std::vector<UniqueFd> descriptors;
};

inline constexpr std::size_t kDescriptorsPerMessageMax = 6;

Result<void> send_message(int socket, const Message& message, std::span<const int> descriptors = {});
// Waits for one. Error: closed when the other side has gone.
Result<Received> receive_message(int socket);

}  // namespace sallyport::run
