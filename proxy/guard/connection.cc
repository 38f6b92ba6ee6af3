#include "proxy/guard/connection.h"

#include "base/limits.h"
#include "proxy/guard/denial.h"
#include "proxy/guard/explicit_proxy.h"
#include "proxy/guard/inbound.h"
#include "proxy/guard/serve.h"
#include "proxy/guard/tunnel.h"
#include "proxy/http1/serialize.h"
#include "proxy/http2/server_connection.h"
#include "proxy/net/original_destination.h"
#include "proxy/net/sniff.h"

namespace sallyport::guard {
namespace {

using document::ConnectionAction;
using document::Mode;

// A fatal alert, before any key is agreed on (RFC 8446 sections 5.1 and 6).
constexpr std::string_view kAccessDenied("\x15\x03\x03\x00\x02\x02\x31", 7);

// Where the connection was going, and under which name the guard knows that address.
struct Arrival {
  net::OriginalDst destination;
  request::Host host;  // the name behind a synthetic address, else the address itself; or what CONNECT named
  bool by_connect = false;
};

// What the first bytes said.
struct Opening {
  net::Sniffed sniffed;
  net::ReadBuffer bytes;  // everything read so far, the hello included
  std::string_view early() const { return bytes.unread(); }
};

// The record of a connection that carries no HTTP. Submitted when it goes, so exactly once.
class ConnectionRecord {
 public:
  ConnectionRecord(Worker& worker, const Arrival& arrival) : record(worker.new_record()), worker_(worker) {
    record.kind = RecordKind::connection;
    record.host = arrival.host.name;
    record.port = arrival.destination.port;
    record.inspected = false;
  }
  ConnectionRecord(const ConnectionRecord&) = delete;
  ConnectionRecord& operator=(const ConnectionRecord&) = delete;
  ~ConnectionRecord() {
    record.duration = std::chrono::duration_cast<std::chrono::microseconds>(net::Clock::now() - started_);
    worker_.submit(std::move(record));
  }

  Record record;

 private:
  Worker& worker_;
  net::Deadline started_ = net::Clock::now();
};

void report(Worker& worker, const Arrival& arrival, Outcome outcome, Reason reason, std::string text) {
  ConnectionRecord connection(worker, arrival);
  connection.record.outcome = outcome;
  connection.record.reason = reason;
  connection.record.text = std::move(text);
}

Arrival arrival_of(const ConnectionFacts& facts) {
  Arrival arrival;
  arrival.destination.port = facts.port;
  arrival.host = facts.host;
  return arrival;
}

// A client that looks at the certificate only after the handshake sends no alert: this is all that is seen of it.
void report_distrust(Worker& worker, const ConnectionFacts& facts) {
  report(worker, arrival_of(facts), Outcome::error, Reason::downstream_tls,
         "the client closed the connection after the TLS handshake, before any request: does it trust the guard's CA?");
}

// Refuses connections that were not redirected and those to the guard itself: a probe, or a loop.
std::optional<Arrival> arrive(Worker& worker, int fd) {
  std::optional<net::LocalAddr> local = net::local_address(fd);
  std::optional<net::OriginalDst> destination = net::original_destination(fd);
  if (!local) return std::nullopt;  // already gone
  Arrival arrival;
  if (destination) arrival.destination = *destination;
  arrival.host = {arrival.destination.address.to_string(), arrival.destination.address};
  if (!destination || net::is_own_listener(*destination, *local)) {
    if (!destination) arrival.host.name.clear();
    report(worker, arrival, Outcome::deny, Reason::loop,
           "a connection straight to the guard: only redirected connections have a destination");
    return std::nullopt;
  }
  if (net::is_synthetic(arrival.destination.address)) {
    std::optional<std::string> name =
        worker.names() == nullptr ? std::nullopt : worker.names()->name_of(arrival.destination.address);
    if (!name) {
      report(worker, arrival, Outcome::deny, Reason::host_not_allowed,
             "the address is one of those that stand for names, but it stands for none");
      return std::nullopt;
    }
    arrival.host = {std::move(*name), std::nullopt};
  }
  return arrival;
}

// A tunnel that a new policy may end.
class WatchedTunnel final : public InFlight {
 public:
  // `tcp`: relayed as bytes, by decide_tcp(); else passed through by decide_connection(). `made_under`: the policy by
  // which it was connected, which may have been replaced since.
  WatchedTunnel(Worker& worker, document::Destination destination, bool tcp, net::Stream& function,
                net::UpstreamConnection& upstream, const document::Snapshot* made_under)
      : worker_(worker), destination_(destination), tcp_(tcp), function_(function), upstream_(upstream) {
    worker_.enter(*this);
    if (worker.policy().get() != made_under) policy_changed(*worker.policy());
  }
  ~WatchedTunnel() override { worker_.leave(*this); }
  void policy_changed(const document::Snapshot& policy) override {
    if (policy.mode() != Mode::enforce) return;
    revoked = objection_of(policy);
    if (revoked) cancel();
  }
  void cancel() override {
    function_.cancel();
    upstream_.stream().cancel();
  }
  std::optional<Reason> revoked;

