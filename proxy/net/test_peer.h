#pragma once
// For tests: the other end. Blocking sockets and OpenSSL on threads of their own, so that what is tested never talks to
// itself.

#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"
#include "proxy/net/loop.h"
#include "proxy/net/test_certificates.h"

namespace sallyport::net::testing {

struct ContextDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using ContextPtr = std::unique_ptr<SSL_CTX, ContextDeleter>;

// A context for servers that shows this identity and, after it, `chain`.
ContextPtr server_context(const Identity& identity, std::initializer_list<const Identity*> chain = {});
// A context for clients that trusts `root`; that verifies nothing when there is none.
ContextPtr client_context(const Identity* root);

// A listening socket on an address of loopback ("127.0.0.1", "::1") and a port that the kernel picks, unless one is
// named.
class Listener {
 public:
  explicit Listener(const std::string& address = "127.0.0.1", std::uint16_t port = 0, int backlog = 64);
  std::uint16_t port() const { return port_; }
  int fd() const { return fd_.get(); }
  UniqueFd accept() const;  // invalid after close()
  void shut();              // ends accept() on another thread
 private:
  UniqueFd fd_;
  std::uint16_t port_ = 0;
};

UniqueFd connect_to(const std::string& address, std::uint16_t port);

// Two ends of one TCP connection.
std::pair<UniqueFd, UniqueFd> tcp_pair();

// A blocking TLS connection. Failures of the handshake leave `error` filled and the object usable for nothing else.
class Peer {
 public:
  Peer(SSL_CTX* context, UniqueFd fd, bool server, const std::string& sni = {});
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  bool handshake();
  SSL* ssl() { return ssl_; }
  int fd() const { return fd_.get(); }
  bool write(std::string_view bytes);
  std::string read_exactly(std::size_t size);  // shorter at the end of the stream
  std::string read_some();                     // one record at most
  void close_notify() { SSL_shutdown(ssl_); }
  void drop() { fd_.reset(); }  // without close_notify
  // Sends `size` bytes of the pattern and receives `expected`, both at once; `each` is called between steps. Returns
  // the checksum of what came.
  std::uint64_t pump(std::size_t size, std::size_t expected, void (*each)(SSL*) = nullptr);

 private:
  SSL* ssl_;
  UniqueFd fd_;
};

// Bytes that differ at every offset, and their checksum.
void fill_pattern(std::size_t offset, std::span<char> out);
std::uint64_t checksum(std::uint64_t state, std::string_view bytes);
std::uint64_t pattern_checksum(std::size_t size);

namespace detail {
template <class T>
Task<> keep(Loop& loop, Task<T> task, std::optional<T>& result) {
  result.emplace(co_await std::move(task));
  loop.stop();
}
inline Task<> keep(Loop& loop, Task<void> task) {
  co_await std::move(task);
  loop.stop();
}
}  // namespace detail

// Runs the loop until the task has ended.
template <class T>
T run(Loop& loop, Task<T> task) {
  if constexpr (std::is_void_v<T>) {
    loop.spawn(detail::keep(loop, std::move(task)));
    loop.run();
  } else {
    std::optional<T> result;
    loop.spawn(detail::keep(loop, std::move(task), result));
    loop.run();
    return std::move(*result);
  }
}

}  // namespace sallyport::net::testing
