#include "proxy/guard/shared_upstreams.h"

#include <algorithm>

#include "base/limits.h"

namespace sallyport::guard {
namespace {

bool same_destination(const net::UpstreamRequest& a, const net::UpstreamRequest& b) {
  return a.host == b.host && a.port == b.port && a.scheme == b.scheme && a.endpoint == b.endpoint &&
         a.policy == b.policy && a.enforce_addresses == b.enforce_addresses &&
         a.client_certificate == b.client_certificate;
}

std::string server_of(const net::UpstreamRequest& request) { return ServerProtocols::key(request.host, request.port); }

}  // namespace

SharedUpstream::SharedUpstream(std::unique_ptr<net::UpstreamConnection> agreed, net::UpstreamRequest lease)
    : connection(std::move(agreed)), made_for(std::move(lease)), http2(connection->stream()) {}

// The first connection to a server of which nothing is known.
struct SharedUpstreams::Attempt {
  Attempt(net::Loop& loop, const net::UpstreamRequest& request) : made_for(request), over(loop) {}
  net::UpstreamRequest made_for;
  net::Event over;
  Spoken spoken = Spoken::unknown;  // what it came to; unknown where it failed
  std::optional<net::UpstreamFailure> failure;
};

// Whatever ends the attempt (its coroutine may be destroyed): who waits for it is told.
class SharedUpstreams::Attempting {
 public:
  Attempting(SharedUpstreams& owner, const net::UpstreamRequest& request)
      : owner_(owner), attempt_(std::make_shared<Attempt>(owner.loop_, request)) {
    owner_.attempts_.push_back(attempt_);
  }
  Attempting(const Attempting&) = delete;
  Attempting& operator=(const Attempting&) = delete;
  ~Attempting() {
    std::erase(owner_.attempts_, attempt_);
    attempt_->over.set();
  }
  Attempt& operator*() const { return *attempt_; }

