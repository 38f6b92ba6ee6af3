#include "proxy/guard/serve.h"

#include "base/limits.h"
#include "base/random.h"
#include "proxy/guard/cloud_event.h"
#include "proxy/guard/denial.h"
#include "proxy/guard/entry.h"
#include "proxy/guard/inbound.h"
#include "proxy/guard/operation_label.h"
#include "proxy/guard/tags.h"
#include "proxy/guard/websocket_relay.h"
#include "proxy/net/concurrent.h"

namespace sallyport::guard {
namespace {

using http::Chunk;

// Which reason an I/O error stands for, by the side that it happened on.
Reason reason_of(const Error& error) {
  const bool upstream = error.source == ErrorSource::upstream;
  switch (error.kind) {
    case ErrorKind::timeout:
      return upstream ? Reason::upstream_timeout : Reason::downstream_timeout;
    case ErrorKind::malformed:
    case ErrorKind::limit:
    case ErrorKind::invalid:
      return upstream ? Reason::upstream_malformed : Reason::malformed_http;
    case ErrorKind::closed:
    case ErrorKind::reset:
    case ErrorKind::refused:
    case ErrorKind::unverified:
    case ErrorKind::unresolved:
    case ErrorKind::unavailable:
      return upstream ? Reason::upstream_closed : Reason::downstream_closed;
    case ErrorKind::cancelled:
      return Reason::shutting_down;
  }
  return Reason::internal;
}

std::chrono::sys_seconds seconds_now() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

constexpr std::string_view kExtensions = "sec-websocket-extensions";

bool idempotent(std::string_view method) {  // RFC 9110 section 9.2.2
  return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "PUT" || method == "DELETE" ||
         method == "TRACE";
}

// The life of one exchange. Lives in the coroutine frame of serve_exchange; its parts run one after the other there,
// but for the upload, which runs beside the response.
class Service final : public InFlight {
 public:
  Service(Worker& worker, http::Exchange& exchange, ExchangeSlot& slot, const ConnectionFacts& facts)
      : worker_(worker),
        exchange_(exchange),
        http1_(slot.client),
        response_(slot.response),
        route_(slot.route),
        facts_(facts),
        terms_(worker.terms()),
        started_(net::Clock::now()),
        record_(worker.new_record()),
        held_(worker.held_bytes()),
        upload_(worker.loop()) {
    record_.scheme = facts.scheme;
    record_.port = facts.port;
    record_.protocol = exchange.version() == http::Version::http2 ? "HTTP/2" : "HTTP/1.1";
    if (facts.inbound != nullptr) record_.kind = RecordKind::inbound;
    worker_.enter(*this);
    exchange_.watch_peer([this] {
      peer_gone_ = true;
      if (client_ != nullptr) client_->cancel();
    });
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // The one place where the record of an exchange is made final: whatever happened, it ends here.
  ~Service() override {
    worker_.leave(*this);
    exchange_.watch_peer(nullptr);
    const net::Deadline now = net::Clock::now();
    record_.duration = std::chrono::duration_cast<std::chrono::microseconds>(now - started_);
    ExecutionTable::Outcome outcome{flow_end(), flow_status_, std::move(redirect_), record_.bytes_up,
                                    record_.bytes_down};
    // Before its execution can end with it.
    worker_.submit(std::move(record_));
    end_execution(flow::v1alpha1::EXECUTION_END_CUT);
    flow_.end(std::move(outcome), now);
  }

  net::Task<void> run(ConnectionLease* connection) {
    if (facts_.inbound != nullptr) {
      co_await run_inbound(connection);
      co_return;
    }
    std::optional<Verdict> refused = settle(facts_, worker_.policy(), exchange_.head(), route_);
    if (!refused && is_for_runtime_api()) {
      co_await run_runtime(connection);
      co_return;
    }
    const bool for_action = !refused && has_content() && needs_body(route_, exchange_.head());
    if (!refused && has_content() && (for_action || bears_tag_in_body())) {
      describe({Outcome::error, Reason::none, {}});
      const bool held = co_await hold(connection, for_action ? Reason::malformed_action : Reason::tag_invalid);
      if (!held) co_return;
    }
    Verdict verdict =
        refused ? std::move(*refused) : decide(exchange_.head(), route_, exchange_.wants_websocket(), held_.body());
    if (verdict.outcome != Outcome::deny) count(verdict);
    if (verdict.outcome != Outcome::deny && terms_ != nullptr && !terms_->limits.empty()) co_await pay(verdict);
    attribute(verdict);
    note_expiry(verdict);
    describe(verdict);
    if (verdict.outcome == Outcome::deny) {
      co_await answer_denial();
      co_return;
    }
    decided_ = verdict.outcome;
    record_.outcome = Outcome::error;  // until an answer has been relayed
    if (std::optional<Verdict> untaggable = tag_request()) {
      describe(*untaggable);
      co_await answer_denial();
      co_return;
    }
    co_await forward(connection);
  }

  // Of an event in structured mode, to another function of the application.
  bool bears_tag_in_body() const {
    return route_.reading != nullptr && !route_.reading->function.empty() && tags_travel_in_events(*route_.policy) &&
           event_form(exchange_.head().headers) == EventForm::structured;
  }

  // Whether a limit lets the request through. Before the flow graph, which must not go on with what is not sent. What
  // an earlier stage has found stays what is told.
  void count(Verdict& verdict) {
    auto excess = exceeds_limits(route_, exchange_.head().method, worker_.loop().now().time_since_epoch());
    if (!excess) return;
    if (excess->verdict.outcome == Outcome::deny) record_.retry_after = excess->retry_after;
    if (excess->verdict.outcome == Outcome::deny || verdict.outcome == Outcome::allow) {
      verdict = std::move(excess->verdict);
    }
  }

  // The same for the controller's limits, some of which may have to be waited for.
  net::Task<void> pay(Verdict& verdict) {
    std::optional<OperationLabel> label;
    if (route_.target.text.starts_with('/')) label.emplace(route_, exchange_.head().method);
    Payment payment =
        co_await worker_.purses()->pay(terms_, route_.endpoint, label.has_value() ? &label->view() : nullptr);
    note_ = std::move(payment.note);
    if (!payment.refused) co_return;
    const bool enforce = route_.policy->mode() == document::Mode::enforce;
    if (enforce) record_.retry_after = payment.refused->retry_after;
    if (enforce || verdict.outcome == Outcome::allow) {
      verdict = {enforce ? Outcome::deny : Outcome::would_deny, payment.refused->reason,
                 std::move(payment.refused->text)};
    }
  }

  // Where nothing is enforced a policy that has expired refuses nothing either.
  void note_expiry(Verdict& verdict) const {
    if (terms_ == nullptr || !terms_->expired || verdict.outcome != Outcome::allow) return;
    verdict = {Outcome::would_deny, Reason::policy_expired,
               "the controller has been gone for longer than its policy may be used without it"};
  }

  // What the controller is told before the request is sent: what it leads to may begin before it is answered.
  void announce() {
    Membership* const membership = worker_.membership();
    if (membership == nullptr || announced_ || !record_.operation) return;
    const flow::v1alpha1::Operation& operation = *record_.operation;
    const flow::Operation view{operation.method(), operation.host(), operation.path(), operation.query(),
                               operation.action()};
    if (!tagged_ && !terms_->announces(view)) return;
    announced_ = true;
    membership->flow_began(record_);
  }

  // A request to another function of the application says which of its own requests it is part of. What it belongs to
  // is not claimed where it is not known. With a denial it must not go, as it cannot bear one: in every mode.
  std::optional<Verdict> tag_request() {
    if (route_.endpoint == nullptr || route_.endpoint->function.empty() || route_.rule < 0) return std::nullopt;
    tag::RequestId request{};
    const bool known = flow_.attribution() == Attribution::only || flow_.attribution() == Attribution::trace_context;
    if (known) request = flow_.application_request();
    std::optional<std::string> text;
    if (known || random_bytes(request)) {
      text = make_tag(*route_.policy, worker_.guard_id(), TagUse::request, request, seconds_now());
    }
    if (!text) {
      return Verdict{Outcome::deny, Reason::credential_unavailable,
                     "the request is for another function of the application, and no tag can be made for it: its key "
                     "could not be read"};
    }
    if (tags_travel_in_events(*route_.policy)) {
      if (const Result<void> put = tag_event(*text); !put) {
        return Verdict{Outcome::deny, Reason::tag_invalid, put.error().text};
      }
    }
    exchange_.head().headers.add_owned(tag::kField, std::move(*text));
    tagged_ = request;
    record_.request = request;
    record_.to_function = route_.endpoint->function;
    return std::nullopt;
  }

  Result<void> tag_event(const std::string& text) {
    auto body = put_into_event(exchange_.head().headers, held_.body(), text);
    if (!body) return std::unexpected(body.error());
    return *body ? held_.replace(**body) : Result<void>();
  }

  // The answer to a request that bore a tag. False: it was refused.
  net::Task<bool> check_answer() {
    if (!tagged_ || facts_.inbound != nullptr) co_return true;
    auto objection =
        objection_to_answer(*route_.policy, response_.headers, route_.endpoint->function, *tagged_, seconds_now());
    if (!objection) co_return true;
    if (route_.policy->mode() == document::Mode::enforce) {
      co_await give_up(Reason::tag_mismatch, std::move(*objection));
      if (record_.reason == Reason::tag_mismatch) record_.outcome = Outcome::deny;  // else the function had gone before
      co_return false;
    }
    if (decided_ == Outcome::allow) {
      decided_ = Outcome::would_deny;
      record_.reason = Reason::tag_mismatch;
      record_.text = std::move(*objection);
    }
    co_return true;
  }

  // Request and response, once it is known where they lead.
  net::Task<void> forward(ConnectionLease* connection) {
    const bool placed = co_await take_place(connection);
    if (!placed) co_return;
    bool sent = false;
    if (peer_gone_) {  // of HTTP/2: the request was taken back before it was looked at
      co_await give_up(Reason::downstream_closed, {});
    } else {
      sent = co_await send_request();
    }
    if (sent) co_await relay_response();
    co_await end_upload();
    release();
  }

  bool is_for_runtime_api() const {
    return worker_.runtime_api() != nullptr && route_.host == kRuntimeApiHost && route_.port == kRuntimeApiPort &&
           route_.scheme == request::Scheme::http && !exchange_.wants_websocket();
  }

  // AWS Lambda's own API, which the function has without a policy: it is where its work comes from and its answers go.
  // Whatever is asked for passes; only where executions begin and end is noted.
  net::Task<void> run_runtime(ConnectionLease* connection) {
    if (const auto* refusal = route_.policy->refusal()) {
      describe({Outcome::deny, refusal->reason, refusal->text});
      co_await answer_denial();
      co_return;
    }
    describe({Outcome::error, Reason::none, {}});
    runtime_ = worker_.runtime_api();
    record_.endpoint = runtime_->endpoint.name;
    call_ = runtime_call(record_.method, route_.target.path());
    clean_request(exchange_.head());
    route_.host = runtime_->host.name;
    route_.literal = runtime_->host.address;
    route_.port = runtime_->port;
    route_.authority = runtime_->authority;
    route_.endpoint = &runtime_->endpoint;
    co_await forward(connection);
  }

  // The roles turned round: the message comes from outside, and it is the function that it is relayed to.
  net::Task<void> run_inbound(ConnectionLease* connection) {
    std::optional<Verdict> refused = settle_inbound(facts_, worker_.policy(), exchange_.head(), route_);
    probe_ = !refused && route_.policy->inbound().is_probe(exchange_.head().method, route_.target.path());
    CallerDecision caller;
    const auto* refusal = route_.policy->refusal();
    if (!refused && !probe_ && refusal != nullptr) refused = Verdict{Outcome::deny, refusal->reason, refusal->text};
    if (!refused && !probe_ && tags_travel_in_events(*route_.policy)) {
      const bool read = co_await read_event(connection, refused);
      if (!read) co_return;
    }
    if (!refused && !probe_) caller = decide_caller(*route_.policy, exchange_.head().headers, seconds_now());
    if (caller.refused) refused = std::move(caller.refused);
    describe(refused ? *refused : Verdict{Outcome::error, Reason::none, {}});
    if (refused && refused->outcome == Outcome::deny) {
      co_await answer_denial();
      co_return;
    }
    if (refused) decided_ = Outcome::would_deny;
    if (caller.tag) {
      tagged_ = caller.tag->request;
      caller_ = std::move(caller.tag);
    }
    record_.outcome = Outcome::error;  // until an answer has been relayed
    clean_inbound(exchange_.head());
    if (!probe_) trace_id_ = settle_trace(exchange_.head().headers, route_.policy->inbound().fresh_traces_sampled);
    co_await forward(connection);
  }

  // The tag of a message that is an event. With a verdict in `refused` it has one that proves nothing. False: the
  // exchange is over.
  net::Task<bool> read_event(ConnectionLease* connection, std::optional<Verdict>& refused) {
    request::HeaderList& headers = exchange_.head().headers;
    if (event_form(headers) == EventForm::structured && has_content()) {
      describe({Outcome::error, Reason::none, {}});
      const bool held = co_await hold(connection, Reason::tag_invalid);
      if (!held) co_return false;
    }
    TakenEvent taken = take_from_event(headers, held_.body());
    if (taken.body) {
      // It is shorter than what was held, so that there is room.
      if (const Result<void> put = held_.replace(*taken.body); !put) taken.objection = put.error().text;
    }
    if (!taken.objection) co_return true;
    const bool enforce = route_.policy->mode() == document::Mode::enforce;
    refused = Verdict{enforce ? Outcome::deny : Outcome::would_deny, Reason::tag_invalid, std::move(*taken.objection)};
    co_return true;
  }

  // Whoever showed a tag gets to see one. An answer without is as good as that of a server in between.
  void tag_answer() {
    if (facts_.inbound == nullptr || !tagged_) return;
    std::optional<std::string> text =
        make_tag(*route_.policy, worker_.guard_id(), TagUse::answer, *tagged_, seconds_now());
    if (text) response_.headers.add_owned(tag::kField, std::move(*text));
  }

  // Before the function sees the message. False: it must not, and the client has been told.
  net::Task<bool> begin_execution() {
    if (facts_.inbound == nullptr || probe_ || record_.execution) co_return true;
    ExecutionTable::Begin begin{
        .inbound = inbound_operation(route_, record_.method), .trace_id = trace_id_, .application_request = tagged_};
    const std::optional<Verdict> refused = co_await begin_as_member(begin, caller_, execution_);
    if (refused) {
      record_.outcome = refused->outcome;
      record_.reason = refused->reason;
      record_.text = refused->text;
      co_await answer_denial();
      co_return false;
    }
    record_.execution = execution_;
    if (execution_) co_return true;
    // What it sent could not be told from others' requests.
    co_await give_up(Reason::overloaded, "no execution can be begun: as many are open as may be");
    co_return false;
  }

  // Begins an execution, in `begun`, after the controller has been asked, where there is one and it has to be. Where
  // that refuses it none begins, but for learn and audit, and the verdict is a denial. Nothing in either: none can be
  // begun.
  net::Task<std::optional<Verdict>> begin_as_member(ExecutionTable::Begin begin, std::optional<tag::Tag> tag,
                                                    std::optional<ExecutionId>& begun) {
    ExecutionTable& executions = worker_.executions();
    Membership* const membership = worker_.membership();
    if (membership == nullptr) {
      begun = executions.begin(std::move(begin), Moment::now());
      co_return std::nullopt;
    }
    const std::optional<Entry> entry =
        co_await enter(worker_.loop(), *membership, terms_, route_.policy->mode(), {begin.inbound, tag});
    if (!entry) co_return std::nullopt;
    record_.asked = entry->came_of_it;
    if (entry->refused && entry->refused->outcome == Outcome::deny) co_return entry->refused;
    if (!peer_gone_) {
      begin.id = entry->execution;
      begin.application_request = record_.request = entry->request;
      const std::optional<flow::v1alpha1::Operation> inbound = begin.inbound;
      begun = executions.begin(std::move(begin), Moment::now());
      if (begun) {
        membership->execution_began(
            {*begun, entry->request, inbound ? &*inbound : nullptr, tag ? &*tag : nullptr, entry->asked});
      }
    }
    if (!begun && entry->asked) membership->entry_given_up(entry->execution, entry->request);
    note_entry(*entry);
    co_return std::nullopt;
  }

  // What is let through all the same.
  void note_entry(const Entry& entry) {
    if (entry.refused && decided_ == Outcome::allow) {
      decided_ = Outcome::would_deny;
      record_.reason = entry.refused->reason;
      record_.text = entry.refused->text;
    } else if (!entry.note.empty() && record_.text.empty()) {
      record_.text = entry.note;
    }
  }

  // The function's answer is complete, or never will be: what it sends from now on belongs to no execution.
  void end_execution(flow::v1alpha1::ExecutionEnd how) {
    if (!execution_) return;
    worker_.executions().end(*execution_, how, net::Clock::now());
    execution_.reset();
  }

  // Before the function sees the answer: what it sends then belongs to the execution, or to none any more. Why it must
  // not, where none could be begun.
  net::Task<std::optional<Verdict>> note_invocation() {
    switch (call_.kind) {
      case RuntimeCall::Kind::next:
        if (head_.status == 200) co_return co_await begin_invocation();
        break;
      case RuntimeCall::Kind::end:
        if (head_.status >= 200 && head_.status < 300) {
          worker_.executions().end_named(call_.invocation, flow::v1alpha1::EXECUTION_END_COMPLETE, net::Clock::now());
        }
        break;
      case RuntimeCall::Kind::other:
        break;
    }
    co_return std::nullopt;
  }

  net::Task<std::optional<Verdict>> begin_invocation() {
    const Verdict impossible{Outcome::error, Reason::overloaded,
                             "no execution can be begun for this invocation: it has no id, or too many are open"};
    const std::optional<std::string> id = invocation_of(response_.headers);
    if (!id) co_return impossible;
    ExecutionTable::Begin begin{.trace_id = trace_id_of_xray(response_.headers), .name = *id};
    std::optional<ExecutionId> begun;
    std::optional<Verdict> refused = co_await begin_as_member(std::move(begin), std::nullopt, begun);
    if (refused || begun) co_return refused;
    co_return impossible;
  }

  // Whether a body may still come that nobody reads, behind an answer of our own over HTTP/2. A server may reset the
  // stream then (RFC 9113 section 8.1), but curl before 8.0 tells of that error and not of the answer. HTTP/1 reads it
  // away when it closes the connection.
  bool owes_reading() const {
    return unread_ && exchange_.version() == http::Version::http2 && !exchange_.expects_continue();
  }

  // For a moment.
  net::Task<void> read_away() {
    const net::Deadline end = worker_.loop().in(limits::kLingerTimeout);
    for (std::uint64_t bytes = 0; bytes <= limits::kLingerBytesMax;) {
      Result<Chunk> chunk = co_await exchange_.read_body(std::min(end, worker_.loop().in(limits::kLingerIdleTimeout)));
      if (!chunk || chunk->end) co_return;
      bytes += chunk->data.size();
    }
  }

  net::Task<void> refuse(Reason reason, std::string text) {
    record_.outcome = Outcome::deny;
    record_.reason = reason;
    record_.text = std::move(text);
    record_.host = facts_.host.name;
    exchange_.close_after();
    co_await answer_denial();
  }

  void policy_changed(const document::Snapshot& policy) override {
    // What has been broken off stays so, also if the next policy would allow it again.
    if (client_ == nullptr || revoked_ || policy.mode() != document::Mode::enforce) return;
    revoked_ = objection_of(policy);
    if (revoked_) client_->cancel();
  }

  void cancel() override {
    exchange_.cancel();
    if (client_ != nullptr) client_->cancel();
  }

 private:
  bool has_content() const { return exchange_.body().kind != http::BodyInfo::Kind::empty; }

  net::Task<bool> take_place(ConnectionLease* connection) {
    if (connection == nullptr) co_return true;
    const bool placed = co_await connection->claim_place();
    if (!placed) co_await turn_away();
    co_return placed;
  }

  // Waits for all of the body, in which the action is looked for, or the tag. False: the exchange is over, and of a
  // body that is too long the record has this reason.
  net::Task<bool> hold(ConnectionLease* connection, Reason reason) {
    const bool placed = co_await take_place(connection);
    if (!placed) co_return false;
    Result<void> read = co_await held_.read(exchange_, worker_.loop().in(limits::kActionBodyTimeout));
    if (read) co_return true;
    exchange_.close_after();
    Verdict verdict{Outcome::deny, reason, read.error().text};
    if (facts_.inbound == nullptr) attribute(verdict);
    if (read.error().source ==
        ErrorSource::policy) {  // fails closed: what is looked for may stand behind what was read
      describe(verdict);
      co_await answer_denial();
    } else {
      const bool no_room = read.error().kind == ErrorKind::unavailable;
      co_await give_up(no_room ? Reason::overloaded : reason_of(read.error()), read.error().text);
    }
    co_return false;
  }

  // To which execution the request belongs, and whether the flow graph lets it come now: the last stage of the chain,
  // so that the graph goes on only with what is sent.
  void attribute(Verdict& verdict) {
    ExecutionTable& executions = worker_.executions();
    if (!executions.tracking()) return;
    const document::FlowRule* rule = route_.policy->flow();
    const bool follow = rule != nullptr && verdict.outcome != Outcome::deny;
    // No canonical form, and so no operation: OPTIONS * to a server, and what was refused for it.
    if (!route_.target.text.starts_with('/')) {
      if (follow) object(verdict, *rule, "it has no path, so that no flow graph can have it");
      return;
    }
    const OperationLabel label(route_, exchange_.head().method);
    ExecutionTable::Step step;
    flow_ = executions.send({label.view(), exchange_.head().headers, started_, follow}, worker_.loop().now(), step);
    if (worker_.membership() != nullptr) set_operation(label.view());
    record_.node = std::move(step.node);
    if (!step.refusal.empty()) object(verdict, *rule, std::move(step.refusal));
    if (flow_.attribution() == Attribution::none) return;
    record_.execution = flow_.execution();
    record_.request = flow_.application_request();
    record_.attribution = to_string(flow_.attribution());
  }

  void set_operation(const flow::Operation& operation) {
    auto made = std::make_shared<flow::v1alpha1::Operation>();
    made->set_method(std::string(operation.method));
    made->set_host(std::string(operation.host));
    made->set_path(std::string(operation.path));
    made->set_query(std::string(operation.query));
    made->set_action(std::string(operation.action));
    record_.operation = std::move(made);
  }

  // The flow graph refuses the request. What an earlier stage has found stays what is told.
  void object(Verdict& verdict, const document::FlowRule& rule, std::string text) {
    const bool relaxed = rule.relaxed(std::chrono::system_clock::now());
    const bool enforce = route_.policy->mode() == document::Mode::enforce && rule.enforce && !relaxed;
    if (verdict.outcome == Outcome::allow) {
      if (relaxed) text += "; let through until the policy's relaxUntil";
      verdict = {enforce ? Outcome::deny : Outcome::would_deny, Reason::flow_not_allowed, std::move(text)};
    }
    if (!enforce) return;
    route_.binding = nullptr;  // as with any denial
    route_.rule = -1;
  }

  flow::v1alpha1::FlowEnd flow_end() const {
    switch (record_.outcome) {
      case Outcome::deny:
        return flow::v1alpha1::FLOW_END_DENIED;
      case Outcome::error:
        return flow::v1alpha1::FLOW_END_FAILED;
      case Outcome::allow:
      case Outcome::would_deny:
        break;
    }
    return flow::v1alpha1::FLOW_END_ANSWERED;
  }

  // Where the exchange leads is not the policy's to decide.
  bool asks_no_policy() const { return runtime_ != nullptr || facts_.inbound != nullptr; }

  // Why the policy would not let this exchange go on to the address that it is connected to; nothing if it would.
  std::optional<Reason> objection_of(const document::Snapshot& policy) const {
    if (asks_no_policy()) return std::nullopt;
    document::RequestDecision decision =
        policy.decide_request(route_.destination(), record_.method, route_.target.path(), route_.action);
    if (!decision.allowed) return decision.reason;
    if (exchange_.wants_websocket() && !decision.endpoint->websocket_allowed) return Reason::websocket_not_allowed;
    // Through a proxy nobody here knows where the name led.
    if (record_.upstream_address && !decision.endpoint->allows(*record_.upstream_address)) {
      return Reason::address_not_allowed;
    }
    return std::nullopt;
  }

  // A policy that came while the connection was made had nothing yet to end.
  void catch_up_with_policy() {
    if (worker_.policy() != route_.policy) policy_changed(*worker_.policy());
  }

  void describe(const Verdict& verdict) {
    record_.outcome = verdict.outcome;
    record_.reason = verdict.reason;
    record_.text = verdict.text.empty() ? note_ : verdict.text;
    record_.method = exchange_.head().method;
    record_.host = route_.host.empty() ? facts_.host.name : route_.host;
    if (verdict.reason != Reason::malformed_target) record_.path = route_.target.path();
    record_.action = route_.action;
    record_.rule = route_.rule;
    if (route_.endpoint != nullptr) record_.endpoint = route_.endpoint->name;
    if (route_.binding != nullptr) record_.credential = route_.binding->name;
  }

  // An answer of our own, if the response has not begun. An unread body makes the connection useless for a next
  // request.
  net::Task<void> answer_denial() {
    Denial denial;
    make_denial(record_, denial);
    // RFC 9110 section 15.5.20: another connection, made for that host, may do. HTTP/1 clients don't know it.
    if (record_.reason == Reason::host_mismatch && exchange_.version() == http::Version::http2) {
      denial.head.status = 421;
    }
    record_.status = denial.head.status;
    unread_ = has_content() && !held_.held() && !upload_.running();
    if (has_content()) exchange_.close_after();
    flow_.answered(0);
    http::BodyInfo body{http::BodyInfo::Kind::sized, denial.body.size(), false};
    responded_ = true;
    // Nobody is left to tell when this fails: the connection is closed, and the record says what was decided.
    Result<void> written = co_await exchange_.respond(denial.head, body, Chunk{denial.body, true});
    if (!written) exchange_.abort();
  }

  // Every place is taken: said at once, so that nobody waits for what may take long. The client may try again.
  net::Task<void> turn_away() {
    record_.reason = Reason::overloaded;
    record_.text = "all places for connections are taken, and none is silent";
    exchange_.close_after();
    co_await answer_denial();
  }

  // Gives up: with an error response if none has begun, else by breaking the response off so that the client can tell.
  net::Task<void> give_up(Reason reason, std::string text) {
    record_.outcome = Outcome::error;
    if (revoked_) {
      record_.outcome = Outcome::deny;
      reason = *revoked_;
      text = "the policy was changed while the exchange was under way, and the new one does not allow it";
    } else if (peer_gone_) {
      reason = Reason::downstream_closed;
      text = facts_.inbound == nullptr ? "the function closed its connection before the response was there"
                                       : "the client closed its connection before the function had answered";
    }
    record_.reason = reason;
    record_.text = std::move(text);
    end_execution(flow::v1alpha1::EXECUTION_END_CUT);
    keep_upstream_ = false;
    if (responded_ || record_.reason == Reason::downstream_closed) {
      exchange_.abort();
    } else {
      co_await answer_denial();
    }
  }

  net::UpstreamRequest upstream_request(bool fresh) const {
    net::UpstreamRequest request;
    request.scheme = route_.scheme;
    request.host = route_.host;
    request.literal = route_.literal;
    request.port = route_.port;
    request.endpoint = route_.endpoint;
    request.policy = route_.policy;
    // The runtime API is where whoever started the guard says, and that is a special address as a rule.
    request.enforce_addresses = !asks_no_policy() && route_.policy->mode() == document::Mode::enforce;
    request.fresh = fresh;
    request.client_certificate = route_.rule >= 0;
    if (facts_.inbound == nullptr) return request;
    request.host = kFunctionHost;
    request.literal.reset();
    request.port = facts_.inbound->port;
    request.endpoint = &facts_.inbound->endpoint;
    request.addresses = function_addresses();
    request.sockets = worker_.sockets();
    request.prior_knowledge = exchange_.version() == http::Version::http2;
    return request;
  }

  net::Task<bool> connect(bool fresh) {
    net::UpstreamRequest request = upstream_request(fresh);
    net::Deadline deadline = worker_.loop().in(limits::kResolveTimeout + 3 * limits::kConnectTimeout);
    auto lease = co_await worker_.shared_upstreams().acquire(std::move(request), exchange_.wants_websocket(),
                                                             std::move(failed_), deadline);
    if (!lease) {
      // An address that the endpoint does not allow is the policy's decision, not the network's failure.
      bool policy = lease.error().reason == Reason::address_not_allowed || lease.error().reason == Reason::loop;
      co_await give_up(lease.error().reason, std::move(lease.error().text));
      if (policy) record_.outcome = Outcome::deny;
      co_return false;
    }
    record_.reused = lease->reused;
    const net::UpstreamConnection& upstream = lease->connection();
    record_.upstream = upstream.peer_text();
    if (!upstream.through_proxy()) record_.upstream_address = upstream.peer();
    shared_ = std::move(lease->shared);
    connection_ = std::move(lease->own);
    if (shared_) {
      // The exchange keeps all of it.
      client_ = &http2_.emplace(std::shared_ptr<http2::ClientConnection>(shared_, &shared_->http2));
    } else {
      http1_.attach(connection_->stream());
      client_ = &http1_;
    }
    note_address(upstream);
    catch_up_with_policy();
    if (!peer_gone_ && !revoked_) co_return true;
    co_await give_up(Reason::downstream_closed, {});
    co_return false;
  }

  // Audit and learn dial any address; enforcing would not have.
  void note_address(const net::UpstreamConnection& upstream) {
    if (decided_ != Outcome::allow || route_.endpoint == nullptr || upstream.through_proxy()) return;
    if (asks_no_policy()) return;
    if (route_.endpoint->allows(upstream.peer())) return;
    decided_ = Outcome::would_deny;
    record_.reason = Reason::address_not_allowed;
    record_.text = "the address is one that endpoint '" + route_.endpoint->name + "' does not allow";
  }

  // Connects, sends head and what is there of the body, starts the upload of the rest, and reads the final response
  // head's first part. A connection that turns out to be dead is replaced once, if the request may be repeated.
  net::Task<bool> send_request() {
    http::UpstreamExchange::Request request;
    request.head = &exchange_.head();
    request.target = route_.target.text;
    request.authority = route_.authority;
    request.body = held_.held() ? held_.info(exchange_) : exchange_.body();
    request.websocket = exchange_.wants_websocket();
    request.te_trailers = exchange_.accepts_trailers();
    if (request.websocket) offer_extensions();
    request.trailers = trailers();
    Result<Chunk> first = held_.held() ? Result<Chunk>(Chunk{held_.body(), true}) : exchange_.buffered_body();
    if (!first) {
      co_await give_up(reason_of(first.error()), first.error().text);
      co_return false;
    }
    record_.bytes_up += first->data.size();
    for (bool fresh = false;; fresh = true) {
      bool connected = co_await connect(fresh);
      if (!connected) co_return false;
      const bool begun = co_await begin_execution();
      if (!begun) co_return false;
      announce();
      Result<void> sent = co_await client_->send(request, *first);
      moved_ = worker_.loop().now();
      Result<http::UpstreamHead> head;
      if (sent) {
        if (!first->end) upload_.start(upload());
        head = co_await read_head();
      } else {
        head = std::unexpected(sent.error());
      }
      if (head) {
        head_ = *head;
        co_return true;
      }
      if (!fresh && first->end && may_repeat(head.error())) {
        failed_ = shared_;
        release();
        continue;
      }
      co_await fail_upstream(head.error());
      co_return false;
    }
  }

  // A request that is here as a whole may be sent once more if the server has not looked at it, by its own word; or if
  // its method says so, and the connection was one that had been idle, or never became one of HTTP/2.
  bool may_repeat(const Error& error) const {
    if (client_->response_started() || revoked_ || peer_gone_) return false;
    if (client_->unprocessed()) return true;
    const bool unfit = shared_ && shared_->http2.fitness() != http2::ClientConnection::Fitness::good;
    return (record_.reused || unfit) && idempotent(record_.method) && error.source == ErrorSource::upstream &&
           reason_of(error) == Reason::upstream_closed;
  }

  // Whether something has moved in either direction while a wait of `limit` timed out: then it goes on.
  bool moved_within(net::Clock::duration limit) const { return worker_.loop().now() < moved_ + limit; }

  // The server's time to answer begins when it has the request: an upload may take as long as it moves. While it is the
  // client that keeps everybody waiting, the upload's own deadline ends it.
  net::Task<Result<http::UpstreamHead>> read_head() {
    net::Deadline deadline = moved_ + limits::kResponseHeadTimeout;
    while (true) {
      Result<http::UpstreamHead> head = co_await client_->read_head(response_, deadline);
      if (head || head.error().kind != ErrorKind::timeout) co_return head;
      if (moved_within(limits::kResponseHeadTimeout)) {
        deadline = moved_ + limits::kResponseHeadTimeout;
      } else if (call_.kind == RuntimeCall::Kind::next) {  // the next invocation may be days away
        deadline = worker_.loop().in(limits::kResponseHeadTimeout);
      } else if (awaits_client_) {
        deadline = worker_.loop().in(limits::kDrainTick);
      } else {
        co_return head;
      }
    }
  }

  // The next piece of the request's body. One direction may rest as long as the other moves.
  net::Task<Result<Chunk>> read_request_body() {
    awaits_client_ = true;
    while (true) {
      net::Deadline deadline =
          discarding_ ? worker_.loop().in(limits::kBodyIdleTimeout) : moved_ + limits::kBodyIdleTimeout;
      Result<Chunk> chunk = co_await exchange_.read_body(deadline);
      const bool resting = !chunk && chunk.error().kind == ErrorKind::timeout && !discarding_;
      if (resting && moved_within(limits::kBodyIdleTimeout)) continue;
      awaits_client_ = false;
      co_return chunk;
    }
  }

  net::Task<Result<Chunk>> read_response_body() {
    while (true) {
      Result<Chunk> chunk = co_await client_->read_body(moved_ + limits::kBodyIdleTimeout);
      const bool resting = !chunk && chunk.error().kind == ErrorKind::timeout;
      if (resting && moved_within(limits::kBodyIdleTimeout)) continue;
      moved_ = worker_.loop().now();
      co_return chunk;
    }
  }

  // What the function sends behind its body. A server that joins trailers to the head would find there the function's
  // own key behind the one that was injected, or another action than the one that was decided: then there are none.
  const request::HeaderList* trailers() const {
    const bool has_actions = route_.reading != nullptr && route_.reading->operations.protocol != action::Protocol::none;
    return route_.binding == nullptr && !has_actions ? &exchange_.trailers() : nullptr;
  }

  // The upstream's side failed. If the cause is that the function's side failed first, that is what is said.
  net::Task<void> fail_upstream(const Error& error) {
    if (!upload_result_ && upload_result_.error().source == ErrorSource::downstream) {
      co_await give_up(reason_of(upload_result_.error()), upload_result_.error().text);
    } else {
      co_await give_up(reason_of(error), error.text);
    }
  }

  // Runs beside the response. Stops at the first failure of either side; in `discarding_` it only empties the request,
  // so that a client that still sends gets to read its answer (RFC 9112 section 9.6).
  net::Task<void> upload() {
    std::uint64_t discarded = 0;
    std::uint64_t turn_ends = limits::kFairnessBytes;
    while (true) {
      Result<Chunk> chunk = co_await read_request_body();
      if (!chunk) {
        upload_result_ = std::unexpected(chunk.error());
        if (!discarding_) client_->cancel();  // without its request the response means nothing
        co_return;
      }
      record_.bytes_up += chunk->data.size();
      if (discarding_) {
        discarded += chunk->data.size();
        if (chunk->end || discarded > limits::kLingerBytesMax) co_return;
        continue;
      }
      Result<void> written = co_await write_chunk(*chunk);
      if (written) moved_ = worker_.loop().now();
      if (!written && !discarding_) {
        // The upstream has stopped reading: it may have answered early. The response decides.
        upload_result_ = std::unexpected(written.error());
        co_return;
      }
      if (chunk->end) co_return;
      if (record_.bytes_up >= turn_ends) {
        turn_ends = record_.bytes_up + limits::kFairnessBytes;
        co_await worker_.loop().yield();
      }
    }
  }

  net::Task<Result<void>> write_chunk(Chunk chunk) {
    if (!chunk.end) co_return co_await client_->write_body(chunk);
    if (!chunk.data.empty()) {
      Result<void> written = co_await client_->write_body(Chunk{chunk.data, false});
      if (!written) co_return written;
    }
    co_return co_await client_->finish(trailers());
  }

  net::Task<void> relay_response() {
    bool final_head = co_await relay_informational();
    if (!final_head) co_return;
    // Before the flow graph is told of it: what is not believed leads to no redirect.
    const bool believed = co_await check_answer();
    if (!believed) co_return;
    flow_status_ = head_.status;
    flow_.answered(head_.status);
    const bool redirects = flow::answer_of(head_.status) == flow::Answer::redirecting;
    if (redirects && flow_.attribution() != Attribution::none) {
      redirect_ = redirect_of(route_, record_.method, response_);
    }
    if (runtime_ != nullptr) {
      const std::optional<Verdict> refused = co_await note_invocation();
      if (refused && refused->outcome == Outcome::deny) {
        describe(*refused);
        co_await answer_denial();
        co_return;
      }
      if (refused) {
        co_await give_up(refused->reason, refused->text);
        co_return;
      }
    }
    record_.first_byte = std::chrono::duration_cast<std::chrono::microseconds>(net::Clock::now() - started_);
    clean_response(response_);
    tag_answer();
    if (head_.status == 101) {
      co_await relay_frames();
      co_return;
    }
    // Over HTTP/2 success is what opens a WebSocket: to pass this on would be to say that there is one.
    if (exchange_.wants_websocket() && exchange_.version() == http::Version::http2 && head_.status < 300) {
      co_await give_up(Reason::upstream_malformed, "the server answered the handshake of a WebSocket with status " +
                                                       std::to_string(head_.status) + " instead of switching");
      co_return;
    }
    record_.status = head_.status;
    Result<Chunk> first = client_->buffered_body();
    if (!first) {
      co_await give_up(reason_of(first.error()), first.error().text);
      co_return;
    }
    // While the request is still being sent its end is not in sight: the answer says that this connection ends with it.
    if (upload_.running() || !upload_result_) exchange_.close_after();
    if (first->end) end_execution(flow::v1alpha1::EXECUTION_END_COMPLETE);
    moved_ = worker_.loop().now();
    responded_ = true;
    bool trailers = first->end && !client_->trailers().empty();
    Result<void> written =
        co_await exchange_.respond(response_, head_.body, Chunk{first->data, first->end && !trailers});
    record_.bytes_down += first->data.size();
    if (written && trailers) written = co_await exchange_.finish(&client_->trailers());
    bool ended = first->end;
    if (written && !ended) {
      co_await relay_body();
      co_return;
    }
    if (!written) {
      co_await give_up(reason_of(written.error()), written.error().text);
      co_return;
    }
    succeed();
  }

  // 1xx responses are passed on until the final head (or 101) is there.
  net::Task<bool> relay_informational() {
    for (std::size_t count = 0; head_.status < 200 && head_.status != 101; ++count) {
      if (count == limits::kInformationalResponsesMax) {
        co_await give_up(Reason::upstream_malformed, "the server sent too many 1xx responses");
        co_return false;
      }
      clean_response(response_);
      Result<void> informed = co_await exchange_.inform(response_);
      if (!informed) {
        co_await give_up(reason_of(informed.error()), informed.error().text);
        co_return false;
      }
      Result<http::UpstreamHead> next = co_await read_head();
      if (!next) {
        co_await fail_upstream(next.error());
        co_return false;
      }
      head_ = *next;
    }
    if (head_.status == 101 && !exchange_.wants_websocket()) {
      co_await give_up(Reason::upstream_malformed, "the server switched protocols without being asked to");
      co_return false;
    }
    co_return true;
  }

  net::Task<void> relay_body() {
    std::uint64_t turn_ends = record_.bytes_down + limits::kFairnessBytes;
    while (true) {
      Result<Chunk> chunk = co_await read_response_body();
      if (!chunk) {
        co_await fail_upstream(chunk.error());
        co_return;
      }
      if (chunk->end) end_execution(flow::v1alpha1::EXECUTION_END_COMPLETE);
      Result<void> written;
      if (!chunk->data.empty()) written = co_await exchange_.write_body(Chunk{chunk->data, false});
      moved_ = worker_.loop().now();
      if (written) {
        record_.bytes_down += chunk->data.size();
        if (chunk->end) written = co_await exchange_.finish(&client_->trailers());
      }
      if (!written) {
        co_await give_up(reason_of(written.error()), written.error().text);
        co_return;
      }
      if (chunk->end) break;
      if (record_.bytes_down >= turn_ends) {
        turn_ends = record_.bytes_down + limits::kFairnessBytes;
        co_await worker_.loop().yield();
      }
    }
    succeed();
  }

  // An extension may change what a frame is: only the one that the relay understands is offered.
  void offer_extensions() {
    request::HeaderList& headers = exchange_.head().headers;
    for (const request::Header& field : headers) {
      if (!request::name_equals(field.name, kExtensions)) continue;
      if (http1::is_only_deflate(field.value)) {
        deflate_offered_ = true;
      } else {
        deflate_offered_ = false;
        headers.erase(kExtensions);
        return;
      }
    }
  }

  // What the server agreed on; nothing where it was not offered (RFC 6455 section 4.1).
  std::optional<bool> agreed_on_deflate() const {
    const std::size_t count = response_.headers.count(kExtensions);
    if (count == 0) return false;
    const request::Header* field = response_.headers.find(kExtensions);
    const bool one = count == 1 && field->value.find(',') == std::string_view::npos;
    if (!one || !deflate_offered_ || !http1::is_only_deflate(field->value)) return std::nullopt;
    return true;
  }

  net::Task<void> relay_frames() {
    const std::optional<bool> deflate = agreed_on_deflate();
    if (!deflate) {
      co_await give_up(Reason::upstream_malformed, "the server's 101 has an extension that was not offered");
      co_return;
    }
    WebSocketTerms terms{*deflate, limits::kWebSocketMessageBytesMax};
    if (route_.endpoint != nullptr) terms.message_bytes_max = route_.endpoint->websocket_message_bytes_max;
    response_.headers.erase("sec-websocket-accept");  // checked; each side has its own
    record_.status = exchange_.version() == http::Version::http2 ? 200 : 101;
    record_.protocol = "WebSocket";
    std::string_view from_function, from_server;
    net::ByteStream* upstream = client_->switched(from_server);
    responded_ = true;
    exchange_.watch_peer(nullptr);  // somebody reads from it now
    Result<net::ByteStream*> function = co_await exchange_.switch_protocols(response_, from_function);
    if (!function) {
      co_await give_up(reason_of(function.error()), function.error().text);
      co_return;
    }
    TunnelBytes bytes;
    WebSocketEnd end = co_await relay_websocket(**function, *upstream, from_function, from_server, terms, bytes);
    record_.bytes_up += bytes.up;
    record_.bytes_down += bytes.down;
    exchange_.close_after();
    // The end of each direction may still wait to be written; who has failed says so at once.
    [[maybe_unused]] const Result<void> ended_up = co_await client_->finish(nullptr);
    [[maybe_unused]] const Result<void> ended_down = co_await exchange_.finish(nullptr);
    if (revoked_) {
      co_await give_up(*revoked_, {});
    } else if (end.broken) {
      // Said even where the function has gone since: it was told.
      const bool function_broke_it = end.broken_by == http1::FrameSender::client;
      record_.outcome = function_broke_it ? Outcome::deny : Outcome::error;
      record_.reason = function_broke_it ? Reason::malformed_websocket : Reason::upstream_malformed;
      record_.text = "WebSocket: " + std::string(end.broken->text);
      if (!end.function_was_told) exchange_.abort();
    } else {
      succeed();  // either side may end a WebSocket in any way: its own close frames say how
      if (record_.text.empty()) record_.text = end.moved ? end.text : end.moved.error().text;
    }
  }

  void succeed() {
    end_execution(flow::v1alpha1::EXECUTION_END_COMPLETE);  // of a WebSocket; others' have ended before
    record_.outcome = decided_;
    keep_upstream_ = true;
  }

  // The response is over; what is left of the upload is read away for a short while, then cut.
  net::Task<void> end_upload() {
    if (upload_.running()) {
      discarding_ = true;
      if (client_ != nullptr) client_->cancel();
      exchange_.end_response();
      co_await let_client_finish();
    }
    co_await upload_.join(net::kNoDeadline);  // cancelled: it ends at once
    upload_.rethrow();
  }

  // While bytes keep coming, up to the limits; then the connection is cut.
  net::Task<void> let_client_finish() {
    net::Deadline end = worker_.loop().in(limits::kLingerTimeout);
    while (upload_.running()) {
      const std::uint64_t before = record_.bytes_up;
      net::Deadline until = std::min(end, worker_.loop().in(limits::kLingerIdleTimeout));
      net::Wait ended = co_await upload_.join(until);
      if (ended == net::Wait::timeout && (record_.bytes_up == before || worker_.loop().now() >= end)) {
        exchange_.cancel();
        co_return;
      }
    }
  }

  void release() {
    client_ = nullptr;
    http2_.reset();
    shared_.reset();
    if (!connection_) return;
    const bool reusable = keep_upstream_ && upload_result_ && http1_.reusable();
    http1_.detach();
    if (reusable) worker_.upstream().release(std::move(connection_));
    connection_.reset();
  }

  Worker& worker_;
  http::Exchange& exchange_;
  http1::ClientExchange& http1_;
  http::UpstreamExchange* client_ = nullptr;  // one of the next two, while there is an upstream
  request::ResponseHead& response_;
  Route& route_;
  const ConnectionFacts& facts_;
  const std::shared_ptr<const Terms> terms_;  // null: there is no controller
  const net::Deadline started_;
  net::Deadline moved_ = started_;  // when a byte of a body was last passed on, in either direction
  Record record_;
  HeldRequest held_;
  ExecutionTable::Flow flow_;
  const RuntimeApi* runtime_ = nullptr;  // set where the exchange is for it
  RuntimeCall call_;
  std::optional<tag::RequestId> tagged_;  // of the tag that the request bears
  std::optional<tag::Tag> caller_;        // of an inbound exchange: the same, whole
  std::string note_;                      // what is to be recorded of a request that is let through
  bool announced_ = false;                // to the controller
  bool probe_ = false;                    // of an inbound exchange: it begins no execution
  std::optional<std::string> trace_id_;   // of an inbound exchange
  std::optional<ExecutionId> execution_;  // that an inbound exchange has begun, while it is open
  int flow_status_ = 0;
  std::optional<flow::v1alpha1::Operation> redirect_;
  Outcome decided_ = Outcome::allow;
  std::unique_ptr<net::UpstreamConnection> connection_;  // of HTTP/1
  std::shared_ptr<SharedUpstream> shared_;               // of HTTP/2
  std::shared_ptr<SharedUpstream> failed_;               // the one before, where the request is sent again
  std::optional<http2::ClientExchange> http2_;
  http::UpstreamHead head_;
  Result<void> upload_result_;
  std::optional<Reason> revoked_;
  bool deflate_offered_ = false;
  bool peer_gone_ = false;
  bool awaits_client_ = false;
  bool discarding_ = false;
  bool unread_ = false;
  bool responded_ = false;
  bool keep_upstream_ = false;
  net::Concurrent upload_;  // last: its frame refers to everything above
};

}  // namespace

net::Task<void> serve_exchange(Worker& worker, const ConnectionFacts& facts, http::Exchange& exchange,
                               ExchangeSlot& slot, ConnectionLease* connection) {
  Service service(worker, exchange, slot, facts);
  co_await service.run(connection);
  if (service.owes_reading()) co_await service.read_away();
}

net::Task<void> serve_malformed(Worker& worker, const ConnectionFacts& facts, http::Exchange& exchange,
                                ExchangeSlot& slot, const http::RequestFailure& failure) {
  Service service(worker, exchange, slot, facts);
  co_await service.refuse(failure.reason, failure.text);
}

}  // namespace sallyport::guard
