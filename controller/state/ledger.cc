#include "controller/state/ledger.h"

#include <algorithm>

#include "base/limits.h"

namespace sallyport::controller {

namespace {

// Guards end executions by themselves after limits::kExecutionTimeout; one that is lost cannot.
constexpr auto kOpenFor = limits::kExecutionTimeout + limits::kReportGrace;
// As long as a tag of it may be shown.
constexpr auto kKnownFor = limits::kTagLifetime + limits::kTagSkew;

constexpr std::uint64_t bit_of(std::uint32_t edge) { return std::uint64_t{1} << (edge % 64); }

}  // namespace

Ledger::Ledger(std::shared_ptr<const flow::ApplicationGraph> graph, Bounds bounds, std::uint64_t seed)
    : graph_(std::move(graph)), bounds_(bounds), seed_(seed), edges_(graph_->edges().size()) {}

// From the beginning of an execution until the last of its flows has led to something for the last time, and that has
// been told.
std::chrono::milliseconds Ledger::memory() const {
  std::chrono::milliseconds longest{};
  for (const flow::ApplicationEdge& edge : graph_->edges()) {
    longest = std::max(longest, edge.within + edge.redelivery_window);
  }
  return kOpenFor + kKnownFor + longest + limits::kReportGrace;
}

std::uint32_t Ledger::find_execution(const ExecutionId& id) const {
  return by_id_.find(hash_of(id, seed_), [&](std::uint32_t at) { return executions_[at].id == id; });
}

std::uint64_t Ledger::hash_of_sender(const GuardId& guard, const RequestId& request) const {
  return hash_of(request, hash_of(guard, seed_));
}

std::uint32_t Ledger::find_sender(const GuardId& guard, const RequestId& request) const {
  return by_sender_.find(hash_of_sender(guard, request), [&](std::uint32_t at) {
    return senders_[at].request == request && senders_[at].guard == guard;
  });
}

// Counts a user more; kNil where the guard is known as one of another function.
std::uint32_t Ledger::sender_for(const Source& from, const RequestId& request) {
  std::uint32_t at = find_sender(from.guard, request);
  if (at == kNil) {
    at = senders_.take();
    Sender& sender = senders_[at];
    sender.guard = from.guard;
    sender.request = request;
    sender.function = from.function;
    by_sender_.insert(hash_of_sender(from.guard, request), at);
  } else if (senders_[at].function != from.function) {
    return kNil;
  }
  ++senders_[at].users;
  return at;
}

void Ledger::leave_sender(std::uint32_t at) {
  Sender& sender = senders_[at];
  if (--sender.users > 0) return;
  by_sender_.erase(hash_of_sender(sender.guard, sender.request), at);
  senders_.give_back(at);
}

std::uint32_t Ledger::begin(const Source& from, const ExecutionId& id, const RequestId& request, Time now) {
  if (!make_room()) return kNil;
  const std::uint32_t sender = sender_for(from, request);
  if (sender == kNil) return kNil;
  const std::uint32_t at = executions_.take();
  Execution& execution = executions_[at];
  execution.id = id;
  execution.sender = sender;
  execution.since = now;
  by_id_.insert(hash_of(id, seed_), at);
  open_.push_back(executions_, at);
  return at;
}

// Where there is no room, what can lead to nothing any more goes first, then what ended first: what it would have led
// to is refused then. Executions that are open stay.
bool Ledger::make_room() {
  if (!has_room()) return false;
  if (executions_.used() >= bounds_.executions_max) forget_execution(quiet_.empty() ? ended_.head : quiet_.head);
  return true;
}

Ledger::Queue* Ledger::queue_of(Execution::State state) {
  switch (state) {
    case Execution::State::open:
      return &open_;
    case Execution::State::ended:
      return &ended_;
    case Execution::State::quiet:
      return &quiet_;
    case Execution::State::lingering:
      break;
  }
  return nullptr;
}

void Ledger::unqueue(std::uint32_t at) {
  if (Queue* const queue = queue_of(executions_[at].state)) queue->remove(executions_, at);
}

void Ledger::end(std::uint32_t at, Time now) {
  Execution& execution = executions_[at];
  if (execution.state != Execution::State::open) return;
  unqueue(at);
  execution.state = Execution::State::ended;
  execution.since = now;
  ended_.push_back(executions_, at);
  settle(at);
}

// After a change of what its flows may lead to.
void Ledger::settle(std::uint32_t at) {
  Execution& execution = executions_[at];
  if (execution.live > 0 || execution.open_flows > 0) return;
  if (execution.state == Execution::State::lingering) return forget_execution(at);
  if (execution.state != Execution::State::ended) return;
  unqueue(at);
  execution.state = Execution::State::quiet;
  quiet_.push_back(executions_, at);
}

void Ledger::forget_execution(std::uint32_t at) {
  while (!executions_[at].flows.empty()) free_flow(executions_[at].flows.head);
  unqueue(at);
  by_id_.erase(hash_of(executions_[at].id, seed_), at);
  leave_sender(executions_[at].sender);
  executions_.give_back(at);
}

std::uint32_t Ledger::add_flow(std::uint32_t of, const RequestId& request, std::uint64_t id, std::uint32_t edge,
                               bool open, Time now) {
  if (flows_.used() >= bounds_.flows_max) return kNil;
  Execution& execution = executions_[of];
  const Sender& own = senders_[execution.sender];
  std::uint32_t sender = execution.sender;
  if (own.request == request) {
    ++senders_[sender].users;
  } else {
    // It is not known which execution has sent it, and its tag claims none.
    sender = sender_for({own.guard, own.function}, request);
    if (sender == kNil) return kNil;
  }
  const std::uint32_t at = flows_.take();
  Flow& flow = flows_[at];
  flow.id = id;
  flow.since = now;
  flow.execution = of;
  flow.sender = sender;
  flow.edge = edge;
  flow.open = open;
  flow.succeeded = !open;
  execution.flows.push_back(flows_, at);
  ++execution.live;
  if (execution.state == Execution::State::quiet) {
    unqueue(of);
    execution.state = Execution::State::ended;
    ended_.push_back(executions_, of);
  }
  if (open) ++execution.open_flows;
  edges_[edge].fresh.push_back(flows_, at);
  edges_[edge].last = now;
  if (graph_->edges()[edge].direct()) {
    senders_[sender].fresh.push_back(flows_, at);
    senders_[sender].edges |= bit_of(edge);
  }
  return at;
}

bool Ledger::close_flows(std::uint32_t of, std::uint64_t id, bool succeeded, Time now) {
  bool found = false;
  // From the newest, which ends next most often.
  for (std::uint32_t at = executions_[of].open_flows > 0 ? executions_[of].flows.tail : kNil; at != kNil;) {
    Flow& flow = flows_[at];
    const std::uint32_t before = flow.of_execution.prev;
    if (flow.open && flow.id == id) {
      found = true;
      flow.open = false;
      flow.succeeded = succeeded;
      --executions_[of].open_flows;
      // One that failed after it had led to something may have been acted on, whatever the answer was.
      if (!succeeded && flow.used > 0) excuse(flow, now);
      if (!succeeded && flow.used == 0) make_idle(at);
      free_if_done(at);
    } else if (found) {
      break;  // those of one exchange stand side by side
    }
    at = before;
  }
  if (found) settle(of);
  return found;
}

std::uint32_t Ledger::find_flow(std::uint32_t of, std::uint64_t id, std::uint32_t function, bool direct) const {
  for (std::uint32_t at = executions_[of].flows.tail; at != kNil; at = flows_[at].of_execution.prev) {
    const flow::ApplicationEdge& edge = edge_of(flows_[at]);
    if (flows_[at].id == id && edge.to == function && edge.direct() == direct) return at;
  }
  return kNil;
}

bool Ledger::is_fresh(const Flow& flow, Time now) const {
  return flow.state == Flow::State::fresh && flow.since + edge_of(flow).within > now;
}

bool Ledger::may_repeat(const Flow& flow, Time now) const {
  return flow.state == Flow::State::spent && flow.since + edge_of(flow).redelivery_window > now;
}

// An entrant may have waited since it came.
bool Ledger::may_have_repeated(const Flow& flow, Time now) const {
  return may_repeat(flow, now - limits::kReportGrace);
}

std::uint32_t Ledger::find_direct(std::uint32_t of, std::uint32_t edge, Time now) const {
  for (std::uint32_t at = senders_[of].fresh.head; at != kNil; at = flows_[at].of_sender.next) {
    if (flows_[at].edge == edge && is_fresh(flows_[at], now)) return at;
  }
  return kNil;
}

bool Ledger::may_repeat_direct(std::uint32_t of, std::uint32_t edge, Time now) const {
  // From the one that was spent last, which may be repeated for longest.
  for (std::uint32_t at = senders_[of].spent.tail; at != kNil; at = flows_[at].of_sender.prev) {
    if (flows_[at].edge == edge) return may_repeat(flows_[at], now);
  }
  return false;
}

std::uint32_t Ledger::find_repeat_direct(std::uint32_t of, std::uint32_t edge, Time now) const {
  for (std::uint32_t at = senders_[of].spent.head; at != kNil; at = flows_[at].of_sender.next) {
    if (flows_[at].edge == edge && may_have_repeated(flows_[at], now)) return at;
  }
  return kNil;
}

std::uint32_t Ledger::oldest_to(std::uint32_t function, FlowQueue EdgeQueues::* queue, Time now) {
  std::uint32_t oldest = kNil;
  for (const std::uint32_t edge : graph_->edges_through_services(function)) {
    expire_flows(edge, now);
    const std::uint32_t head = (edges_[edge].*queue).head;
    if (head != kNil && (oldest == kNil || flows_[head].since < flows_[oldest].since)) oldest = head;
  }
  return oldest;
}

std::uint32_t Ledger::find_through(std::uint32_t function, Time now) {
  return oldest_to(function, &EdgeQueues::fresh, now);
}

bool Ledger::may_repeat_through(std::uint32_t function, Time now) const {
  return std::ranges::any_of(graph_->edges_through_services(function), [&](std::uint32_t edge) {
    const std::uint32_t last = edges_[edge].spent.tail;
    return last != kNil && may_repeat(flows_[last], now);
  });
}

std::uint32_t Ledger::find_repeat_through(std::uint32_t function, Time now) {
  return oldest_to(function, &EdgeQueues::spent, now);
}

void Ledger::use(std::uint32_t at, Time now) {
  Flow& flow = flows_[at];
  const flow::ApplicationEdge& edge = edge_of(flow);
  const std::uint32_t execution = flow.execution;
  ++flow.used;
  if (flow.used >= edge.leads_to.most + edge.redeliveries) {
    make_idle(at);
    free_if_done(at);
    settle(execution);
  } else if (flow.used == edge.leads_to.most) {
    make_spent(at, now);
  }
}

bool Ledger::had_flow(std::uint32_t function, Time now) const {
  return std::ranges::any_of(graph_->edges_through_services(function), [&](std::uint32_t edge) {
    return edges_[edge].last && *edges_[edge].last + graph_->edges()[edge].within > now;
  });
}

void Ledger::leave_lists(Flow& flow, std::uint32_t at) {
  if (flow.state == Flow::State::idle) return;
  const bool fresh = flow.state == Flow::State::fresh;
  EdgeQueues& queues = edges_[flow.edge];
  (fresh ? queues.fresh : queues.spent).remove(flows_, at);
  if (!edge_of(flow).direct()) return;
  Sender& sender = senders_[flow.sender];
  (fresh ? sender.fresh : sender.spent).remove(flows_, at);
}

void Ledger::make_spent(std::uint32_t at, Time now) {
  Flow& flow = flows_[at];
  leave_lists(flow, at);
  flow.state = Flow::State::spent;
  flow.since = now;
  edges_[flow.edge].spent.push_back(flows_, at);
  if (edge_of(flow).direct()) senders_[flow.sender].spent.push_back(flows_, at);
}

void Ledger::make_idle(std::uint32_t at) {
  Flow& flow = flows_[at];
  if (flow.state == Flow::State::idle) return;
  leave_lists(flow, at);
  flow.state = Flow::State::idle;
  --executions_[flow.execution].live;
}

void Ledger::free_if_done(std::uint32_t at) {
  if (flows_[at].state == Flow::State::idle && !flows_[at].open) free_flow(at);
}

void Ledger::free_flow(std::uint32_t at) {
  make_idle(at);
  Flow& flow = flows_[at];
  Execution& execution = executions_[flow.execution];
  if (flow.open) --execution.open_flows;
  execution.flows.remove(flows_, at);
  leave_sender(flow.sender);
  flows_.give_back(at);
}

// A message without a tag may be of any edge through a service.
Ledger::EdgeQueues& Ledger::excuses_of(const Flow& flow) {
  const flow::ApplicationEdge& edge = edge_of(flow);
  return edges_[edge.direct() ? flow.edge : graph_->edges_through_services(edge.to).front()];
}

// If what it has led to was in truth another flow's, that one is told of within limits::kReportGrace.
void Ledger::excuse(const Flow& flow, Time now) {
  EdgeQueues& queues = excuses_of(flow);
  if (queues.excused_until + edge_of(flow).within < now) queues.excused = 0;
  queues.excused += flow.used;
  queues.excused_until = now + limits::kReportGrace;
}

// How many of `count` that `flow` is missing it is not.
std::uint32_t Ledger::take_excused(const Flow& flow, std::uint32_t count) {
  EdgeQueues& queues = excuses_of(flow);
  if (queues.excused_until < flow.since) return 0;
  const std::uint32_t taken = std::min(count, queues.excused);
  queues.excused -= taken;
  return taken;
}

// A function that messages from outside begin, too, may have begun with one of those instead.
void Ledger::note_missing(const Flow& flow) {
  const flow::ApplicationEdge& edge = edge_of(flow);
  if (!flow.succeeded || flow.used >= edge.leads_to.least || graph_->is_entry(edge.to)) return;
  const std::uint32_t lacking = edge.leads_to.least - flow.used;
  if (take_excused(flow, lacking) == lacking) return;
  const Sender& sender = senders_[flow.sender];
  missing_.push_back(
      {{sender.guard, sender.function}, executions_[flow.execution].id, sender.request, flow.edge, flow.used});
}

void Ledger::expire_flows(std::uint32_t edge, Time now) {
  const auto expire = [&](std::uint32_t at) {
    const std::uint32_t execution = flows_[at].execution;
    make_idle(at);
    free_if_done(at);
    settle(execution);
  };
  EdgeQueues& queues = edges_[edge];
  while (!queues.fresh.empty() && !is_fresh(flows_[queues.fresh.head], now)) {
    note_missing(flows_[queues.fresh.head]);
    expire(queues.fresh.head);
  }
  while (!queues.spent.empty() && !may_have_repeated(flows_[queues.spent.head], now)) expire(queues.spent.head);
}

// Their ends are not waited for any longer.
void Ledger::drop_open_flows(std::uint32_t of) {
  for (std::uint32_t at = executions_[of].flows.head; at != kNil;) {
    Flow& flow = flows_[at];
    const std::uint32_t next = flow.of_execution.next;
    if (std::exchange(flow.open, false)) {
      --executions_[of].open_flows;
      free_if_done(at);
    }
    at = next;
  }
}

void Ledger::advance(Time now) {
  for (std::uint32_t edge = 0; edge < edges_.size(); ++edge) expire_flows(edge, now);
  while (!open_.empty() && executions_[open_.head].since + kOpenFor <= now) end(open_.head, now);
  while (!quiet_.empty() && executions_[quiet_.head].since + kKnownFor <= now) forget_execution(quiet_.head);
  while (!ended_.empty() && executions_[ended_.head].since + kKnownFor <= now) {
    const std::uint32_t at = ended_.head;
    unqueue(at);
    // What it has sent may lead to something for longer.
    executions_[at].state = Execution::State::lingering;
    drop_open_flows(at);
    settle(at);
  }
}

}  // namespace sallyport::controller
