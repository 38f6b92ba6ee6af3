#include "proxy/guard/worker.h"

#include <array>
#include <bit>

#include "base/limits.h"
#include "base/random.h"
#include "proxy/guard/connection.h"
#include "proxy/guard/tags.h"
#include "proxy/net/tls_kdf.h"

namespace sallyport::guard {
namespace {

constexpr std::size_t kSpareSlotsMax = 64;

std::uint64_t random_id() {
  std::array<unsigned char, sizeof(std::uint64_t)> bytes{};
  // Names a record, guards nothing: a failing generator leaves 0 rather than stopping traffic.
  [[maybe_unused]] const bool filled = random_bytes(bytes);
  return std::bit_cast<std::uint64_t>(bytes);
}

}  // namespace

Worker::Worker(const Parts& parts)
    : policy_(parts.policy),
      recorder_(parts.recorder),
      names_(parts.names),
      executions_(parts.executions),
      runtime_api_(parts.runtime_api),
      membership_(parts.membership),
      terms_(parts.membership == nullptr ? nullptr : parts.membership->terms()),
      first_(parts.first),
      id_base_(random_id()),
      limit_(parts.capacity.places + parts.capacity.reserve),
      places_(parts.capacity.places) {}

Result<std::unique_ptr<Worker>> Worker::create(const Parts& parts) {
  std::unique_ptr<Worker> worker(new Worker(parts));
  OSSL_LIB_CTX* lib = parts.authority->lib();
  if (!parts.first) {
    worker->lib_.reset(OSSL_LIB_CTX_new());
    lib = worker->lib_.get();
    if (lib == nullptr) return fail(ErrorSource::internal, ErrorKind::limit, "out of memory for OpenSSL");
    net::provide_key_schedule(worker->lib_);
  }
  Result<ca::Authority> authority = parts.authority->clone_into(lib);
  if (!authority) return std::unexpected(authority.error());
  net::UpstreamTlsOptions upstream_options;
  upstream_options.more_roots_pem = parts.upstream_ca_pem;
  upstream_options.protocols = {"h2", "http/1.1"};
  upstream_options.own_ca_pem = authority->certificate_pem();
  Result<ca::LeafCache> leaves = ca::LeafCache::create(std::move(*authority));
  if (!leaves) return std::unexpected(leaves.error());
  worker->leaves_ = std::make_unique<ca::LeafCache>(std::move(*leaves));
  auto server_tls = net::ServerTls::create(lib, {"h2", "http/1.1", "http/1.0"});  // `curl --http1.0` offers no other
  if (!server_tls) return std::unexpected(server_tls.error());
  worker->server_tls_ = std::move(*server_tls);
  auto resolver = net::make_resolver(worker->loop_, parts.resolver);
  if (!resolver) return std::unexpected(resolver.error());
  worker->resolver_ = std::move(*resolver);
  auto upstream_tls = net::UpstreamTls::create(lib, std::move(upstream_options));
  if (!upstream_tls) return std::unexpected(upstream_tls.error());
  worker->upstream_tls_ = std::move(*upstream_tls);
  worker->upstream_ = std::make_unique<net::UpstreamPool>(worker->loop_, *worker->resolver_, *worker->upstream_tls_);
  worker->shared_upstreams_ = std::make_unique<SharedUpstreams>(worker->loop_, *worker->upstream_);
  if (parts.membership != nullptr) {
    worker->purses_ = std::make_unique<Purses>(worker->loop_, parts.membership->link());
  }
  worker->loop_.on_exception = [](std::exception_ptr) {
    // Out of memory, most likely. The connection is gone with its coroutine: closed, as it must be.
  };
  return worker;
}

Worker::~Worker() {
  // Connections go before what they use.
  acceptors_.clear();
  loop_.drop_tasks();
}

Result<net::SslPtr> Worker::accept_tls(const std::string& host, std::uint16_t port) {
  Result<const ca::Leaf*> leaf =
      leaves_->get(host, std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
  if (!leaf) return std::unexpected(leaf.error());
  counters_.leaves_minted.store(minted_before_ + leaves_->mints(), std::memory_order_relaxed);
  const std::string server = ServerProtocols::key(host, port);
  const bool http1 = shared_upstreams_->protocols().wants_http1(server, loop_.now());
  return server_tls_->accept_for(**leaf, host, http1);
}

void Worker::listen(UniqueFd listening, Listener kind) { accept(std::move(listening), kind, nullptr); }

void Worker::listen_for(const InboundPort& port, UniqueFd listening) {
  accept(std::move(listening), Listener::inbound, &port);
}

void Worker::take_sockets_from(UniqueFd channel) {
  sockets_ = std::make_unique<net::SocketStock>(loop_, std::move(channel));
}

void Worker::accept(UniqueFd listening, Listener kind, const InboundPort* port) {
  net::Acceptor::Handlers handlers;
  handlers.on_connection = [this, kind, port](UniqueFd fd, net::ConnectionSlot slot) {
    counters_.connections_accepted.fetch_add(1, std::memory_order_relaxed);
    loop_.spawn(serve(std::move(fd), kind, port, std::move(slot)));
  };
  handlers.on_trouble = [this](const std::string& trouble) { report_overload(trouble); };
  handlers.on_full = [this] { make_room(); };
  acceptors_.push_back(std::make_unique<net::Acceptor>(loop_, std::move(listening), limit_, std::move(handlers)));
}

void Worker::report_overload(std::string text) {
  Record record = new_record();
  record.kind = RecordKind::connection;
  record.reason = Reason::overloaded;
  record.text = std::move(text);
  submit(std::move(record));
}

// Once a second at most: it holds for all that come meanwhile.
void Worker::report_fullness(std::string_view what_follows) {
  if (loop_.now() < quiet_until_) return;
  quiet_until_ = loop_.in(std::chrono::seconds(1));
  report_overload("all " + std::to_string(places_.open()) +
                  " places for connections are taken: " + std::string(what_follows));
}

void Worker::report_turned_away() { report_fullness("connections without HTTP, which could be told, are closed"); }

void Worker::evict(ConnectionLease& connection) {
  connection.stream_.cancel();
  connection.evicted_ = true;
  connection.enlist();  // so that the next one to go is another
  counters_.connections_evicted.fetch_add(1, std::memory_order_relaxed);
  report_fullness("those that are silent for longest are closed for new ones");
}

// Places and reserve are taken: the connection that has been silent for longest goes. Where nobody is silent for long
// enough, who comes waits in the kernel's backlog.
void Worker::make_room() {
  ConnectionLease* longest = nullptr;
  for (const auto* list : {&silent_, &reserve_}) {
    if (list->empty()) continue;
    if (longest == nullptr || list->front()->silent_since_ < longest->silent_since_) longest = list->front();
  }
  if (longest == nullptr || longest->silent_since_ + limits::kEvictionSilenceMin > loop_.now()) return;
  evict(*longest);
}

// The connection with a place that has been silent for longest gives it up, or will. When that is to be looked at
// again; nothing where nobody is silent.
std::optional<net::Deadline> Worker::give_up_a_place() {
  if (silent_.empty()) return std::nullopt;
  const net::Deadline due = silent_.front()->silent_since_ + limits::kEvictionSilenceMin;
  if (due > loop_.now()) return due;
  evict(*silent_.front());
  return loop_.in(limits::kAcceptRetryDelay);
}

net::Task<void> Worker::serve(UniqueFd fd, Listener kind, const InboundPort* port, net::ConnectionSlot slot) {
  net::ConnectionSlot held = std::move(slot);
  counters_.connections_open.fetch_add(1, std::memory_order_relaxed);
  try {
    switch (kind) {
      case Listener::redirected:
        co_await serve_connection(*this, std::move(fd));
        break;
      case Listener::proxy:
        co_await serve_proxied(*this, std::move(fd));
        break;
      case Listener::inbound:
        co_await serve_inbound(*this, *port, std::move(fd));
        break;
    }
  } catch (const std::exception& failure) {
    // Out of memory, in all likelihood. Fails closed: the connection is gone, and the record says why.
    Record record = new_record();
    record.kind = RecordKind::connection;
    record.reason = Reason::internal;
    record.text = failure.what();
    submit(std::move(record));
  }
  counters_.connections_open.fetch_sub(1, std::memory_order_relaxed);
}

// Ends them in time, whatever the function does or leaves undone, and lets the controller know how many there are.
net::Task<void> Worker::look_at_executions() {
  while (true) {
    co_await loop_.sleep_until(loop_.in(limits::kExecutionTick));
    executions_->end_overdue(loop_.now());
    if (membership_ != nullptr) membership_->link().set_executions_open(executions_->open());
  }
}

std::optional<tag::GuardId> Worker::guard_id() const {
  return membership_ == nullptr ? own_guard_id() : membership_->guard_id();
}

void Worker::run() {
  if (executions_->tracking() && first_) loop_.spawn(look_at_executions());
  loop_.run();
  flush_records();
}

void Worker::stop(std::chrono::milliseconds grace) {
  loop_.post([this, grace] {
    draining_ = true;
    for (auto& acceptor : acceptors_) acceptor->finish();
    acceptors_.clear();  // closes their sockets: who comes now is refused, and may try elsewhere
    cancel_connections(true);
    loop_.spawn(drain(loop_.in(grace)));
  });
}

// Waits for the connections to end, cancels what is left after the grace period, and stops the loop.
net::Task<void> Worker::drain(net::Deadline until) {
  while (limit_.open() > 0 && loop_.now() < until) co_await loop_.sleep_until(loop_.in(limits::kDrainTick));
  cancel_connections(false);
  // A cancelled connection ends at its next step; the bound is for what waits on something else (a lookup).
  net::Deadline end = loop_.in(limits::kDrainTick * 10);
  while (limit_.open() > 0 && loop_.now() < end) co_await loop_.sleep_until(loop_.in(limits::kDrainTick));
  loop_.stop();
}

void Worker::cancel_connections(bool idle_only) {
  for (ConnectionLease* connection : connections_) {
    if (idle_only && connection->drain_) {
      connection->drain_();
    } else if (!idle_only || connection->state_ == ConnectionLease::State::idle) {
      connection->stream_.cancel();
    }
  }
  if (idle_only) return;
  for (InFlight* in_flight : in_flight_) in_flight->cancel();
}

void Worker::set_policy(std::shared_ptr<const document::Snapshot> policy, std::shared_ptr<const Terms> terms) {
  loop_.post([this, policy = std::move(policy), terms = std::move(terms)] {
    policy_ = policy;
    terms_ = terms;
    upstream_->policy_changed(policy_);
    shared_upstreams_->policy_changed(policy_);
    for (InFlight* in_flight : in_flight_) in_flight->policy_changed(*policy_);
  });
}

void Worker::set_certificates(std::shared_ptr<const std::string> pem) {
  loop_.post([this, pem = std::move(pem)] {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    auto authority = leaves_->authority().with_certificates({"the controller's certificate", *pem}, now);
    if (!authority) return;  // read once already: out of memory. What there is ends in time, and fails closed then
    auto leaves = ca::LeafCache::create(std::move(*authority));
    if (!leaves) return;
    minted_before_ += leaves_->mints();
    *leaves_ = std::move(*leaves);
  });
}

void Worker::enter(InFlight& in_flight) {
  in_flight.index_ = in_flight_.size();
  in_flight_.push_back(&in_flight);
}

void Worker::leave(InFlight& in_flight) {
  in_flight_[in_flight.index_] = in_flight_.back();
  in_flight_[in_flight.index_]->index_ = in_flight.index_;
  in_flight_.pop_back();
}

Record Worker::new_record() {
  Record record;
  // Unique in the process and unpredictable enough to be found by: it is a name, not a secret.
  record.id = id_base_ += 0x9E37'79B9'7F4A'7C15U;
  record.time = std::chrono::system_clock::now();
  record.mode = policy_->mode();
  return record;
}

void Worker::submit(Record&& record) {
  batch_.push_back(std::move(record));
  // To a controller the records of an execution's exchanges go before its end, which the recorder is told of at once.
  if (batch_.size() >= limits::kRecordsBatchMax || membership_ != nullptr) {
    flush_records();
  } else if (!flush_pending_) {
    flush_pending_ = true;
    loop_.spawn(flush_soon());
  }
}

net::Task<void> Worker::flush_soon() {
  co_await loop_.sleep_until(loop_.in(limits::kRecordsBatchDelay));
  flush_pending_ = false;
  flush_records();
}

void Worker::flush_records() {
  counters_.upstream_connects.store(upstream_->connects(), std::memory_order_relaxed);
  recorder_->submit(batch_);
}

SlotLease::SlotLease(Worker& worker) : worker_(worker) {
  if (worker.spare_slots_.empty()) {
    slot_ = std::make_unique<ExchangeSlot>();
  } else {
    slot_ = std::move(worker.spare_slots_.back());
    worker.spare_slots_.pop_back();
  }
}

SlotLease::~SlotLease() {
  slot_->server.detach();
  slot_->response.headers.clear();
  slot_->route.policy.reset();
  if (worker_.spare_slots_.size() < kSpareSlotsMax) worker_.spare_slots_.push_back(std::move(slot_));
}

ConnectionLease::ConnectionLease(Worker& worker, net::Stream& stream)
    : worker_(worker), stream_(stream), index_(worker.connections_.size()), silent_since_(worker.loop_.now()) {
  worker.connections_.push_back(this);
  if (worker.claims_ == 0 && worker.has_place()) place_ = worker.take_place();
  enlist();
}

void ConnectionLease::set(State state) {
  state_ = state;
  enlist();
}

// In the reserve a connection counts as silent whatever it does, so that none can hold its room there.
void ConnectionLease::enlist() {
  std::list<ConnectionLease*>* list = nullptr;
  if (!evicted_ && !claiming_ && (state_ != State::busy || !place_)) {
    list = place_ ? &worker_.silent_ : &worker_.reserve_;
  }
  if (list == listed_) return;
  std::list<ConnectionLease*>& from = listed_ == nullptr ? unlisted_ : *listed_;
  std::list<ConnectionLease*>& to = list == nullptr ? unlisted_ : *list;
  to.splice(to.end(), from, position_);
  listed_ = list;
  if (list == nullptr) return;
  silent_since_ = worker_.loop_.now();
}

// While it waits for a place, which is not for long, it does not have to make room itself.
class ConnectionLease::Claim {
 public:
  explicit Claim(ConnectionLease& connection) : connection_(connection) {
    ++connection_.worker_.claims_;
    connection_.claiming_ = true;
    connection_.enlist();
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    --connection_.worker_.claims_;
    connection_.claiming_ = false;
    connection_.enlist();
  }

 private:
  ConnectionLease& connection_;
};

net::Task<bool> ConnectionLease::claim_place() {
  if (place_) co_return true;
  const bool found = co_await wait_for_place();
  if (!found) turned_away_ = true;
  co_return found;
}

net::Task<bool> ConnectionLease::wait_for_place() {
  const Claim claim(*this);
  net::Loop& loop = worker_.loop_;
  const net::Deadline until = loop.in(limits::kPlaceWaitMax);
  const auto room = std::make_shared<net::Event>(loop);
  net::Deadline again = loop.now();
  while (!worker_.has_place()) {
    if (loop.now() >= until) co_return false;
    if (loop.now() >= again) {  // not for each place that another takes: this one has closed a connection for its own
      const std::optional<net::Deadline> next = worker_.give_up_a_place();
      if (!next) co_return false;
      again = *next;
    }
    room->reset();
    worker_.places_.announce_room(room);
    co_await room->wait(std::min(again, until));
  }
  place_ = worker_.take_place();
  co_return true;
}

ConnectionLease::~ConnectionLease() {
  evicted_ = true;
  enlist();
  worker_.connections_[index_] = worker_.connections_.back();
  worker_.connections_[index_]->index_ = index_;
  worker_.connections_.pop_back();
}

}  // namespace sallyport::guard
