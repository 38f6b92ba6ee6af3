#include "proxy/net/socket_bio.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "base/limits.h"

namespace sallyport::net {

namespace {

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

Transport& transport_of(BIO* bio) { return *static_cast<Transport*>(BIO_get_data(bio)); }

ssize_t send_both(int fd, std::string_view first, std::string_view second) {
  std::array<iovec, 2> parts{
      {{const_cast<char*>(first.data()), first.size()}, {const_cast<char*>(second.data()), second.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  return ::sendmsg(fd, &message, MSG_NOSIGNAL);
}

int bio_read(BIO* bio, char* data, std::size_t size, std::size_t* done) {
  Transport& transport = transport_of(bio);
  BIO_clear_retry_flags(bio);
  const auto count = transport.receive({data, size});
  if (count > 0) {
    *done = static_cast<std::size_t>(count);
    return 1;
  }
  if (count < 0 && transport.receive_error == 0) BIO_set_retry_read(bio);
  return 0;
}

int bio_write(BIO* bio, const char* data, std::size_t size, std::size_t* done) {
  Transport& transport = transport_of(bio);
  BIO_clear_retry_flags(bio);
  const auto count = transport.send({data, size});
  if (count >= 0) {
    *done = static_cast<std::size_t>(count);
    return 1;
  }
  if (transport.send_error == 0) BIO_set_retry_write(bio);
  return 0;
}

long bio_control(BIO* bio, int command, long, void*) {
  switch (command) {
    case BIO_CTRL_FLUSH:
      return 1;  // nothing is held back
    case BIO_CTRL_EOF:
      return transport_of(bio).ended ? 1 : 0;
    default:
      return 0;
  }
}

struct Collected {
  std::array<char, limits::kBulkBufferBytes + 4096> bytes;  // what TLS adds to each record as well
  std::size_t size = 0;
};

// On the heap: what threads have for themselves is written over with zeros when each of them starts.
Collected& collected_here() {
  static thread_local const auto collected = std::make_unique_for_overwrite<Collected>();
  return *collected;
}

// Never freed: it lasts as long as the program.
BIO_METHOD* socket_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sallyport socket");
    if (made == nullptr) return made;
    BIO_meth_set_read_ex(made, bio_read);
    BIO_meth_set_write_ex(made, bio_write);
    BIO_meth_set_ctrl(made, bio_control);
    return made;
  }();
  return method;
}

}  // namespace

std::ptrdiff_t Transport::receive(std::span<char> buffer) {
  if (!sniffed.empty()) {
    const std::size_t count = sniffed.copy(buffer.data(), buffer.size());
    sniffed.remove_prefix(count);
    received += count;
    spoke_last = false;
    return static_cast<std::ptrdiff_t>(count);
  }
  if (ended) return 0;
  if (drained || receive_error != 0) return -1;
  const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), 0);
  if (count < 0) {
    drained = true;
    if (!would_block(errno)) receive_error = errno;
    return -1;
  }
  ended = count == 0;
  drained = static_cast<std::size_t>(count) < buffer.size();
  received += static_cast<std::uint64_t>(count);
  spoke_last = false;
  return count;
}

bool Transport::flush() {
  gathering_ = false;
  Collected& collected = collected_here();
  std::string_view rest = unsent_;
  if (rest.empty()) rest = {collected.bytes.data(), std::exchange(collected.size, 0)};
  while (!rest.empty()) {
    const auto count = send_now(rest, {});
    if (count < 0) break;
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
  if (!rest.empty() || !unsent_.empty()) unsent_ = std::string(rest);
  return rest.empty();
}

std::ptrdiff_t Transport::collect(std::string_view bytes) {
  Collected& collected = collected_here();
  if (bytes.size() > collected.bytes.size() - collected.size) {
    if (!flush()) return -1;
    gathering_ = true;
  }
  const std::size_t count =
      bytes.copy(collected.bytes.data() + collected.size, collected.bytes.size() - collected.size);
  collected.size += count;
  return static_cast<std::ptrdiff_t>(count);
}

std::ptrdiff_t Transport::send(std::string_view first, std::string_view second) {
  if (!unsent_.empty() && !flush()) return -1;
  return gathering_ ? collect(first) : send_now(first, second);
}

void Transport::push(std::string_view bytes) {
  if (!unsent_.empty()) flush();
  while (unsent_.empty() && send_error == 0 && !bytes.empty()) {
    const std::ptrdiff_t count = gathering_ ? collect(bytes) : send_now(bytes, {});
    if (count < 0) break;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  if (send_error == 0) unsent_.append(bytes);
}

std::ptrdiff_t Transport::send_now(std::string_view first, std::string_view second) {
  if (send_error != 0) return -1;
  const ssize_t count =
      second.empty() ? ::send(fd, first.data(), first.size(), MSG_NOSIGNAL) : send_both(fd, first, second);
  if (count < 0) {
    if (!would_block(errno)) send_error = errno;
    return -1;
  }
  sent += static_cast<std::uint64_t>(count);
  spoke_last = true;
  return count;
}

BIO* new_socket_bio(Transport& transport) {
  BIO_METHOD* method = socket_method();
  BIO* bio = method == nullptr ? nullptr : BIO_new(method);
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, &transport);
  BIO_set_init(bio, 1);
  return bio;
}

}  // namespace sallyport::net
