#include "proxy/guard/worker.h"

#include <array>
#include <bit>

#include "base/limits.h"
#include "base/random.h"
#include "proxy/guard/connection.h"

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
      id_base_(random_id()),
      limit_(parts.connections_max) {}

Result<std::unique_ptr<Worker>> Worker::create(const Parts& parts) {
  std::unique_ptr<Worker> worker(new Worker(parts));
  OSSL_LIB_CTX* lib = parts.authority->lib();
  if (!parts.first) {
    worker->lib_.reset(OSSL_LIB_CTX_new());
    lib = worker->lib_.get();
    if (lib == nullptr) return fail(ErrorSource::internal, ErrorKind::limit, "out of memory for OpenSSL");
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
  auto server_tls = net::ServerTls::create(lib, {"h2", "http/1.1"});
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
  counters_.leaves_minted.store(leaves_->mints(), std::memory_order_relaxed);
  const std::string server = ServerProtocols::key(host, port);
  const bool http1 = shared_upstreams_->protocols().wants_http1(server, loop_.now());
  return server_tls_->accept_for(**leaf, host, http1);
}

void Worker::listen(UniqueFd listening, Listener kind) {
  net::Acceptor::Handlers handlers;
  handlers.on_connection = [this, kind](UniqueFd fd, net::ConnectionSlot slot) {
    counters_.connections_accepted.fetch_add(1, std::memory_order_relaxed);
    loop_.spawn(serve(std::move(fd), kind, std::move(slot)));
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

// All places are taken: the connection that has been silent for longest gives its own up. Where nobody is silent for
// long enough, who comes waits.
void Worker::make_room() {
  if (silent_.empty()) return;
  ConnectionLease& longest = *silent_.front();
  if (longest.silent_since_ + limits::kEvictionSilenceMin > loop_.now()) return;
  longest.stream_.cancel();
  longest.set(ConnectionLease::State::busy);  // so that the next one to go is another
  counters_.connections_evicted.fetch_add(1, std::memory_order_relaxed);
  if (loop_.now() < quiet_until_) return;
  quiet_until_ = loop_.in(std::chrono::seconds(1));
  report_overload("all " + std::to_string(limit_.open()) +
                  " places for connections are taken: those that are silent for longest are closed for new ones");
}

net::Task<void> Worker::serve(UniqueFd fd, Listener kind, net::ConnectionSlot slot) {
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

void Worker::run() {
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

void Worker::set_policy(std::shared_ptr<const document::Snapshot> policy) {
  loop_.post([this, policy = std::move(policy)] {
    policy_ = policy;
    upstream_->policy_changed(policy_);
    shared_upstreams_->policy_changed(policy_);
    for (InFlight* in_flight : in_flight_) in_flight->policy_changed(*policy_);
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
  if (batch_.size() >= limits::kRecordsBatchMax) {
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
    : worker_(worker),
      stream_(stream),
      index_(worker.connections_.size()),
      place_(worker.silent_.insert(worker.silent_.end(), this)),
      silent_since_(worker.loop_.now()) {
  worker.connections_.push_back(this);
}

void ConnectionLease::set(State state) {
  const bool was_busy = state_ == State::busy;
  const bool is_busy = state == State::busy;
  state_ = state;
  if (was_busy == is_busy) return;
  if (is_busy) {
    own_place_.splice(own_place_.end(), worker_.silent_, place_);
  } else {
    worker_.silent_.splice(worker_.silent_.end(), own_place_);
    silent_since_ = worker_.loop_.now();
  }
}

ConnectionLease::~ConnectionLease() {
  set(State::busy);
  worker_.connections_[index_] = worker_.connections_.back();
  worker_.connections_[index_]->index_ = index_;
  worker_.connections_.pop_back();
}

}  // namespace sallyport::guard
