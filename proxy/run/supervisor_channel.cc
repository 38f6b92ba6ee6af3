#include "proxy/run/supervisor_channel.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

union ControlBuffer {
  cmsghdr aligned;
  char bytes[CMSG_SPACE(kDescriptorsPerMessageMax * sizeof(int))];
};

std::vector<UniqueFd> take_descriptors(msghdr& header) {
  std::vector<UniqueFd> descriptors;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  return descriptors;
}

}  // namespace

Message::Message(Word w, int v, std::string_view t) : word(w), value(v) {
  std::copy_n(t.begin(), std::min(t.size(), text.size() - 1), text.begin());
}

Result<void> send_message(int socket, const Message& message, std::span<const int> descriptors) {
  iovec bytes{const_cast<Message*>(&message), sizeof message};
  ControlBuffer control{};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent = 0;
  do sent = ::sendmsg(socket, &header, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return system_failure("talking between the guard and its supervisor");
  return {};
}

Result<Received> receive_message(int socket) {
  Received received;
  iovec bytes{&received.message, sizeof received.message};
  ControlBuffer control{};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof control.bytes;
  ssize_t count = 0;
  do count = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  while (count < 0 && errno == EINTR);
  if (count < 0) return system_failure("talking between the guard and its supervisor");
  received.descriptors = take_descriptors(header);
  if (static_cast<std::size_t>(count) != sizeof received.message) {
    return fail(ErrorSource::internal, ErrorKind::closed, "the other side of the supervisor's channel has gone");
  }
  received.message.text.back() = '\0';
  return received;
}

}  // namespace sallyport::run
