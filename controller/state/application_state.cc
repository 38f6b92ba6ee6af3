#include "controller/state/application_state.h"

#include <algorithm>
#include <utility>

namespace sallyport::controller {

namespace {

using flow::ApplicationGraph;
using std::chrono::seconds;

constexpr std::uint64_t kMicrosecondsPerSecond = 1'000'000;

// False where it is none: then `out` is all zeros.
template <class Id>
bool read_id(std::string_view bytes, Id& out) {
  out = {};
  if (bytes.size() != out.size()) return false;
  std::ranges::copy(bytes, out.begin());
  return true;
}

flow::Operation view_of(const flow::v1alpha1::Operation& operation) {
  return {operation.method(), operation.host(), operation.path(), operation.query(), operation.action()};
}

// The service has taken it: what it leads to may begin.
bool has_succeeded(const v1alpha1::Exchange& exchange) {
  const bool sent = exchange.decision() == v1alpha1::DECISION_ALLOW ||
                    exchange.decision() == v1alpha1::DECISION_WOULD_DENY ||
                    exchange.decision() == v1alpha1::DECISION_ERROR;
  return sent && exchange.status() > 0 && exchange.status() < 400;
}

}  // namespace

ApplicationState::ApplicationState(std::shared_ptr<const ApplicationGraph> graph, const Options& options)
    : ledger_(std::move(graph), {options.executions_max, options.flows_max}, options.seed),
      waiting_(ledger_.graph().function_count(), options.waiting_max),
      options_(options) {}

// Time goes on before anything else does, so that it does not matter how often advance() has been called in between.
void ApplicationState::move_to(Time now, Outcome& out) {
  now_ = std::max(now_, now);
  for (std::uint32_t due = waiting_.due(now_); due != kNil; due = waiting_.due(now_)) serve(due, false, out);
  if (now_ < swept_ + seconds(1)) return;
  swept_ = std::chrono::floor<seconds>(now_);
  ledger_.advance(now_);
  say_missing(out);
  const auto few = [](std::size_t count, std::size_t most) { return count < most - most / 10; };
  if (few(ledger_.executions(), options_.executions_max) && few(ledger_.flows(), options_.flows_max)) {
    overloaded_ = false;
  }
}

void ApplicationState::advance(Time now, Outcome& out) { move_to(now, out); }

std::optional<Time> ApplicationState::next_due() const {
  const std::optional<Time> waiting = waiting_.next_due();
  if (ledger_.executions() == 0) return waiting;
  const Time sweep = swept_ + seconds(1);
  return waiting ? std::min(*waiting, sweep) : sweep;
}

void ApplicationState::alarm(AlarmKind kind, const Source& from, const ExecutionId& execution, const RequestId& request,
                             std::string text, Outcome& out) {
  const bool known = from.function < graph().function_count();
  out.alarms.push_back(
      {kind, known ? graph().name_of(from.function) : std::string(), from.guard, execution, request, std::move(text)});
}

// Once, until there is room again.
void ApplicationState::say_overloaded(const Source& from, std::string_view what, Outcome& out) {
  if (std::exchange(overloaded_, true)) return;
  alarm(AlarmKind::overloaded, from, {}, {}, std::string(what), out);
}

void ApplicationState::say_missing(Outcome& out) {
  if (!ledger_.has_missing()) return;
  for (const Missing& missing : ledger_.take_missing()) {
    const flow::ApplicationEdge& edge = graph().edges()[missing.edge];
    alarm(AlarmKind::missing_execution, missing.from, missing.execution, missing.request,
          "a flow of it has led to " + std::to_string(missing.used) + " of " + std::to_string(edge.leads_to.least) +
              " executions of " + graph().name_of(edge.to),
          out);
  }
}

std::optional<Claim> ApplicationState::claim_of(const v1alpha1::Sender& sender) const {
  Claim claim;
  claim.function = graph().function_of(sender.function());
  if (!read_id(sender.guard_id(), claim.guard) || !read_id(sender.request_id(), claim.request)) return {};
  return claim;
}

ApplicationState::Found ApplicationState::find_predecessor(const Entrant& entrant) {
  const std::uint32_t function = entrant.from.function;
  Found found;
  if (!entrant.claim) {
    found.flow = ledger_.find_through(function, now_);
    found.may_repeat = ledger_.may_repeat_through(function, now_);
    found.hopeless = graph().edges_through_services(function).empty();
    if (ledger_.had_flow(function, now_)) found.why = AlarmKind::too_many_executions;
    return found;
  }
  const Claim& claim = *entrant.claim;
  const bool known = claim.function != ApplicationGraph::kNone;
  const std::uint32_t edge = known ? graph().direct_edge(claim.function, function) : ApplicationGraph::kNone;
  const std::uint32_t at = ledger_.find_sender(claim.guard, claim.request);
  found.hopeless = edge == ApplicationGraph::kNone || (at != kNil && ledger_.sender(at).function != claim.function);
  if (found.hopeless) {
    found.why = AlarmKind::foreign_sender;
  } else if (at == kNil) {
    found.why = AlarmKind::unknown_sender;
  } else {
    const bool has_sent = (ledger_.sender(at).edges >> (edge % 64) & 1) != 0;
    found.why = has_sent ? AlarmKind::replayed_tag : AlarmKind::no_flow;
    found.flow = ledger_.find_direct(at, edge, now_);
    found.may_repeat = ledger_.may_repeat_direct(at, edge, now_);
  }
  return found;
}

std::uint32_t ApplicationState::find_repeated(const Entrant& entrant) {
  if (!entrant.may_repeat) return kNil;
  if (!entrant.claim) return ledger_.find_repeat_through(entrant.from.function, now_);
  const std::uint32_t at = ledger_.find_sender(entrant.claim->guard, entrant.claim->request);
  if (at == kNil) return kNil;
  return ledger_.find_repeat_direct(at, graph().direct_edge(entrant.claim->function, entrant.from.function), now_);
}

std::string ApplicationState::reason_of(const Entrant& entrant, AlarmKind why) const {
  const std::string& to = graph().name_of(entrant.from.function);
  const bool named = entrant.claim && entrant.claim->function != ApplicationGraph::kNone;
  const std::string sender = named ? graph().name_of(entrant.claim->function) : std::string("an unknown function");
  switch (why) {
    case AlarmKind::no_predecessor:
      return "no flow of another function has led to " + to + ", and it is no entry";
    case AlarmKind::too_many_executions:
      return "each flow that leads to " + to + " has led to as many executions as it may";
    case AlarmKind::foreign_sender:
      return "the tag is of " + sender + ", which does not lead to " + to + ", or whose execution this is not";
    case AlarmKind::unknown_sender:
      return "the tag is of an execution of " + sender + " that is not known";
    case AlarmKind::no_flow:
      return "the execution of " + sender + " that the tag names has sent nothing to " + to;
    case AlarmKind::replayed_tag:
      return "what the execution of " + sender + " has sent to " + to + " has led to as many executions as it may";
    case AlarmKind::missing_execution:
    case AlarmKind::incomplete:
    case AlarmKind::unknown_execution:
    case AlarmKind::reused_execution:
    case AlarmKind::malformed:
    case AlarmKind::events_lost:
    case AlarmKind::overloaded:
    case AlarmKind::too_many_instances:
    case AlarmKind::lost_instance:
      break;  // not about who leads to whom
  }
  return {};
}

void ApplicationState::ask(std::uint64_t ask, const Source& from, const v1alpha1::EntryAsk& message,
                           const RequestId& fresh, Time now, Outcome& out) {
  move_to(now, out);
  Entrant entrant{.from = from, .execution = {}, .claim = {}, .request = fresh, .ask = ask, .reported = false};
  bool good = from.function < graph().function_count() && read_id(message.execution(), entrant.execution);
  if (good && message.has_sender()) {
    entrant.claim = claim_of(message.sender());
    good = entrant.claim.has_value();
  }
  if (good) {
    decide(entrant, true, out);
  } else {
    refuse(entrant, AlarmKind::malformed, "the guard's question names no function, execution or sender", out);
  }
  say_missing(out);
}

void ApplicationState::decide(Entrant entrant, bool may_wait, Outcome& out) {
  if (answer_again(entrant, out)) return;
  if (!ledger_.has_room()) {
    say_overloaded(entrant.from, "more executions are open than are kept", out);
    out.answers.push_back({entrant.ask, false, {}, {}, "the controller keeps no more executions", {}});
    return;
  }
  const Found found = find_predecessor(entrant);
  if (found.flow != kNil) return allow_led(entrant, found.flow, out);
  if (may_wait) entrant.may_repeat = found.may_repeat;
  const bool entry = !entrant.claim && graph().is_entry(entrant.from.function);
  if (may_wait && !entry && !found.hopeless && waiting_.put(entrant, now_ + limits::kPairingGrace)) return;
  const std::uint32_t repeated = find_repeated(entrant);
  if (repeated != kNil) return allow_led(entrant, repeated, out);
  if (entry) return allow_entry(entrant, out);
  refuse(entrant, found.why, reason_of(entrant, found.why), out);
}

// True: the execution is known already, and that is the answer.
bool ApplicationState::answer_again(const Entrant& entrant, Outcome& out) {
  const std::uint32_t at = ledger_.find_execution(entrant.execution);
  if (at == kNil) return false;
  const Execution& execution = ledger_.execution(at);
  const Sender& sender = ledger_.sender(execution.sender);
  if (sender.guard == entrant.from.guard && execution.asked && !execution.told) {
    out.answers.push_back({entrant.ask, true, sender.request, {}, {}, {}});
  } else {
    refuse(entrant, AlarmKind::reused_execution, "an execution of this name has begun before", out);
  }
  return true;
}

// What is used up is used up before the execution begins: that may take the place of the one that has led to it.
void ApplicationState::allow_led(const Entrant& entrant, std::uint32_t flow, Outcome& out) {
  const Flow& led = ledger_.flow(flow);
  const Sender& sender = ledger_.sender(led.sender);
  Decided decided{.time = now_,
                  .guard = entrant.from.guard,
                  .function = graph().name_of(entrant.from.function),
                  .execution = entrant.execution,
                  .request = sender.request,
                  .from_guard = sender.guard,
                  .from_execution = ledger_.execution(led.execution).id,
                  .flow = led.id,
                  .by_tag = entrant.claim.has_value()};
  const std::uint32_t predecessor = sender.function;
  ledger_.use(flow, now_);
  const std::uint32_t at = ledger_.begin(entrant.from, entrant.execution, decided.request, now_);
  if (at == kNil) return refuse(entrant, AlarmKind::malformed, "its guard is one of another function", out);
  ledger_.execution(at).asked = true;
  out.answers.push_back({entrant.ask,
                         true,
                         decided.request,
                         entrant.claim ? std::string() : graph().name_of(predecessor),
                         {},
                         std::move(decided)});
}

void ApplicationState::allow_entry(const Entrant& entrant, Outcome& out) {
  const std::uint32_t at = ledger_.begin(entrant.from, entrant.execution, entrant.request, now_);
  if (at == kNil) return refuse(entrant, AlarmKind::malformed, "its guard is one of another function", out);
  ledger_.execution(at).asked = true;
  Answer& answer = out.answers.emplace_back(Answer{entrant.ask, true, entrant.request, {}, {}, {}});
  // Where flows lead to it, too, a replay must not give it one of them.
  if (graph().edges_through_services(entrant.from.function).empty()) return;
  answer.decided.emplace();
  answer.decided->time = now_;
  answer.decided->guard = entrant.from.guard;
  answer.decided->function = graph().name_of(entrant.from.function);
  answer.decided->execution = entrant.execution;
  answer.decided->request = entrant.request;
}

void ApplicationState::refuse(const Entrant& entrant, AlarmKind why, std::string text, Outcome& out) {
  const RequestId request = entrant.claim ? entrant.claim->request : RequestId{};
  out.answers.push_back({entrant.ask, false, {}, {}, text, {}});
  alarm(why, entrant.from, entrant.execution, request, std::move(text), out);
}

// Of an execution that has begun.
void ApplicationState::pair(Entrant entrant, bool may_wait, Outcome& out) {
  const Found found = find_predecessor(entrant);
  if (found.flow != kNil) return ledger_.use(found.flow, now_);
  if (may_wait) entrant.may_repeat = found.may_repeat;
  const bool entry = !entrant.claim && graph().is_entry(entrant.from.function);
  if (may_wait && !entry && !found.hopeless && waiting_.put(entrant, now_ + limits::kReportGrace)) return;
  const std::uint32_t repeated = find_repeated(entrant);
  if (repeated != kNil) return ledger_.use(repeated, now_);
  if (entry) return;
  alarm(found.why, entrant.from, entrant.execution, entrant.request,
        "it has begun, but " + reason_of(entrant, found.why), out);
}

void ApplicationState::serve(std::uint32_t waiting, bool may_wait, Outcome& out) {
  const Entrant entrant = waiting_.take(waiting);
  if (entrant.reported) {
    pair(entrant, may_wait, out);
  } else {
    decide(entrant, may_wait, out);
  }
}

void ApplicationState::forget_asks(const GuardId& guard) {
  for (std::uint32_t at = waiting_.first_ask_of(guard); at != kNil; at = waiting_.first_ask_of(guard)) {
    waiting_.take(at);
  }
}

void ApplicationState::replay(const Decided& decided, Outcome& out) {
  move_to(decided.time, out);
  const std::uint32_t function = graph().function_of(decided.function);
  if (function == ApplicationGraph::kNone || ledger_.find_execution(decided.execution) != kNil) return;
  const std::uint32_t from = ledger_.find_execution(decided.from_execution);
  if (from != kNil) {
    const std::uint32_t flow = ledger_.find_flow(from, decided.flow, function, decided.by_tag);
    if (flow != kNil && ledger_.flow(flow).state != Flow::State::idle) ledger_.use(flow, now_);
  }
  const std::uint32_t at = ledger_.begin({decided.guard, function}, decided.execution, decided.request, now_);
  if (at != kNil) ledger_.execution(at).asked = true;
}

void ApplicationState::apply(const Source& from, const v1alpha1::Event& event, Time now, Outcome& out) {
  move_to(now, out);
  if (from.function >= graph().function_count()) {
    return alarm(AlarmKind::malformed, from, {}, {}, "an event of a function that the application does not have", out);
  }
  switch (event.what_case()) {
    case v1alpha1::Event::kExecutionBegan:
      apply_began(from, event.execution_began(), out);
      break;
    case v1alpha1::Event::kFlowBegan:
      apply_flow(from, event.flow_began(), out);
      break;
    case v1alpha1::Event::kExchange:
      apply_exchange(from, event.exchange(), out);
      break;
    case v1alpha1::Event::kExecutionEnded:
      apply_ended(from, event.execution_ended(), out);
      break;
    case v1alpha1::Event::kLost:
    case v1alpha1::Event::WHAT_NOT_SET:
      break;  // the one changes nothing here; the other is of a newer guard
  }
  say_missing(out);
}

std::uint32_t ApplicationState::execution_of(const Source& from, const ExecutionId& id) const {
  const std::uint32_t at = ledger_.find_execution(id);
  return at != kNil && ledger_.sender(ledger_.execution(at).sender).guard == from.guard ? at : kNil;
}

void ApplicationState::apply_began(const Source& from, const v1alpha1::ExecutionBegan& began, Outcome& out) {
  Entrant entrant{.from = from, .execution = {}, .claim = {}, .request = {}, .ask = 0, .reported = true};
  bool good = read_id(began.execution(), entrant.execution) && read_id(began.request_id(), entrant.request);
  if (good && began.has_sender()) {
    entrant.claim = claim_of(began.sender());
    good = entrant.claim && entrant.claim->request == entrant.request;
  }
  if (!good) {
    return alarm(AlarmKind::malformed, from, entrant.execution, entrant.request,
                 "an execution has begun whose name, request or sender is none", out);
  }
  if (const std::uint32_t at = ledger_.find_execution(entrant.execution); at != kNil) {
    if (execution_of(from, entrant.execution) == kNil) {
      return alarm(AlarmKind::reused_execution, from, entrant.execution, entrant.request,
                   "an execution of this name is another guard's", out);
    }
    // It was asked for, and counted then.
    ledger_.execution(at).told = true;
    // One that has not heard the answer in time may have begun as a request of its own.
    if (!began.asked() || ledger_.sender(ledger_.execution(at).sender).request == entrant.request) return;
    return alarm(AlarmKind::malformed, from, entrant.execution, entrant.request,
                 "an execution has begun as part of another request than it was allowed", out);
  }
  const bool room = ledger_.has_room();
  const std::uint32_t at = ledger_.begin(from, entrant.execution, entrant.request, now_);
  if (at != kNil) {
    ledger_.execution(at).told = true;
    return pair(entrant, true, out);
  }
  // Nothing can come of an execution that is not kept: what it leads to is refused.
  if (!room) return say_overloaded(from, "more executions are open than are kept", out);
  alarm(AlarmKind::malformed, from, entrant.execution, entrant.request, "its guard is one of another function", out);
}

// Over which edges a flow of `function` leads, in edges_. False: over none.
bool ApplicationState::find_edges(std::uint32_t function, const flow::v1alpha1::Operation& operation,
                                  const std::string& to_function) {
  graph().find_edges(function, view_of(operation), edges_);
  const std::uint32_t to = to_function.empty() ? ApplicationGraph::kNone : graph().function_of(to_function);
  const std::uint32_t direct = to == ApplicationGraph::kNone ? to : graph().direct_edge(function, to);
  if (direct != ApplicationGraph::kNone) edges_.push_back(direct);
  return !edges_.empty();
}

void ApplicationState::add_flows(const NewFlow& flow, Outcome& out) {
  // Kept before anybody is served: whoever that is may take the execution's place.
  for (std::uint32_t& edge : edges_) {
    if (ledger_.add_flow(flow.execution, flow.request, flow.id, edge, flow.open, now_) != kNil) continue;
    const Sender& sender = ledger_.sender(ledger_.execution(flow.execution).sender);
    say_overloaded({sender.guard, sender.function}, "more flows may lead to executions than are kept", out);
    edge = ApplicationGraph::kNone;
  }
  const GuardId guard = ledger_.sender(ledger_.execution(flow.execution).sender).guard;
  for (const std::uint32_t index : edges_) {
    if (index == ApplicationGraph::kNone) continue;
    const flow::ApplicationEdge& edge = graph().edges()[index];
    const auto first = [&] {
      return edge.direct() ? waiting_.first_direct(edge.to, guard, flow.request) : waiting_.first_through(edge.to);
    };
    for (std::uint32_t at = first(); at != kNil; at = first()) {
      // Who finds nothing goes on waiting, and so do those behind it.
      const Entrant& entrant = waiting_.at(at);
      if (find_predecessor(entrant).flow == kNil) break;
      serve(at, false, out);
    }
  }
}

void ApplicationState::apply_flow(const Source& from, const v1alpha1::FlowBegan& began, Outcome& out) {
  if (!find_edges(from.function, began.operation(), began.to_function())) return;
  NewFlow flow{.execution = kNil, .request = {}, .id = began.id(), .open = true};
  ExecutionId id{};
  if (read_id(began.execution(), id)) flow.execution = execution_of(from, id);
  if (!read_id(began.request_id(), flow.request)) {
    return alarm(AlarmKind::malformed, from, id, {}, "a flow has begun whose request is none", out);
  }
  if (flow.execution == kNil) {
    return alarm(AlarmKind::unknown_execution, from, id, flow.request,
                 "a flow to " + graph().name_of(graph().edges()[edges_.front()].to) + " is of no execution", out);
  }
  add_flows(flow, out);
}

void ApplicationState::apply_exchange(const Source& from, const v1alpha1::Exchange& exchange, Outcome& out) {
  if (exchange.kind() != v1alpha1::EXCHANGE_KIND_OUTBOUND) return;
  NewFlow flow{.execution = kNil, .request = {}, .id = exchange.id(), .open = false};
  ExecutionId id{};
  if (read_id(exchange.execution(), id)) flow.execution = execution_of(from, id);
  const bool succeeded = has_succeeded(exchange);
  if (flow.execution != kNil && ledger_.close_flows(flow.execution, flow.id, succeeded, now_)) return;
  // Its beginning was not announced, or got lost: it counts now.
  if (!succeeded || !find_edges(from.function, exchange.operation(), exchange.to_function())) return;
  if (!read_id(exchange.request_id(), flow.request)) {
    return alarm(AlarmKind::malformed, from, id, {}, "an exchange whose request is none", out);
  }
  if (flow.execution != kNil) return add_flows(flow, out);
  // One that has taken longer than executions are kept has been told of when it began.
  if (exchange.duration_us() / kMicrosecondsPerSecond >=
      static_cast<std::uint64_t>(limits::kExecutionTimeout.count())) {
    return;
  }
  alarm(AlarmKind::unknown_execution, from, id, flow.request,
        "a flow to " + graph().name_of(graph().edges()[edges_.front()].to) + " is of no execution", out);
}

void ApplicationState::apply_ended(const Source& from, const v1alpha1::ExecutionEnded& ended, Outcome& out) {
  ExecutionId id{};
  if (!read_id(ended.execution(), id)) {
    return alarm(AlarmKind::malformed, from, id, {}, "an execution has ended whose name is none", out);
  }
  const std::uint32_t at = execution_of(from, id);
  if (at != kNil) ledger_.end(at, now_);
}

}  // namespace sallyport::controller