 private:
  // Nothing, if the policy would relay it too, and to the address that it is connected to.
  std::optional<Reason> objection_of(const document::Snapshot& policy) const {
    const document::Endpoint* endpoint = nullptr;
    if (tcp_) {
      endpoint = policy.decide_tcp(destination_.host, destination_.port);
      if (endpoint == nullptr) return policy.refusal() ? policy.refusal()->reason : Reason::opaque_not_allowed;
    } else {
      document::ConnectionDecision decision = policy.decide_connection(destination_);
      if (decision.action == ConnectionAction::deny) return decision.reason;
      if (decision.action != ConnectionAction::pass_through) return Reason::host_not_allowed;
      endpoint = decision.endpoint;
    }
    const bool elsewhere = endpoint != nullptr && !upstream_.through_proxy() && !endpoint->allows(upstream_.peer());
    return elsewhere ? std::optional(Reason::address_not_allowed) : std::nullopt;
  }

  Worker& worker_;
  document::Destination destination_;
  const bool tcp_;
  net::Stream& function_;
  net::UpstreamConnection& upstream_;
};

// Relays the connection unread to the name that it is for.
net::Task<void> pass_through(Worker& worker, ConnectionLease& connection, const Arrival& arrival,
                             const request::Host& host, net::Stream& function, const Opening& opening,
                             const document::Endpoint* endpoint, Outcome outcome, Reason reason) {
  connection.set(ConnectionLease::State::busy);
  const bool placed = co_await connection.claim_place();
  if (!placed) {  // fails closed, and nothing can be said in a protocol that the guard does not speak
    worker.report_turned_away();
    co_return;
  }
  ConnectionRecord recorded(worker, arrival);
  Record& record = recorded.record;
  record.host = host.name;
  record.outcome = Outcome::error;
  record.reason = reason;
  if (endpoint != nullptr) record.endpoint = endpoint->name;
  const bool tls = opening.sniffed.protocol == net::Protocol::tls;
  record.tcp = opening.sniffed.protocol == net::Protocol::opaque;
  if (tls) record.scheme = request::Scheme::https;
  if (record.tcp) record.protocol = "TCP";
  net::UpstreamRequest request;
  request.scheme = request::Scheme::https;
  request.host = host.name;
  request.literal = host.address;
  request.port = arrival.destination.port;
  request.endpoint = endpoint;
  request.policy = worker.policy();
  request.enforce_addresses = request.policy->mode() == Mode::enforce;
  const std::shared_ptr<const document::Snapshot> made_under = request.policy;
  auto upstream = co_await worker.upstream().connect_plain(
      std::move(request), worker.loop().in(limits::kResolveTimeout + 3 * limits::kConnectTimeout));
  if (!upstream) {
    record.reason = upstream.error().reason;
    record.text = std::move(upstream.error().text);
    const bool decided = record.reason == Reason::address_not_allowed || record.reason == Reason::loop;
    if (decided) record.outcome = Outcome::deny;
    co_return;
  }
  record.upstream = (*upstream)->peer_text();
  const bool through_proxy = (*upstream)->through_proxy();
  if (!through_proxy) record.upstream_address = (*upstream)->peer();
  if (outcome == Outcome::allow && endpoint != nullptr && !through_proxy && !endpoint->allows((*upstream)->peer())) {
    // Audit and learn dial any address; enforcing would not have.
    outcome = Outcome::would_deny;
    record.reason = Reason::address_not_allowed;
    record.text = "the address is one that endpoint '" + endpoint->name + "' does not allow";
  }
  WatchedTunnel watched(worker, {request::Scheme::https, host.name, arrival.destination.port}, !tls, function,
                        **upstream, made_under.get());
  TunnelBytes bytes;
  Result<void> ended = co_await tunnel(function, (*upstream)->stream(), opening.early(), {}, bytes);
  record.bytes_up = bytes.up;
  record.bytes_down = bytes.down;
  record.outcome = outcome;
  if (!ended && record.text.empty()) record.text = ended.error().text;
  if (watched.revoked) {
    record.outcome = Outcome::deny;
    record.reason = *watched.revoked;
    record.text = "the policy was changed while the connection was open, and the new one does not allow it";
  }
}

// Anything but TLS and HTTP is refused, but for learn and audit, which let it through to where it was going.
net::Task<void> serve_opaque(Worker& worker, ConnectionLease& connection, const Arrival& arrival, net::Stream& stream,
                             const Opening& opening) {
  const char* what =
      opening.sniffed.server_first ? "a protocol in which the server speaks first" : "neither TLS nor HTTP";
  if (worker.policy()->mode() == Mode::enforce) {
    const auto* refusal = worker.policy()->refusal();
    report(worker, arrival, Outcome::deny, refusal ? refusal->reason : Reason::opaque_not_allowed,
           std::string(what) + ". " + worker.policy()->explain_tcp(arrival.host.name, arrival.destination.port));
    co_return;
  }
  Outcome outcome = worker.policy()->endpoints().empty() ? Outcome::allow : Outcome::would_deny;
  Reason reason = outcome == Outcome::allow ? Reason::none : Reason::opaque_not_allowed;
  co_await pass_through(worker, connection, arrival, arrival.host, stream, opening, nullptr, outcome, reason);
}

// What has become of a connection between its requests.
struct Http1State {
  bool more = true;          // another request may follow
  bool left_unasked = true;  // nothing has been asked for so far
};

// Reads and serves the requests that are there, the first of which may still be arriving. `proxy` is set for requests
// to the explicit proxy, which name their destination themselves: its address. Not inlined, nor are open_connection and
// serve_http2: their frames would become part of the one that idle connections hold.
[[gnu::noinline]] net::Task<void> serve_requests(Worker& worker, ConnectionLease& connection,
                                                 const ConnectionFacts& connection_facts, net::Stream& stream,
                                                 std::string_view early, const net::LocalAddr* proxy,
                                                 Http1State& state) {
  ConnectionFacts named;
  const ConnectionFacts& facts = proxy == nullptr ? connection_facts : named;
  SlotLease lease(worker);
  ExchangeSlot& slot = lease.slot();
  slot.server.attach(stream, early);
  do {
    auto read = co_await slot.server.read_request(worker.loop().in(limits::kRequestHeadTimeout));
    if (!read) {
      if (read.error().answer) {
        state.left_unasked = false;
        co_await serve_malformed(worker, facts, slot.server, slot, read.error());
      }
      state.more = false;
    } else if (*read == http1::ServerExchange::Read::end) {
      state.more = false;
    } else {
      state.left_unasked = false;
      if (worker.draining()) slot.server.close_after();
      connection.set(ConnectionLease::State::busy);
      if (proxy != nullptr) {
        auto asked = facts_of_absolute_form(slot.server.head(), *proxy);
        named = asked ? std::move(*asked) : ConnectionFacts{request::Scheme::http, {}, 0, true};
        if (!asked) {
          co_await serve_malformed(worker, facts, slot.server, slot, asked.error());
          state.more = false;
          continue;
        }
      }
      co_await serve_exchange(worker, facts, slot.server, slot, &connection);
      connection.set(ConnectionLease::State::opening);
      state.more = slot.server.can_continue();
    }
  } while (state.more && slot.server.has_buffered());
  if (!state.more) co_await slot.server.linger();
}

// Serves requests until the connection ends. Between them nothing is held but the stream and this frame, which is kept
// small: most connections are idle most of the time. False when the client has left without asking for anything.
net::Task<bool> serve_http1(Worker& worker, ConnectionLease& connection, const ConnectionFacts& facts,
                            net::Stream& stream, std::string_view early, const net::LocalAddr* proxy = nullptr) {
  Http1State state;
  bool waited = !early.empty();
  bool first = true;
  while (state.more) {
    if (!waited) {
      // A drain ends it between requests, but not before its first: that may be on its way.
      if (worker.draining() && !first) co_return true;
      connection.set(ConnectionLease::State::idle);
      net::Wait wait = co_await stream.wait_readable(worker.loop().in(limits::kKeepAliveTimeout));
      connection.set(ConnectionLease::State::opening);
      if (wait != net::Wait::ready) co_return true;
    }
    waited = first = false;
    co_await serve_requests(worker, connection, facts, stream, std::exchange(early, {}), proxy, state);
  }
  co_return !state.left_unasked;
}

// One exchange of a connection of HTTP/2, beside its others. Null: it needs a place of its own.
net::Task<void> serve_stream(Worker& worker, const ConnectionFacts& facts, http2::ServerExchange& exchange,
                             ConnectionLease* connection) {
  // Each exchange may need a connection to an upstream: the first has its own connection's second descriptor.
  net::ConnectionSlot place;
  if (connection == nullptr) place = worker.take_place();
  SlotLease lease(worker);
  if (exchange.failure()) {
    co_await serve_malformed(worker, facts, exchange, lease.slot(), *exchange.failure());
  } else {
    co_await serve_exchange(worker, facts, exchange, lease.slot(), connection);
  }
}

// The same for a connection of HTTP/2: its requests are served side by side. The end is said by the connection itself.
[[gnu::noinline]] net::Task<void> serve_http2(Worker& worker, ConnectionLease& lease, const ConnectionFacts& facts,
                                              net::Stream& stream, std::string_view early) {
  http2::ServerConnection* self = nullptr;
  http2::ServerConnection::Handlers handlers;
  handlers.serve = [&](http2::ServerExchange& exchange) {
    return serve_stream(worker, facts, exchange, self->exchanges() > 1 ? nullptr : &lease);
  };
  handlers.admit = [&] { return worker.has_place(); };
  handlers.on_busy = [&](bool busy) {
    lease.set(busy ? ConnectionLease::State::busy : ConnectionLease::State::idle);
    if (!busy && lease.turned_away()) self->drain();
  };
  http2::ServerConnection connection(stream, facts.scheme, std::move(handlers));
  self = &connection;
  struct Drained {
    ConnectionLease& lease;
    ~Drained() { lease.on_drain(nullptr); }
  } const drained{lease};
  lease.on_drain([&connection] { connection.drain(); });
  if (worker.draining()) connection.drain();
  co_await connection.run(early);
  if (!connection.complaint().empty()) {
    report(worker, arrival_of(facts), Outcome::deny, Reason::malformed_http, "HTTP/2: " + connection.complaint());
  } else if (stream.tls() && connection.left_unasked()) {
    report_distrust(worker, facts);
  }
}

// TLS with the function, under the name that it asked for.
net::Task<bool> terminate_tls(Worker& worker, const Arrival& arrival, const request::Host& host, net::Stream& stream,
                              const Opening& opening) {
  Result<net::SslPtr> ssl = worker.accept_tls(host.name, arrival.destination.port);
  if (!ssl) {  // no leaf can be minted (an expired CA, a name that it may not have): fails closed
    report(worker, arrival, Outcome::deny, Reason::internal, ssl.error().text);
    co_return false;
  }
  Result<void> done =
      co_await stream.handshake(std::move(*ssl), opening.early(), worker.loop().in(limits::kHandshakeTimeout));
  if (!done) {
    if (done.error().kind == ErrorKind::cancelled) co_return false;  // it had to make room, or the guard ends
    Arrival named{arrival.destination, host};
    report(worker, named, Outcome::error, Reason::downstream_tls, done.error().text);
    co_return false;
  }
  worker.tls_accepted(stream.ssl());
  co_return true;
}

// What stands between the hello and the first request: the decision, and TLS. Nothing, if there is nothing to serve.
net::Task<std::optional<ConnectionFacts>> open_tls(Worker& worker, ConnectionLease& connection, const Arrival& arrival,
                                                   net::Stream& stream, const Opening& opening) {
  const net::ClientHello& hello = opening.sniffed.hello;
  const request::Host host = hello.sni ? *hello.sni : arrival.host;
  if (arrival.by_connect && host != arrival.host) {
    report(worker, arrival, Outcome::deny, Reason::host_mismatch,
           "CONNECT named " + arrival.host.name + ", but the TLS inside is for " + host.name);
    co_return std::nullopt;
  }
  std::shared_ptr<const document::Snapshot> policy = worker.policy();
  document::ConnectionDecision decision =
      policy->decide_connection({request::Scheme::https, host.name, arrival.destination.port});
  if (decision.action == ConnectionAction::pass_through) {
    // Inside an encrypted hello another name may stand, which nobody here could check.
    Arrival named{arrival.destination, host};
    if (hello.has_ech) {
      report(worker, named, Outcome::deny, Reason::ech_not_allowed,
             "the ClientHello carries an encrypted one: a connection that is not inspected must show its name");
      co_return std::nullopt;
    }
    co_await pass_through(worker, connection, arrival, host, stream, opening, decision.endpoint, Outcome::allow,
                          Reason::none);
    co_return std::nullopt;
  }
  // A host that is denied is terminated too, so that the client gets to read why; where it would take no certificate of
  // the guard's, an alert is what it can be told.
  if (!worker.may_answer_for(host.name)) {
    const bool denied = decision.action == ConnectionAction::deny;
    const document::RequestDecision refusal{false, denied ? decision.reason : Reason::internal, decision.endpoint, -1};
    report(worker, {arrival.destination, host}, Outcome::deny, refusal.reason,
           policy->explain(refusal, {request::Scheme::https, host.name, arrival.destination.port}, "", ""));
    [[maybe_unused]] const Result<void> told =
        co_await stream.write_all(kAccessDenied, worker.loop().in(limits::kHandshakeTimeout));
    co_return std::nullopt;
  }
  bool secured = co_await terminate_tls(worker, arrival, host, stream, opening);
  if (!secured) co_return std::nullopt;
  co_return ConnectionFacts{request::Scheme::https, host, arrival.destination.port};
}

// On the ports of HTTP no server speaks first. A client that says nothing there is a slow one: some read their roots
// only once they are connected, which takes seconds on a busy machine.
bool client_begins(const Arrival& arrival) { return arrival.destination.port == 80 || arrival.destination.port == 443; }

// Reads until it is known what the connection speaks. Where it is let through anyway, a client that says nothing is
// soon taken for one that waits for the server: learning must not stall it. A client that is merely slow then passes
// uninspected, which those modes allow.
net::Task<Result<net::Sniffed>> look_at(Worker& worker, net::Stream& stream, Opening& opening, const Arrival& arrival) {
  if (worker.policy()->mode() != Mode::enforce && !client_begins(arrival)) {
    net::Wait wait = co_await stream.wait_readable(worker.loop().in(limits::kServerFirstSilence));
    if (wait == net::Wait::timeout) {
      net::Sniffed silent;
      silent.server_first = true;
      co_return silent;
    }
  }
  co_return co_await net::sniff(stream.socket(), opening.bytes.space(), worker.loop().in(limits::kSniffTimeout));
}

// All that is known before a connection is open, and dropped then.
struct Beginning {
  explicit Beginning(Arrival a) : arrival(std::move(a)) {}
  Arrival arrival;
  Opening opening;
};

// Sees what the connection is and opens it. Nothing, if there is nothing to serve.
[[gnu::noinline]] net::Task<std::optional<ConnectionFacts>> open_connection(Worker& worker, ConnectionLease& connection,
                                                                            net::Stream& stream, Beginning& beginning) {
  Arrival& arrival = beginning.arrival;
  Opening& opening = beginning.opening;
  // Decided by host and port alone, and before a byte is read: where the server speaks first the client says nothing.
  if (const document::Endpoint* endpoint = worker.policy()->decide_tcp(arrival.host.name, arrival.destination.port)) {
    co_await pass_through(worker, connection, arrival, arrival.host, stream, opening, endpoint, Outcome::allow,
                          Reason::none);
    co_return std::nullopt;
  }
  auto sniffed = co_await look_at(worker, stream, opening, arrival);
  if (!sniffed) {
    if (sniffed.error().kind == ErrorKind::malformed) {
      report(worker, arrival, Outcome::deny, Reason::malformed_tls, sniffed.error().text);
    } else if (sniffed.error().kind == ErrorKind::timeout) {
      report(worker, arrival, Outcome::deny, Reason::downstream_timeout, sniffed.error().text);
    }
    co_return std::nullopt;  // a connection that came and went without a word needs no record
  }
  opening.sniffed = std::move(*sniffed);
  opening.bytes.filled(opening.sniffed.bytes);

  switch (opening.sniffed.protocol) {
    case net::Protocol::tls:
      co_return co_await open_tls(worker, connection, arrival, stream, opening);
    case net::Protocol::http1:
    case net::Protocol::h2_preface:
      co_return ConnectionFacts{request::Scheme::http, arrival.host, arrival.destination.port, arrival.by_connect};
    case net::Protocol::opaque:
    case net::Protocol::need_more:
      co_await serve_opaque(worker, connection, arrival, stream, opening);
      break;
  }
  co_return std::nullopt;
}

// Everything after the destination is known.
net::Task<void> serve_arrived(Worker& worker, ConnectionLease& connection, net::Stream& stream, Arrival arrival) {
  auto beginning = std::make_unique<Beginning>(std::move(arrival));
  const std::optional<ConnectionFacts> facts = co_await open_connection(worker, connection, stream, *beginning);
  if (!facts) co_return;
  const bool tls = stream.tls();
  const bool h2 = tls ? stream.alpn() == "h2" : beginning->opening.sniffed.protocol == net::Protocol::h2_preface;
  if (tls) beginning.reset();
  const std::string_view early = tls ? std::string_view() : beginning->opening.early();
  if (h2) {
    co_await serve_http2(worker, connection, *facts, stream, early);
    co_return;
  }
  const bool asked = co_await serve_http1(worker, connection, *facts, stream, early);
  if (tls && !asked) report_distrust(worker, *facts);
  stream.shutdown_write();
}

}  // namespace

net::Task<void> serve_connection(Worker& worker, UniqueFd fd) {
  std::optional<Arrival> arrival = arrive(worker, fd.get());
  if (!arrival) co_return;

  net::Stream stream(worker.loop(), std::move(fd), ErrorSource::downstream);
  ConnectionLease connection(worker, stream);
  co_await serve_arrived(worker, connection, stream, std::move(*arrival));
}

namespace {

// The answer to a CONNECT that names nothing, or nothing that could be allowed.
net::Task<void> refuse_connect(Worker& worker, const Arrival& arrival, net::Stream& stream, Reason reason,
                               std::string text) {
  ConnectionRecord connection(worker, arrival);
  Record& record = connection.record;
  record.outcome = Outcome::deny;
  record.reason = reason;
  record.text = std::move(text);
  record.method = "CONNECT";
  Denial denial;
  make_denial(record, denial);
  record.status = denial.head.status;
  std::string head;
  http1::Framing framing;
  framing.body = http1::BodyKind::length;
  framing.content_length = denial.body.size();
  framing.keep_alive = false;
  if (!http1::serialize_response(head, denial.head.status, denial.head.reason, denial.head.headers, framing)) co_return;
  // Nobody is left to tell when this fails.
  Result<void> written = co_await stream.write_all(head, denial.body, worker.loop().in(limits::kLingerIdleTimeout));
  if (written) stream.shutdown_write();
}

// Reads until the opening bytes are more than a beginning of "CONNECT ", or the head of one is complete. Incomplete
// when the client has gone or is too slow.
struct ProxyOpening {
  http1::Parse connect = http1::Parse::incomplete;
  bool other = false;  // another request
  bool late = false;
  http1::RequestInfo info;
  request::RequestHead head;
  http1::ParseError error;
};

net::Task<void> read_proxy_opening(net::Stream& stream, net::ReadBuffer& bytes, net::Deadline deadline,
                                   ProxyOpening& opening) {
  constexpr std::string_view kConnect = "CONNECT ";
  std::size_t scanned = 0;
  while (true) {
    std::span<char> space = bytes.space();
    if (space.empty()) {
      opening.connect = http1::Parse::error;
      opening.error = {Reason::head_too_large, "the head of the CONNECT is too long"};
      co_return;
    }
    Result<std::size_t> read = co_await stream.read_some(space, deadline);
    opening.late = !read && read.error().kind == ErrorKind::timeout && !bytes.empty();
    if (!read || *read == 0) co_return;
    bytes.filled(*read);
    const std::string_view so_far = bytes.unread();
    opening.other = so_far.substr(0, kConnect.size()) != kConnect.substr(0, so_far.size());
    if (opening.other) co_return;
    opening.connect = http1::parse_connect(so_far, scanned, opening.info, opening.head, opening.error);
    if (opening.connect != http1::Parse::incomplete) co_return;
  }
}

}  // namespace

net::Task<void> serve_proxied(Worker& worker, UniqueFd fd) {
  std::optional<net::LocalAddr> local = net::local_address(fd.get());
  if (!local) co_return;  // already gone
  net::Stream stream(worker.loop(), std::move(fd), ErrorSource::downstream);
  ConnectionLease connection(worker, stream);
  Arrival arrival;
  arrival.by_connect = true;
  {
    net::ReadBuffer bytes;
    ProxyOpening opening;
    co_await read_proxy_opening(stream, bytes, worker.loop().in(limits::kRequestHeadTimeout), opening);
    if (opening.other) {
      co_await serve_http1(worker, connection, {}, stream, bytes.unread(), &*local);
      stream.shutdown_write();
      co_return;
    }
    if (opening.connect == http1::Parse::incomplete) {
      if (opening.late) {  // else it came and went, which needs no record
        report(worker, arrival, Outcome::deny, Reason::downstream_timeout,
               "the head of a CONNECT did not come in time");
      }
      co_return;
    }
    if (opening.connect == http1::Parse::error) {
      co_await refuse_connect(worker, arrival, stream, opening.error.reason, std::string(opening.error.text));
      co_return;
    }
    auto asked = destination_of_connect(opening.head, *local);
    if (asked) {
      arrival.host = std::move(asked->host);
      arrival.destination.port = asked->port;
      if (arrival.host.address) arrival.destination.address = *arrival.host.address;
    }
    // What comes before the answer was sent to a proxy that may have refused: it is not taken for the tunnel's.
    if (asked && opening.info.head_size != bytes.unread().size()) {
      asked = std::unexpected(
          http1::RequestFailure{Reason::malformed_http, "bytes follow the CONNECT before it was answered", true});
    }
    if (!asked) {
      co_await refuse_connect(worker, arrival, stream, asked.error().reason, std::move(asked.error().text));
      co_return;
    }
  }
  // The policy has not been asked yet: as for a redirected connection, what is denied is told inside, where the client
  // reads it, and until then nothing is connected to.
  Result<void> answered = co_await stream.write_all("HTTP/1.1 200 Connection Established\r\n\r\n",
                                                    worker.loop().in(limits::kHandshakeTimeout));
  if (!answered) co_return;
  co_await serve_arrived(worker, connection, stream, std::move(arrival));
}

namespace {

// Reads until it is known what the client speaks. Nothing: it is not served.
[[gnu::noinline]] net::Task<std::optional<net::Protocol>> open_inbound(Worker& worker, const Arrival& arrival,
                                                                       net::Stream& stream, Opening& opening) {
  auto sniffed = co_await net::sniff(stream.socket(), opening.bytes.space(), worker.loop().in(limits::kSniffTimeout));
  if (!sniffed) {
    const bool malformed = sniffed.error().kind == ErrorKind::malformed;
    if (malformed) report(worker, arrival, Outcome::deny, Reason::malformed_tls, sniffed.error().text);
    co_return std::nullopt;  // what came and went without a word needs no record
  }
  opening.bytes.filled(sniffed->bytes);
  const net::Protocol protocol = sniffed->protocol;
  if (protocol == net::Protocol::http1 || protocol == net::Protocol::h2_preface) co_return protocol;
  const bool silent = sniffed->server_first;
  if (!silent) {
    report(worker, arrival, Outcome::deny, Reason::opaque_not_allowed,
           protocol == net::Protocol::tls ? "TLS on a port of the function, which takes HTTP without it"
                                          : "something else than HTTP on a port of the function");
  }
  co_return std::nullopt;
}

}  // namespace

net::Task<void> serve_inbound(Worker& worker, const InboundPort& port, UniqueFd fd) {
  const std::optional<net::LocalAddr> local = net::local_address(fd.get());
  if (!local) co_return;  // already gone
  Arrival arrival;
  arrival.destination = {local->address, port.port};
  arrival.host = {local->address.to_string(), local->address};
  if (std::optional<std::string> objection = objection_to(port, fd.get())) {
    report(worker, arrival, Outcome::deny, Reason::loop, std::move(*objection));
    co_return;
  }
  const ConnectionFacts facts{request::Scheme::http, arrival.host, port.port, false, &port};
  net::Stream stream(worker.loop(), std::move(fd), ErrorSource::downstream);
  ConnectionLease connection(worker, stream);
  auto opening = std::make_unique<Opening>();
  const std::optional<net::Protocol> protocol = co_await open_inbound(worker, arrival, stream, *opening);
  if (!protocol) co_return;
  if (*protocol == net::Protocol::h2_preface) {
    co_await serve_http2(worker, connection, facts, stream, opening->early());
    co_return;
  }
  co_await serve_http1(worker, connection, facts, stream, opening->early());
  stream.shutdown_write();
}

}  // namespace sallyport::guard
