#pragma once
// Connections to upstream servers: pooled ones, or new ones to addresses that the guard has resolved and checked
// itself.

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/limits.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/address.h"
#include "policy-engine/request/head.h"
#include "proxy/net/circuit.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/original_destination.h"
#include "proxy/net/resolver.h"
#include "proxy/net/socket_stock.h"
#include "proxy/net/stream.h"
#include "proxy/net/upstream_tls.h"

namespace sallyport::net {

struct UpstreamRequest {
  request::Scheme scheme = request::Scheme::https;
  std::string host;                           // canonical
  std::optional<request::IpAddress> literal;  // set when the host is an IP address
  std::uint16_t port = 0;
  const document::Endpoint* endpoint = nullptr;      // null in learn and audit when none matches
  std::shared_ptr<const document::Snapshot> policy;  // keeps the endpoint
  bool enforce_addresses = true;                     // false: audit and learn, where every address may be dialled
  bool fresh = false;                                // no pooled connection
  bool client_certificate = false;                   // a rule allows it: the endpoint's client certificate is shown
  bool http1_only = false;                           // ALPN offers no other protocol
  bool prior_knowledge = false;                      // without TLS: HTTP/2 is spoken if the server turns out to do so
  // The function's own ports, which are no destination of a policy: where they are, instead of a lookup, and where the
  // sockets for them come from (null: made here). Connecting to them costs nothing, so that no circuit breaks.
  std::span<const request::IpAddress> addresses;
  SocketStock* sockets = nullptr;
};

// One connection, leased from the pool or about to join it.
class UpstreamConnection {
 public:
  UpstreamConnection(Loop& loop, UniqueFd fd, const request::IpAddress& peer, std::uint16_t port);

  Stream& stream() { return stream_; }
  const Stream& stream() const { return stream_; }
  const request::IpAddress& peer() const { return peer_; }
  std::string peer_text() const;             // "192.0.2.1:443", "[2001:db8::1]:443"
  bool reused() const { return uses_ > 1; }  // it has carried an exchange before this one
  // The peer is the policy's upstream proxy: where the name leads was for that one to find out.
  bool through_proxy() const { return through_proxy_; }

 private:
  friend class UpstreamPool;
  Stream stream_;
  request::IpAddress peer_;
  std::uint16_t port_;
  std::uint32_t uses_ = 1;
  bool through_proxy_ = false;
  Deadline created_;
  Deadline released_;                  // to the pool
  Deadline idle_until_ = kNoDeadline;  // while pooled
  UpstreamRequest lease_;
};

using UpstreamResult = std::expected<std::unique_ptr<UpstreamConnection>, UpstreamFailure>;

// How long connections are kept; tests use shorter times.
struct PoolTimes {
  Clock::duration idle = limits::kUpstreamIdleTimeout;
  Clock::duration lifetime = limits::kUpstreamLifetimeMax;
  Clock::duration reap_interval = limits::kUpstreamReapInterval;
};

// The pool of one worker. A connection is used again only for the same scheme, host, port and policy endpoint of the
// same policy: what was verified for one endpoint says nothing for another.
class UpstreamPool {
 public:
  UpstreamPool(Loop& loop, Resolver& resolver, UpstreamTls& tls, PoolTimes times = {})
      : loop_(loop), resolver_(resolver), tls_(tls), times_(times) {}
  UpstreamPool(const UpstreamPool&) = delete;
  UpstreamPool& operator=(const UpstreamPool&) = delete;
  ~UpstreamPool();

  // The most recently used idle connection that is still good, or a new one: resolve, check every address, dial, and
  // for https verify the certificate for the host.
  Task<UpstreamResult> acquire(UpstreamRequest request, Deadline deadline);
  // A new connection without TLS, whatever the scheme: for what is passed through unread. A destination that failed
  // again and again is not tried for a while: upstream_failing.
  Task<UpstreamResult> connect_plain(UpstreamRequest request, Deadline deadline);
  // Takes back a connection whose exchange is complete. One that can't carry another is closed: it has ended or failed,
  // holds bytes that nobody asked for, came from connect_plain() for https, or belongs to an older policy.
  void release(std::unique_ptr<UpstreamConnection> connection);
  // Before anything is connected to: the guard's own listeners, which no request may lead back to, whatever the mode.
  void set_own_listeners(std::vector<LocalAddr> listeners) { own_listeners_ = std::move(listeners); }
  // Closes idle connections of other policies; those on lease are not taken back.
  void policy_changed(std::shared_ptr<const document::Snapshot> policy);

  std::uint64_t connects() const { return connects_; }
  std::size_t idle() const { return idle_; }

 private:
  struct Key {
    std::string_view host;
    std::uint16_t port;
    request::Scheme scheme;
    const void* owner;        // the endpoint, or the policy where there is none
    bool enforce_addresses;   // what was dialled without the check is not used where it is demanded
    bool client_certificate;  // what the server takes for this client carries nothing that no rule allows
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return std::hash<std::string_view>()(key.host) ^ std::hash<const void*>()(key.owner) ^
             (static_cast<std::size_t>(key.port) << 1 | static_cast<std::size_t>(key.scheme));
    }
  };
  struct Shelf {
    std::string host;                                              // what the key's view points to
    std::vector<std::unique_ptr<UpstreamConnection>> connections;  // the most recently used last
  };
  static Key key_of(const UpstreamRequest& request);
  bool may_pool(const UpstreamConnection& connection) const;
  std::unique_ptr<UpstreamConnection> take_idle(const UpstreamRequest& request);
  void watch(UpstreamConnection& connection);
  void drop(UpstreamConnection& connection);
  Task<void> reap();

  Loop& loop_;
  Resolver& resolver_;
  UpstreamTls& tls_;
  Circuits circuits_;
  std::vector<LocalAddr> own_listeners_;
  PoolTimes times_;
  std::weak_ptr<const document::Snapshot> policy_;
  std::unordered_map<Key, std::unique_ptr<Shelf>, KeyHash> shelves_;
  std::size_t idle_ = 0;
  std::uint64_t connects_ = 0;
  std::optional<Concurrent> reaper_;  // last: it goes first
};

}  // namespace sallyport::net
