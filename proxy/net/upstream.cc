#include "proxy/net/upstream.h"

#include <algorithm>
#include <iterator>

#include "base/limits.h"
#include "proxy/net/dial.h"

namespace sallyport::net {
UpstreamConnection::UpstreamConnection(Loop& loop, UniqueFd fd, const request::IpAddress& peer, std::uint16_t port)
    : stream_(loop, std::move(fd), ErrorSource::upstream), peer_(peer), port_(port), created_(loop.now()) {}

std::string UpstreamConnection::peer_text() const {
  std::string address = peer_.to_string();
  return (peer_.is_v4() ? address : "[" + address + "]") + ":" + std::to_string(port_);
}

UpstreamPool::~UpstreamPool() = default;

UpstreamPool::Key UpstreamPool::key_of(const UpstreamRequest& request) {
  const void* owner = request.endpoint != nullptr ? static_cast<const void*>(request.endpoint) : request.policy.get();
  return {request.host, request.port, request.scheme, owner, request.enforce_addresses, request.client_certificate};
}

Task<UpstreamResult> UpstreamPool::acquire(UpstreamRequest request, Deadline deadline) {
  if (!request.fresh) {
    if (std::unique_ptr<UpstreamConnection> pooled = take_idle(request)) co_return pooled;
  }
  const bool tls = request.scheme == request::Scheme::https;
  TlsTarget target{request.host,      request.literal, request.port,
                   request.endpoint,  request.policy,  request.client_certificate,
                   request.http1_only};
  UpstreamResult connected = co_await connect_plain(std::move(request), deadline);
  if (!connected || !tls) co_return connected;
  auto ssl = tls_.connect_for(target);
  if (!ssl) co_return std::unexpected(std::move(ssl.error()));
  Stream& stream = (*connected)->stream();
  const Deadline handshake_end = std::min(deadline, loop_.in(limits::kHandshakeTimeout));
  Result<void> secured = co_await stream.handshake(std::move(*ssl), {}, handshake_end);
  if (!secured) co_return std::unexpected(tls_.explain(stream.ssl(), target, secured.error()));
  // A server without TCP_NODELAY may now send its tickets, and then holds its response until they are acknowledged.
  stream.acknowledge_now();
  co_return connected;
}

Task<UpstreamResult> UpstreamPool::connect_plain(UpstreamRequest request, Deadline deadline) {
  // By endpoint too, as that says which addresses and which proxy.
  const std::string destination = request.host + ":" + std::to_string(request.port) + "/" +
                                  (request.endpoint == nullptr ? "" : request.endpoint->name);
  const bool own_ports = !request.addresses.empty();
  if (auto why = own_ports ? std::nullopt : circuits_.closed_to(destination, loop_.now())) {
    co_return std::unexpected(UpstreamFailure{
        Reason::upstream_failing, request.host + " port " + std::to_string(request.port) + ": " + std::move(*why)});
  }
  UpstreamResult connected = co_await dial(loop_, resolver_, request, own_listeners_, deadline);
  const bool counts =
      !connected && !own_ports &&
      (connected.error().reason == Reason::unreachable || connected.error().reason == Reason::upstream_proxy);
  if (own_ports) {
    // Nothing is remembered of them.
  } else if (connected) {
    circuits_.succeeded(destination);
  } else if (counts) {
    circuits_.failed(destination, connected.error().text, loop_.now());
  } else {
    circuits_.undecided(destination);
  }
  if (connected) {
    ++connects_;
    (*connected)->through_proxy_ = proxy_of(request) != nullptr;
    (*connected)->lease_ = std::move(request);
  }
  co_return connected;
}

std::unique_ptr<UpstreamConnection> UpstreamPool::take_idle(const UpstreamRequest& request) {
  auto found = shelves_.find(key_of(request));
  if (found == shelves_.end()) return nullptr;
  auto& connections = found->second->connections;
  std::unique_ptr<UpstreamConnection> taken;
  while (!connections.empty() && !taken) {
    // The newest of which the loop has told what came: all events of a turn come before its first coroutine. Only where
    // there is none one that was released in this very turn: of that the kernel has to be asked.
    const auto told = std::ranges::find_if(connections.rbegin(), connections.rend(),
                                           [this](const auto& pooled) { return pooled->released_ < loop_.now(); });
    const bool ask = told == connections.rend();
    const auto place = ask ? connections.end() - 1 : std::next(told).base();
    taken = std::move(*place);
    connections.erase(place);
    --idle_;
    taken->stream_.socket().on_idle_event(nullptr);
    // Bytes that nobody asked for would be taken for the response of the next request. They may lie in TLS's buffer,
    // too.
    if (taken->idle_until_ <= loop_.now() || !taken->stream_.still_idle(ask)) taken.reset();
  }
  if (connections.empty()) shelves_.erase(found);
  if (taken) ++taken->uses_;
  return taken;
}

bool UpstreamPool::may_pool(const UpstreamConnection& connection) const {
  const UpstreamRequest& lease = connection.lease_;
  // What was connected for passing through never saw a handshake: a request would leave unencrypted, its credential
  // with it.
  const bool secured = lease.scheme != request::Scheme::https || connection.stream_.tls();
  const bool current = policy_.expired() || policy_.lock() == lease.policy;
  return secured && current && connection.stream_.reusable() && idle_ < limits::kUpstreamIdlePerWorkerMax &&
         loop_.now() < connection.created_ + times_.lifetime;
}

void UpstreamPool::release(std::unique_ptr<UpstreamConnection> connection) {
  if (!may_pool(*connection)) return;
  Key key = key_of(connection->lease_);
  auto found = shelves_.find(key);
  if (found == shelves_.end()) {
    auto shelf = std::make_unique<Shelf>();
    shelf->host = connection->lease_.host;
    key.host = shelf->host;
    found = shelves_.emplace(key, std::move(shelf)).first;
  }
  if (found->second->connections.size() >= limits::kUpstreamIdlePerHostMax) return;
  connection->released_ = loop_.now();
  connection->idle_until_ = std::min(connection->created_ + times_.lifetime, loop_.in(times_.idle));
  connection->stream_.take_over();
  watch(*connection);
  found->second->connections.push_back(std::move(connection));
  ++idle_;
  if (!reaper_ || !reaper_->running()) reaper_.emplace(loop_).start(reap());
}

// A server that hangs up, or speaks without having been asked, makes the connection useless. TLS may speak for itself.
void UpstreamPool::watch(UpstreamConnection& connection) {
  connection.stream_.socket().on_idle_event([this, &connection] {
    if (connection.stream_.still_idle(true)) {
      watch(connection);
    } else {
      drop(connection);
    }
  });
}

void UpstreamPool::drop(UpstreamConnection& connection) {
  auto found = shelves_.find(key_of(connection.lease_));
  if (found == shelves_.end()) return;
  auto& connections = found->second->connections;
  idle_ -= std::erase_if(connections, [&](const auto& pooled) { return pooled.get() == &connection; });
  if (connections.empty()) shelves_.erase(found);
}

Task<void> UpstreamPool::reap() {
  while (idle_ > 0) {
    co_await loop_.sleep_until(loop_.in(times_.reap_interval));
    std::erase_if(shelves_, [this](auto& entry) {
      auto& connections = entry.second->connections;
      idle_ -= std::erase_if(connections, [this](const auto& pooled) { return pooled->idle_until_ <= loop_.now(); });
      return connections.empty();
    });
  }
}

void UpstreamPool::policy_changed(std::shared_ptr<const document::Snapshot> policy) {
  tls_.policy_changed(policy);
  circuits_.clear();
  std::erase_if(shelves_, [&](auto& entry) {
    auto& connections = entry.second->connections;
    idle_ -= std::erase_if(connections, [&](const auto& pooled) { return pooled->lease_.policy != policy; });
    return connections.empty();
  });
  policy_ = policy;
}

}  // namespace sallyport::net
