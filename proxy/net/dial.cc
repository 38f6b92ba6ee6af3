#include "proxy/net/dial.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <list>

#include "base/limits.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/proxy_connect.h"

namespace sallyport::net {
namespace {

using request::IpAddress;

using Addresses = std::vector<IpAddress>;

std::unexpected<UpstreamFailure> failed(Reason reason, std::string text) {
  return std::unexpected(UpstreamFailure{reason, std::move(text)});
}

bool may_dial(const UpstreamRequest& request, const IpAddress& address) {
  if (!request.enforce_addresses) return true;
  if (request.endpoint != nullptr) return request.endpoint->allows(address);
  return request::special_range(address).empty();
}

std::string list_of(const Addresses& addresses) {
  std::string text;
  for (const IpAddress& address : addresses) {
    if (!text.empty()) text += ", ";
    text += address.to_string();
    if (std::string_view range = request::special_range(address); !range.empty())
      text += " (" + std::string(range) + ")";
  }
  return text;
}

struct Checked {
  Addresses allowed, refused;
  bool loop = false;  // one of them is where the guard itself listens
};

// Whether a connection to this address would arrive at the guard. On one address it listens there only; on the
// unspecified one, everywhere.
bool leads_back(std::span<const LocalAddr> own, const IpAddress& address, std::uint16_t port) {
  return std::ranges::any_of(own, [&](const LocalAddr& listener) {
    const auto& bytes = listener.address.bytes();
    const bool everywhere = std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
    if (!everywhere) return listener.port == port && listener.address == address;
    return is_own_listener({address, port}, listener);
  });
}

// Every address of the name is looked at, whichever would have been dialled.
Checked check(const UpstreamRequest& request, std::span<const LocalAddr> own, const Addresses& found) {
  Checked checked;
  for (const IpAddress& address : found) {
    const bool back = request.addresses.empty() && leads_back(own, address, request.port);
    checked.loop = checked.loop || back;
    (!back && may_dial(request, address) ? checked.allowed : checked.refused).push_back(address);
  }
  return checked;
}

std::string policy_name(const UpstreamRequest& request) {
  return request.endpoint != nullptr ? "endpoint '" + request.endpoint->name + "'" : "the policy";
}

UpstreamFailure not_allowed(const UpstreamRequest& request, const Addresses& refused) {
  std::string text = request.literal ? request.host + " is an address" : request.host + " leads to " + list_of(refused);
  text += " that " + policy_name(request) + " does not allow; if it is meant, say so there: addresses: [" +
          refused.front().to_string() + "]";
  return {Reason::address_not_allowed, std::move(text)};
}

UpstreamFailure leads_to_guard(const UpstreamRequest& request) {
  return {Reason::loop, request.host + " port " + std::to_string(request.port) +
                            " is where this guard takes messages for the function: it sends itself none"};
}

struct Attempt {
  Attempt(Loop& loop, const IpAddress& address) : peer(address), task(loop) {}
  IpAddress peer;
  std::unique_ptr<UpstreamConnection> connection;
  int error = 0;
  bool ended = false;
  Concurrent task;  // last: it refers to the others
};

sockaddr_storage socket_address(const IpAddress& address, std::uint16_t port, socklen_t& size) {
  sockaddr_storage storage{};
  if (address.is_v4()) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    std::memcpy(&v4->sin_addr, address.bytes().data(), 4);
    size = sizeof *v4;
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    std::memcpy(&v6->sin6_addr, address.bytes().data(), 16);
    size = sizeof *v6;
  }
  return storage;
}

// A socket that somebody else has made may be of IPv6 alone, which has a form for IPv4's addresses, or of IPv4 alone.
bool fit_for(int fd, sockaddr_storage& address, socklen_t& size) {
  int domain = AF_UNSPEC;
  socklen_t domain_size = sizeof domain;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) != 0) return false;
  if (domain == address.ss_family) return true;
  if (domain != AF_INET6 || address.ss_family != AF_INET) return false;
  sockaddr_in v4{};
  std::memcpy(&v4, &address, sizeof v4);
  sockaddr_in6 mapped{};
  mapped.sin6_family = AF_INET6;
  mapped.sin6_port = v4.sin_port;
  mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xFF;
  std::memcpy(&mapped.sin6_addr.s6_addr[12], &v4.sin_addr, sizeof v4.sin_addr);
  std::memcpy(&address, &mapped, size = sizeof mapped);
  return true;
}

// The errno of connecting: 0 on success, ETIMEDOUT at the deadline.
Task<int> connect_to(Loop& loop, Attempt& attempt, const UpstreamRequest& request, Deadline deadline) {
  socklen_t size = 0;
  sockaddr_storage address = socket_address(attempt.peer, request.port, size);
  UniqueFd fd;
  if (request.sockets == nullptr) {
    fd.reset(::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) co_return errno;
  } else {
    Result<UniqueFd> taken = co_await request.sockets->take(deadline);
    if (!taken) co_return taken.error().kind == ErrorKind::timeout ? ETIMEDOUT : ECONNREFUSED;
    fd = std::move(*taken);
    if (!fit_for(fd.get(), address, size)) co_return EAFNOSUPPORT;
  }
  int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  const bool connected = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0;
  if (!connected && errno != EINPROGRESS) co_return errno;
  attempt.connection = std::make_unique<UpstreamConnection>(loop, std::move(fd), attempt.peer, request.port);
  if (connected) co_return 0;
  Socket& socket = attempt.connection->stream().socket();
  Wait wait = co_await socket.wait_writable(deadline);
  if (wait == Wait::timeout) co_return ETIMEDOUT;
  if (wait == Wait::cancelled) co_return ECANCELED;
  int error = 0;
  socklen_t error_size = sizeof error;
  if (getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &error_size) != 0) error = errno;
  co_return error;
}

