#pragma once
// One worker: a thread's loop and everything that its connections share. Nothing here is locked; other threads reach a
// worker through loop().post() only.

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "base/limits.h"
#include "ca/leaf_cache.h"
#include "policy-engine/document/snapshot.h"
#include "proxy/guard/capacity.h"
#include "proxy/guard/chain.h"
#include "proxy/guard/execution_table.h"
#include "proxy/guard/held_request.h"
#include "proxy/guard/membership.h"
#include "proxy/guard/purses.h"
#include "proxy/guard/record.h"
#include "proxy/guard/recorder.h"
#include "proxy/guard/runtime_api.h"
#include "proxy/guard/shared_upstreams.h"
#include "proxy/http1/client_exchange.h"
#include "proxy/http1/server_exchange.h"
#include "proxy/net/acceptor.h"
#include "proxy/net/dns_table.h"
#include "proxy/net/loop.h"
#include "proxy/net/socket_stock.h"
#include "proxy/net/tls_context.h"
#include "proxy/net/upstream.h"

namespace sallyport::guard {

// What one exchange needs besides its connection. Recycled: an idle connection holds none.
struct ExchangeSlot {
  http1::ServerExchange server;  // of a connection that speaks HTTP/1
  http1::ClientExchange client;
  request::ResponseHead response;
  Route route;
};

// An exchange or tunnel in flight: a new policy looks at it again.
class InFlight {
 public:
  virtual ~InFlight() = default;
  // Called when the policy was swapped. One that the new policy would refuse ends itself, and says so in its record.
  virtual void policy_changed(const document::Snapshot& policy) = 0;
  // Ends every wait of it, at once: the grace period is over.
  virtual void cancel() = 0;

 private:
  friend class Worker;
  std::size_t index_ = 0;  // in the worker's list
};

// Counters that the admin thread reads while the worker runs.
struct WorkerCounters {
  std::atomic<std::uint64_t> connections_accepted{0};
  std::atomic<std::uint64_t> connections_open{0};
  std::atomic<std::uint64_t> connections_evicted{0};
  std::atomic<std::uint64_t> upstream_connects{0};
  std::atomic<std::uint64_t> leaves_minted{0};
};

class ConnectionLease;

// What connects to a listening socket.
enum class Listener : std::uint8_t {
  redirected,  // connections that netfilter took from where they were going
  proxy,       // clients that say where they want to go: CONNECT, or requests for http:// URLs
  inbound,     // clients of the function
};

class Worker {
 public:
  struct Parts {
    std::shared_ptr<const document::Snapshot> policy;
    Recorder* recorder = nullptr;
    net::DnsTable* names = nullptr;  // null: no DNS service, no synthetic addresses
    const ca::Authority* authority = nullptr;
    bool first = true;            // works in the authority's own context; each other worker in one of its own
    std::string upstream_ca_pem;  // more roots; may be empty
    Capacity capacity{limits::kPlacesPerWorkerMax, limits::kReservePerWorkerMax};
    net::ResolverOptions resolver;
    ExecutionTable* executions = nullptr;
    const RuntimeApi* runtime_api = nullptr;  // null: there is none
    Membership* membership = nullptr;         // null: there is no controller
  };
  // On any thread, before run().
  static Result<std::unique_ptr<Worker>> create(const Parts& parts);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Before run(), or on the worker's thread: accepts guarded connections here.
  void listen(UniqueFd listening, Listener kind);
  // The same for who wants to reach the function; `port` must outlive the worker.
  void listen_for(const InboundPort& port, UniqueFd listening);
  // Before run(): where sockets come from that lead to the function; without it from this process's own namespace.
  void take_sockets_from(UniqueFd channel);
  // The worker's thread. Returns after stop() once what is open has ended, or the grace period is over.
  void run();
  // Any thread: stops accepting (who has connected already is served), lets open exchanges end for at most `grace`,
  // then cancels them.
  void stop(std::chrono::milliseconds grace);
  // Any thread.
  void set_policy(std::shared_ptr<const document::Snapshot> policy, std::shared_ptr<const Terms> terms);

  // Any thread: certificates that are newer, for the key of the authority that it was made with. Leaves of the ones
  // before are not shown any more.
  void set_certificates(std::shared_ptr<const std::string> pem);

  net::Loop& loop() { return loop_; }
  const std::shared_ptr<const document::Snapshot>& policy() const { return policy_; }
  net::UpstreamPool& upstream() { return *upstream_; }
  SharedUpstreams& shared_upstreams() { return *shared_upstreams_; }
  net::DnsTable* names() { return names_; }
  net::SocketStock* sockets() { return sockets_.get(); }  // null: made here
  WorkerCounters& counters() { return counters_; }
  HeldBytes& held_bytes() { return held_bytes_; }
  ExecutionTable& executions() { return *executions_; }
  const RuntimeApi* runtime_api() const { return runtime_api_; }
  // Of the application; all three null where there is no controller.
  Membership* membership() const { return membership_; }
  const std::shared_ptr<const Terms>& terms() const { return terms_; }
  Purses* purses() { return purses_.get(); }
  // What tags are made with.
  std::optional<tag::GuardId> guard_id() const;
  bool draining() const { return draining_; }
  // A place beside those of the connections, for an exchange that shares one with others; none when all are taken.
  bool has_place() const { return !places_.full(); }
  net::ConnectionSlot take_place() { return places_.take(); }
  // A connection that carries no HTTP, so that nothing can be answered, is closed for want of a place.
  void report_turned_away();

