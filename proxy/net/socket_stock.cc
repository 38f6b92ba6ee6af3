#include "proxy/net/socket_stock.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace sallyport::net {
namespace {

// The next socket of the channel; an empty one with `error` 0 for a packet that brought none.
UniqueFd receive(int channel, int& error) {
  char byte = 0;
  iovec bytes{&byte, sizeof byte};  // what else is in the packet is of no use here
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t count = ::recvmsg(channel, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  error = count < 0 ? errno : count == 0 ? EPIPE : 0;
  if (count <= 0) return {};
  const cmsghdr* part = CMSG_FIRSTHDR(&header);
  if (part == nullptr || part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
  return UniqueFd(fd);
}

}  // namespace

Task<Result<UniqueFd>> SocketStock::take(Deadline deadline) {
  while (true) {
    int error = 0;
    UniqueFd socket = receive(channel_.fd(), error);
    if (socket) co_return socket;
    if (error == 0 || error == EINTR) continue;  // without one when this process has no descriptor left for it
    if (error != EAGAIN) {
      co_return fail(ErrorSource::internal, ErrorKind::closed, "nobody makes sockets in the command's namespace");
    }
    const Wait wait = co_await channel_.wait_readable(deadline);
    if (wait != Wait::ready) {
      co_return fail(ErrorSource::internal, ErrorKind::timeout,
                     "no socket of the command's namespace came in time: the command has not begun, or takes all of "
                     "the machine");
    }
  }
}

}  // namespace sallyport::net