Task<void> run_attempt(Loop& loop, Attempt& attempt, const UpstreamRequest& request, Deadline deadline,
                       Event& progress) {
  attempt.error = co_await connect_to(loop, attempt, request, deadline);
  if (attempt.error != 0) attempt.connection.reset();
  attempt.ended = true;
  progress.set();
}

UpstreamFailure unreachable(const UpstreamRequest& request, const std::list<Attempt>& attempts,
                            const Addresses& refused) {
  std::string text = "can't connect to " + request.host + " port " + std::to_string(request.port) + ":";
  for (const Attempt& attempt : attempts) {
    text += " " + attempt.peer.to_string() + " ";
    text += attempt.ended ? std::strerror(attempt.error) : "no answer yet";
    text += ";";
  }
  text.pop_back();
  if (!refused.empty()) text += "; not tried, as " + policy_name(request) + " does not allow them: " + list_of(refused);
  return {Reason::unreachable, std::move(text)};
}

// The connection races: the next address starts when the one before has failed, or has not answered for a while.
Task<UpstreamResult> race(Loop& loop, const UpstreamRequest& request, const Checked& checked, Deadline deadline) {
  const Addresses& addresses = checked.allowed;
  Event progress(loop);
  std::list<Attempt> attempts;
  std::size_t next = 0;
  while (true) {
    bool running = false;
    for (Attempt& attempt : attempts) {
      if (attempt.connection && attempt.ended) co_return std::move(attempt.connection);
      running = running || !attempt.ended;
    }
    const bool out_of_time = loop.now() >= deadline;
    if (out_of_time || (!running && next == addresses.size()))
      co_return std::unexpected(unreachable(request, attempts, checked.refused));
    // Reached after a failure, or after the stagger delay.
    if (next < addresses.size()) {
      Attempt& attempt = attempts.emplace_back(loop, addresses[next++]);
      Deadline attempt_deadline = std::min(deadline, loop.in(limits::kConnectTimeout));
      attempt.task.start(run_attempt(loop, attempt, request, attempt_deadline, progress));
      if (attempt.ended) continue;
    }
    progress.reset();
    Deadline until = next < addresses.size() ? std::min(deadline, loop.in(limits::kHappyEyeballsDelay)) : deadline;
    co_await progress.wait(until);
  }
}

Task<UpstreamResult> dial_straight(Loop& loop, Resolver& resolver, const UpstreamRequest& request,
                                   std::span<const LocalAddr> own_listeners, Deadline deadline) {
  Addresses found;
  if (!request.addresses.empty()) {
    found.assign(request.addresses.begin(), request.addresses.end());
  } else if (request.literal) {
    found.push_back(*request.literal);
  } else {
    ResolveResult resolved = co_await resolver.resolve(request.host, deadline);
    if (!resolved) co_return failed(Reason::unresolvable, std::move(resolved.error().text));
    found = std::move(*resolved);
  }
  if (found.empty()) co_return failed(Reason::unresolvable, request.host + " has no address");
  const Checked checked = check(request, own_listeners, found);
  if (checked.allowed.empty() && checked.loop) co_return std::unexpected(leads_to_guard(request));
  if (checked.allowed.empty()) co_return std::unexpected(not_allowed(request, checked.refused));
  UpstreamResult result = co_await race(loop, request, checked, deadline);
  co_return result;
}

Task<UpstreamResult> dial_through(Loop& loop, Resolver& resolver, const UpstreamRequest& request,
                                  const document::UpstreamProxy& proxy, std::span<const LocalAddr> own_listeners,
                                  Deadline deadline) {
  if (request.literal && !may_dial(request, *request.literal)) {
    co_return std::unexpected(not_allowed(request, {*request.literal}));
  }
  UpstreamRequest to_proxy;
  to_proxy.host = proxy.host;
  to_proxy.literal = proxy.literal;
  to_proxy.port = proxy.port;
  to_proxy.enforce_addresses = false;  // the policy's author chose it, and it is usually inside
  UpstreamResult connected = co_await dial_straight(loop, resolver, to_proxy, own_listeners, deadline);
  if (!connected) co_return failed(Reason::upstream_proxy, "the upstream proxy: " + connected.error().text);
  const bool v6 = request.literal && !request.literal->is_v4();
  std::string authority = (v6 ? "[" + request.host + "]" : request.host) + ":" + std::to_string(request.port);
  auto tunnel = co_await connect_through((*connected)->stream(), proxy, std::move(authority), deadline);
  if (!tunnel) co_return std::unexpected(std::move(tunnel.error()));
  co_return connected;
}

}  // namespace

const document::UpstreamProxy* proxy_of(const UpstreamRequest& request) {
  if (request.endpoint != nullptr) return request.endpoint->proxy;
  return request.policy == nullptr ? nullptr : request.policy->proxy();
}

Task<UpstreamResult> dial(Loop& loop, Resolver& resolver, const UpstreamRequest& request,
                          std::span<const LocalAddr> own_listeners, Deadline deadline) {
  const document::UpstreamProxy* proxy = proxy_of(request);
  if (proxy == nullptr) co_return co_await dial_straight(loop, resolver, request, own_listeners, deadline);
  co_return co_await dial_through(loop, resolver, request, *proxy, own_listeners, deadline);
}

}  // namespace sallyport::net