 private:
  SharedUpstreams& owner_;
  std::shared_ptr<Attempt> attempt_;
};

SharedUpstreams::~SharedUpstreams() = default;

net::Task<SharedUpstreams::Acquired> SharedUpstreams::acquire(net::UpstreamRequest request, bool websocket,
                                                              std::shared_ptr<SharedUpstream> failed,
                                                              net::Deadline deadline) {
  if (failed) learn_from(*failed);
  const std::string server = server_of(request);
  std::shared_ptr<Attempt> waited_for;
  while (true) {
    const bool refuses = websocket && protocols_.refuses_websocket(server, loop_.now());
    const bool could_be_http2 = request.scheme == request::Scheme::https || request.prior_knowledge;
    if (!could_be_http2 || refuses || protocols_.wants_http1(server, loop_.now())) {
      co_return co_await dial_http1(std::move(request), deadline);
    }
    UpstreamLease lease;
    lease.shared = find(request, failed.get());
    lease.reused = lease.shared != nullptr;
    if (!lease.shared) {
      if (waited_for && waited_for->failure) co_return std::unexpected(*waited_for->failure);
      const bool speaks_http1 = waited_for && waited_for->spoken == Spoken::http1;
      const bool alone = !speaks_http1 && protocols_.agreed_on(server, loop_.now()) != Spoken::http1;
      waited_for = alone ? attempt_for(request) : nullptr;
      if (waited_for) {
        // It ends with the attempt, which has a deadline of its own, that of who came first.
        co_await waited_for->over.wait(deadline);
        if (waited_for->over.is_set()) continue;
        co_return std::unexpected(
            net::UpstreamFailure{Reason::upstream_timeout, "connecting to " + request.host + " took too long"});
      }
      Acquired dialled;
      if (alone) {
        dialled = co_await dial_first(request, deadline);
      } else {
        dialled = co_await dial(request, deadline);
      }
      if (!dialled || !dialled->shared) co_return dialled;
      lease = std::move(*dialled);
    }
    if (request.prior_knowledge) {
      // Nobody has agreed on it. Nothing is sent before the server's SETTINGS are here, as what speaks HTTP/1 answers
      // with something else; that one is then asked in HTTP/1.
      co_await lease.shared->http2.settled(deadline);
      learn_from(*lease.shared);
      if (protocols_.wants_http1(server, loop_.now())) continue;
    }
    if (!websocket) co_return lease;
    const bool takes = co_await takes_websocket(lease.shared, deadline);
    if (takes) co_return lease;
    waited_for = nullptr;
  }
}

net::Task<SharedUpstreams::Acquired> SharedUpstreams::dial(net::UpstreamRequest request, net::Deadline deadline) {
  request.fresh = request.fresh || request.prior_knowledge;  // the pool has those that have spoken HTTP/1
  auto connected = co_await pool_.acquire(request, deadline);
  if (!connected) co_return std::unexpected(std::move(connected.error()));
  UpstreamLease lease;
  lease.reused = (*connected)->reused();
  const bool http2 = request.prior_knowledge || (*connected)->stream().alpn() == "h2";
  protocols_.note_agreed(server_of(request), http2 ? Spoken::http2 : Spoken::http1, loop_.now());
  if (http2) {
    lease.shared = share(std::move(*connected), request);
  } else {
    lease.own = std::move(*connected);
  }
  co_return lease;
}

net::Task<SharedUpstreams::Acquired> SharedUpstreams::dial_first(net::UpstreamRequest request, net::Deadline deadline) {
  const Attempting attempting(*this, request);
  Attempt& attempt = *attempting;
  Acquired dialled = co_await dial(std::move(request), deadline);
  if (dialled) {
    attempt.spoken = dialled->shared ? Spoken::http2 : Spoken::http1;
  } else {
    attempt.failure = dialled.error();
  }
  co_return dialled;
}

net::Task<SharedUpstreams::Acquired> SharedUpstreams::dial_http1(net::UpstreamRequest request, net::Deadline deadline) {
  request.http1_only = true;
  const std::string server = server_of(request);
  auto connected = co_await pool_.acquire(std::move(request), deadline);
  if (!connected) {
    // It may be that it does not speak HTTP/1 at all: next time everything is offered again.
    if (connected.error().reason == Reason::upstream_tls) protocols_.forget(server);
    co_return std::unexpected(std::move(connected.error()));
  }
  UpstreamLease lease;
  lease.reused = (*connected)->reused();
  lease.own = std::move(*connected);
  co_return lease;
}

// False when it is to be HTTP/1, or another connection.
net::Task<bool> SharedUpstreams::takes_websocket(std::shared_ptr<SharedUpstream> shared, net::Deadline deadline) {
  co_await shared->http2.settled(deadline);
  if (shared->http2.takes_websocket()) co_return true;
  learn_from(*shared);
  protocols_.note_refuses_websocket(server_of(shared->made_for), loop_.now());
  co_return false;
}

void SharedUpstreams::learn_from(const SharedUpstream& shared) {
  const std::string server = server_of(shared.made_for);
  switch (shared.http2.fitness()) {
    case http2::ClientConnection::Fitness::good:
      break;
    case http2::ClientConnection::Fitness::http1_required:
      protocols_.note_wants_http1(server, limits::kServerProtocolTime, loop_.now());
      break;
    case http2::ClientConnection::Fitness::broken:
      protocols_.note_wants_http1(server, limits::kHttp1AfterBrokenHttp2, loop_.now());
      break;
  }
}

std::shared_ptr<SharedUpstream> SharedUpstreams::find(const net::UpstreamRequest& request,
                                                      const SharedUpstream* but) const {
  for (const auto& shared : open_) {
    if (shared.get() != but && same_destination(shared->made_for, request) && shared->http2.usable()) return shared;
  }
  return nullptr;
}

std::shared_ptr<SharedUpstreams::Attempt> SharedUpstreams::attempt_for(const net::UpstreamRequest& request) const {
  for (const auto& attempt : attempts_) {
    if (same_destination(attempt->made_for, request)) return attempt;
  }
  return nullptr;
}

std::shared_ptr<SharedUpstream> SharedUpstreams::share(std::unique_ptr<net::UpstreamConnection> connection,
                                                       const net::UpstreamRequest& request) {
  auto shared = std::make_shared<SharedUpstream>(std::move(connection), request);
  open_.push_back(shared);
  loop_.spawn(keep(shared));
  return shared;
}

net::Task<void> SharedUpstreams::keep(std::shared_ptr<SharedUpstream> shared) {
  co_await shared->http2.run();
  learn_from(*shared);
  std::erase(open_, shared);
}

void SharedUpstreams::policy_changed(const std::shared_ptr<const document::Snapshot>& policy) {
  for (const auto& shared : open_) {
    if (shared->made_for.policy != policy) shared->http2.retire();
  }
}

}  // namespace sallyport::guard
