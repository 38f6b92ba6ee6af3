#include "proxy/net/listen.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "policy-engine/request/host.h"

namespace sallyport::net {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

std::optional<Address> address_of(const std::string& text) {
  Result<request::Authority> authority = request::parse_authority(text);
  if (!authority || !authority->host.address || !authority->port) return std::nullopt;
  const request::IpAddress& ip = *authority->host.address;
  Address address;
  if (ip.is_v4()) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(*authority->port);
    std::memcpy(&v4->sin_addr, ip.bytes().data(), 4);
    address.size = sizeof *v4;
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(*authority->port);
    std::memcpy(&v6->sin6_addr, ip.bytes().data(), 16);
    address.size = sizeof *v6;
  }
  return address;
}

std::string remedy(int error) {
  switch (error) {
    case EADDRINUSE:
      return "; another process listens there: stop it, or choose another port";
    case EADDRNOTAVAIL:
      return "; this machine does not have that address";
    case EACCES:
      return "; ports below 1024 need CAP_NET_BIND_SERVICE";
    default:
      return "";
  }
}

}  // namespace

Result<UniqueFd> listen_on(const std::string& address, bool shared) {
  std::optional<Address> parsed = address_of(address);
  if (!parsed) {
    return fail(ErrorSource::internal, ErrorKind::invalid,
                address + ": expected ADDRESS:PORT, like 127.0.0.1:18001 or [::1]:18001");
  }
  UniqueFd fd(::socket(parsed->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  int on = 1;
  bool made =
      static_cast<bool>(fd) && setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
      setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
      (!shared || setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) &&
      (parsed->storage.ss_family == AF_INET || setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0) &&
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&parsed->storage), parsed->size) == 0 &&
      ::listen(fd.get(), SOMAXCONN) == 0;
  if (!made) {
    int error = errno;
    return fail(ErrorSource::internal, ErrorKind::unavailable, address + ": " + std::strerror(error) + remedy(error));
  }
  return fd;
}

}  // namespace sallyport::net