  // TLS towards the function under this name: a leaf from the cache, or a new one. HTTP/2 is not chosen with a client
  // that takes HTTP/1, too, where the server is known to want that.
  // Fails closed: no leaf can be made now, or none that clients would take.
  Result<net::SslPtr> accept_tls(const std::string& host, std::uint16_t port);
  // Whether clients take a leaf for this name: the CA may be for some hosts only.
  bool may_answer_for(std::string_view host) const { return ca::permits(leaves_->authority().permitted(), host); }
  void tls_accepted(const SSL* ssl) { server_tls_->completed(ssl); }

  void enter(InFlight& in_flight);
  void leave(InFlight& in_flight);

  // A fresh record: id, time, mode.
  Record new_record();
  void submit(Record&& record);

 private:
  explicit Worker(const Parts& parts);
  void flush_records();
  net::Task<void> flush_soon();
  net::Task<void> drain(net::Deadline until);
  void accept(UniqueFd listening, Listener kind, const InboundPort* port);
  net::Task<void> serve(UniqueFd fd, Listener kind, const InboundPort* port, net::ConnectionSlot slot);
  net::Task<void> look_at_executions();
  void make_room();
  std::optional<net::Deadline> give_up_a_place();
  void evict(ConnectionLease& connection);
  void report_overload(std::string text);
  void report_fullness(std::string_view what_follows);
  void cancel_connections(bool idle_only);

  friend class SlotLease;
  friend class ConnectionLease;

  std::shared_ptr<const document::Snapshot> policy_;
  Recorder* recorder_;
  net::DnsTable* names_;
  WorkerCounters counters_;
  HeldBytes held_bytes_;
  ExecutionTable* executions_;
  const RuntimeApi* runtime_api_;
  Membership* membership_;
  std::shared_ptr<const Terms> terms_;
  const bool first_;  // of the guard's workers: does what one of them has to
  std::vector<Record> batch_;
  std::uint64_t id_base_;
  bool flush_pending_ = false;
  bool draining_ = false;
  std::vector<std::unique_ptr<ExchangeSlot>> spare_slots_;
  std::vector<InFlight*> in_flight_;
  std::vector<ConnectionLease*> connections_;
  // Connections without an exchange under way, the longest so first: those that have a place, and those that have none.
  std::list<ConnectionLease*> silent_, reserve_;
  std::size_t claims_ = 0;  // of connections in the reserve that wait for a place: they are served before new ones
  net::Deadline quiet_until_ = net::Deadline::min();
  net::Loop loop_;
  net::ConnectionLimit limit_;   // accepted: as many as there are places, and the reserve
  net::ConnectionLimit places_;  // of those, who can be served
  std::vector<std::unique_ptr<net::Acceptor>> acceptors_;
  std::unique_ptr<net::SocketStock> sockets_;
  ca::LibCtxPtr lib_;  // null: of the authority
  std::unique_ptr<ca::LeafCache> leaves_;
  std::uint64_t minted_before_ = 0;  // below certificates that were replaced
  std::unique_ptr<net::ServerTls> server_tls_;
  std::unique_ptr<net::Resolver> resolver_;
  std::unique_ptr<net::UpstreamTls> upstream_tls_;
  std::unique_ptr<net::UpstreamPool> upstream_;
  std::unique_ptr<SharedUpstreams> shared_upstreams_;
  std::unique_ptr<Purses> purses_;
};

// An exchange slot for as long as a connection has something to do.
class SlotLease {
 public:
  explicit SlotLease(Worker& worker);
  SlotLease(const SlotLease&) = delete;
  SlotLease& operator=(const SlotLease&) = delete;
  ~SlotLease();
  ExchangeSlot& slot() { return *slot_; }

 private:
  Worker& worker_;
  std::unique_ptr<ExchangeSlot> slot_;
};

// A connection of the function, while it is open: what a drain looks through, and what may have to make room. It has a
// place while there are some. Beyond that it is in the reserve: it is opened and its first request read, for which it
// may then get a place; if not, the request is told so, and the connection ends.
class ConnectionLease {
 public:
  enum class State : std::uint8_t {
    opening,  // its hello, its handshake or a request's head is being waited for; may have to make room for another
    idle,     // between requests: may have to make room, and a drain may close it at once
    busy,     // an exchange or a tunnel is under way
  };
  ConnectionLease(Worker& worker, net::Stream& stream);
  ConnectionLease(const ConnectionLease&) = delete;
  ConnectionLease& operator=(const ConnectionLease&) = delete;
  ~ConnectionLease();
  // A connection begins as opening. From busy it is silent anew; from idle to opening it has been so all the while, or
  // one byte now and then would count as a sign of life.
  void set(State state);
  // Before anything that needs an upstream: false when there is no place, and none can be expected in a moment, as
  // nobody is silent whose place it could be. True at once for a connection that has one.
  net::Task<bool> claim_place();
  // A claim was in vain: nothing more is to be asked on this connection.
  bool turned_away() const { return turned_away_; }
  // What a drain does first, instead of closing the connection if it is idle; empty: nothing. It ends with its owner.
  void on_drain(std::function<void()> drain) { drain_ = std::move(drain); }

 private:
  friend class Worker;
  class Claim;
  net::Task<bool> wait_for_place();
  void enlist();

  Worker& worker_;
  net::Stream& stream_;
  std::size_t index_;
  net::ConnectionSlot place_;
  std::list<ConnectionLease*>* listed_ = nullptr;  // the worker's list that it is in, if it may have to make room
  std::list<ConnectionLease*> unlisted_{this};
  std::list<ConnectionLease*>::iterator position_ = unlisted_.begin();  // in either
  net::Deadline silent_since_;
  State state_ = State::opening;
  bool claiming_ = false;
  bool evicted_ = false;
  bool turned_away_ = false;
  std::function<void()> drain_;
};

}  // namespace sallyport::guard
