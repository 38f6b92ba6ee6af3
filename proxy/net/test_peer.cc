#include "proxy/net/test_peer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace sallyport::net::testing {

namespace {

void require(bool good, const char* what) {
  if (!good) throw std::system_error(errno, std::generic_category(), what);
}

struct Name {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  std::uint16_t port() const {
    return ntohs(storage.ss_family == AF_INET ? reinterpret_cast<const sockaddr_in&>(storage).sin_port
                                              : reinterpret_cast<const sockaddr_in6&>(storage).sin6_port);
  }
};

Name name_of(const std::string& address, std::uint16_t port) {
  Name name;
  auto& v4 = reinterpret_cast<sockaddr_in&>(name.storage);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(name.storage);
  if (::inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    name.size = sizeof v4;
  } else {
    require(::inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1, "address");
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    name.size = sizeof v6;
  }
  return name;
}

// Peers write to sockets that the tested side may have closed.
[[maybe_unused]] const auto ignored = std::signal(SIGPIPE, SIG_IGN);

}  // namespace

ContextPtr server_context(const Identity& identity, std::initializer_list<const Identity*> chain) {
  ContextPtr context(SSL_CTX_new(TLS_server_method()));
  SSL_CTX_set_security_level(context.get(), 0);  // bad servers are what some tests are about
  SSL_CTX_use_certificate(context.get(), identity.certificate.get());
  SSL_CTX_use_PrivateKey(context.get(), identity.key.get());
  for (const Identity* link : chain) SSL_CTX_add1_chain_cert(context.get(), link->certificate.get());
  SSL_CTX_set_session_id_context(context.get(), reinterpret_cast<const unsigned char*>("test"), 4);
  return context;
}

ContextPtr client_context(const Identity* root) {
  ContextPtr context(SSL_CTX_new(TLS_client_method()));
  if (root != nullptr) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), root->certificate.get());
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  }
  return context;
}

Listener::Listener(const std::string& address, std::uint16_t port, int backlog) {
  Name name = name_of(address, port);
  fd_ = UniqueFd(::socket(name.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  require(static_cast<bool>(fd_), "socket");
  const int on = 1;
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (name.storage.ss_family == AF_INET6) ::setsockopt(fd_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  require(::bind(fd_.get(), name.get(), name.size) == 0, "bind");
  require(::listen(fd_.get(), backlog) == 0, "listen");
  Name bound;
  require(::getsockname(fd_.get(), bound.get(), &bound.size) == 0, "getsockname");
  port_ = bound.port();
}

UniqueFd Listener::accept() const { return UniqueFd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

void Listener::shut() { ::shutdown(fd_.get(), SHUT_RDWR); }

UniqueFd connect_to(const std::string& address, std::uint16_t port) {
  Name name = name_of(address, port);
  UniqueFd fd(::socket(name.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  require(::connect(fd.get(), name.get(), name.size) == 0, "connect");
  return fd;
}

std::pair<UniqueFd, UniqueFd> tcp_pair() {
  const Listener listener;
  UniqueFd a = connect_to("127.0.0.1", listener.port());
  UniqueFd b = listener.accept();
  return {std::move(a), std::move(b)};
}

Peer::Peer(SSL_CTX* context, UniqueFd fd, bool server, const std::string& sni)
    : ssl_(SSL_new(context)), fd_(std::move(fd)) {
  SSL_set_fd(ssl_, fd_.get());
  if (server) {
    SSL_set_accept_state(ssl_);
  } else {
    SSL_set_connect_state(ssl_);
    if (!sni.empty()) SSL_set_tlsext_host_name(ssl_, sni.c_str());
  }
}

Peer::~Peer() { SSL_free(ssl_); }

bool Peer::handshake() {
  ERR_clear_error();
  return SSL_do_handshake(ssl_) == 1;
}

bool Peer::write(std::string_view bytes) {
  ERR_clear_error();
  std::size_t done = 0;
  return SSL_write_ex(ssl_, bytes.data(), bytes.size(), &done) == 1 && done == bytes.size();
}

std::string Peer::read_some() {
  std::string buffer(1 << 15, '\0');
  std::size_t done = 0;
  ERR_clear_error();
  if (SSL_read_ex(ssl_, buffer.data(), buffer.size(), &done) != 1) done = 0;
  buffer.resize(done);
  return buffer;
}

std::string Peer::read_exactly(std::size_t size) {
  std::string all;
  while (all.size() < size) {
    const std::string part = read_some();
    if (part.empty()) break;
    all += part;
  }
  return all;
}

std::uint64_t Peer::pump(std::size_t size, std::size_t expected, void (*each)(SSL*)) {
  ::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) | O_NONBLOCK);
  SSL_set_mode(ssl_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  std::vector<char> out(16384), in(65536);
  std::size_t sent = 0, received = 0;
  std::uint64_t sum = 0;
  while (sent < size || received < expected) {
    bool moved = false;
    std::size_t done = 0;
    ERR_clear_error();
    if (sent < size) {
      const std::size_t piece = std::min(out.size(), size - sent);
      fill_pattern(sent, {out.data(), piece});
      if (SSL_write_ex(ssl_, out.data(), piece, &done) == 1) {
        sent += done;
        moved = true;
        if (each != nullptr) each(ssl_);
      }
    }
    ERR_clear_error();
    if (received < expected) {
      const int result = SSL_read_ex(ssl_, in.data(), in.size(), &done);
      if (result == 1) {
        sum = checksum(sum, {in.data(), done});
        received += done;
        moved = true;
      } else if (const int error = SSL_get_error(ssl_, result);
                 error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        return 0;
      }
    }
    if (!moved) {
      pollfd poll{fd_.get(), static_cast<short>(POLLIN | (sent < size ? POLLOUT : 0)), 0};
      ::poll(&poll, 1, 1000);
    }
  }
  ::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) & ~O_NONBLOCK);
  return sum;
}

void fill_pattern(std::size_t offset, std::span<char> out) {
  for (char& c : out) {
    const std::uint64_t word = (offset / 8 + 1) * 0x9E3779B97F4A7C15;
    c = static_cast<char>(word >> (8 * (offset % 8)));
    ++offset;
  }
}

std::uint64_t checksum(std::uint64_t state, std::string_view bytes) {
  for (const char c : bytes) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001B3 + 1;
  return state;
}

std::uint64_t pattern_checksum(std::size_t size) {
  std::vector<char> block(1 << 16);
  std::uint64_t sum = 0;
  for (std::size_t offset = 0; offset < size; offset += block.size()) {
    const std::size_t piece = std::min(block.size(), size - offset);
    fill_pattern(offset, {block.data(), piece});
    sum = checksum(sum, {block.data(), piece});
  }
  return sum;
}

}  // namespace sallyport::net::testing
