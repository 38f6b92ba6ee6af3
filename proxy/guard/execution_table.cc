#include "proxy/guard/execution_table.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "base/hex.h"
#include "base/limits.h"
#include "base/random.h"

namespace sallyport::guard {
namespace {

namespace api = sallyport::flow::v1alpha1;

// What a flow takes in memory besides its texts, about.
constexpr std::size_t kFlowBytes = 256;

bool is_hex(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

void set(google::protobuf::Duration& out, net::Clock::duration duration) {
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(duration);
  out.set_seconds(whole.count());
  out.set_nanos(
      static_cast<std::int32_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(duration - whole).count()));
}

void set(google::protobuf::Timestamp& out, std::chrono::system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  out.set_seconds(whole.time_since_epoch().count());
  out.set_nanos(static_cast<std::int32_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time - whole).count()));
}

void set(api::Operation& out, const flow::Operation& operation) {
  out.set_method(std::string(operation.method));
  out.set_host(std::string(operation.host));
  out.set_path(std::string(operation.path));
  out.set_query(std::string(operation.query));
  out.set_action(std::string(operation.action));
}

std::size_t size_of(const flow::Operation& operation) {
  return kFlowBytes + operation.method.size() + operation.host.size() + operation.path.size() + operation.query.size() +
         operation.action.size();
}

std::size_t size_of(const api::Operation& operation) {
  return kFlowBytes + operation.method().size() + operation.host().size() + operation.path().size() +
         operation.query().size() + operation.action().size();
}

// By the time of their heads: a request that was held for its body is noted after those that began meanwhile.
void sort_flows(google::protobuf::RepeatedPtrField<api::Flow>& flows) {
  std::vector<int> order(static_cast<std::size_t>(flows.size()));
  std::iota(order.begin(), order.end(), 0);
  const auto key = [&](int i) { return std::tuple(flows[i].began().seconds(), flows[i].began().nanos(), i); };
  if (std::ranges::is_sorted(order, {}, key)) return;
  std::ranges::sort(order, {}, key);
  google::protobuf::RepeatedPtrField<api::Flow> sorted;
  sorted.Reserve(flows.size());
  for (const int i : order) *sorted.Add() = std::move(flows[i]);
  flows.Swap(&sorted);
}

}  // namespace

struct ExecutionTable::Execution {
  ExecutionId id{};
  Moment began;
  net::Deadline ended;
  api::ExecutionEnd end = api::EXECUTION_END_UNSPECIFIED;
  std::optional<api::Operation> inbound;
  std::optional<std::string> trace_id;
  ExecutionId application_request{};
  std::string name;
  std::shared_ptr<api::Trace> trace;
  std::size_t bytes = 0;
  std::uint64_t flows = 0, left_out = 0;
  // That it is open, and each of its flows that is under way: with the last of them it is told.
  std::atomic<std::uint64_t> holders = 1;
  flow::OpenExecutions::Id number = 0;  // in standing_; 0: it began without a graph
  bool process = false;
  bool start = false;
  bool attributed = true;
  std::string incomplete;

  bool idle_start() const { return start && flows == 0; }
};

std::string_view to_string(Attribution attribution) {
  switch (attribution) {
    case Attribution::none:
      return "";
    case Attribution::only:
      return "only";
    case Attribution::trace_context:
      return "trace-context";
    case Attribution::set:
      return "set";
  }
  return "";
}

// W3C Trace Context, section 3.2: VERSION "-" TRACE-ID "-" PARENT-ID "-" FLAGS, and for later versions more behind it.
std::optional<std::string> trace_id_of(const request::HeaderList& headers) {
  if (headers.count("traceparent") != 1) return std::nullopt;
  const std::string_view text = headers.find("traceparent")->value;
  constexpr std::size_t kBytes = 55, kTraceAt = 3, kParentAt = 36, kFlagsAt = 53;
  if (text.size() < kBytes || text[kTraceAt - 1] != '-' || text[kParentAt - 1] != '-' || text[kFlagsAt - 1] != '-') {
    return std::nullopt;
  }
  const std::string_view version = text.substr(0, 2), trace = text.substr(kTraceAt, 32),
                         parent = text.substr(kParentAt, 16);
  const bool hex = is_hex(version) && is_hex(trace) && is_hex(parent) && is_hex(text.substr(kFlagsAt, 2));
  const bool zeros =
      trace.find_first_not_of('0') == std::string_view::npos || parent.find_first_not_of('0') == std::string_view::npos;
  const bool length = text.size() == kBytes || (version != "00" && text[kBytes] == '-');
  if (!hex || zeros || !length || version == "ff") return std::nullopt;
  return std::string(trace);
}

void ExecutionTable::set_graph(std::shared_ptr<const flow::Graph> graph) {
  const std::lock_guard lock(mutex_);
  graph_ = std::move(graph);
  if (graph_) tracking_ = true;
}

std::optional<ExecutionId> ExecutionTable::begin(Begin begin, Moment now) {
  auto made = std::make_shared<Execution>();
  if (begin.id) {
    made->id = *begin.id;
  } else if (!random_bytes(made->id)) {
    return std::nullopt;
  }
  made->began = now;
  made->process = begin.process;
  made->start = begin.start;
  made->inbound = std::move(begin.inbound);
  made->trace_id = std::move(begin.trace_id);
  made->application_request = begin.application_request.value_or(made->id);
  made->name = std::move(begin.name);
  if (!made->name.empty()) end_named(made->name, api::EXECUTION_END_CUT, now.steady);
  if (traces_) made->trace = std::make_shared<api::Trace>();
  List over;
  bool room = false;
  {
    const std::lock_guard lock(mutex_);
    expire(now.steady, over);
    if (!open_.empty() && open_.front()->start) close(open_.begin(), api::EXECUTION_END_COMPLETE, now.steady, over);
    room = open_.size() < limits::kExecutionsOpenMax;
    if (room) {
      open_.push_back(made);
      if (graph_) {
        made->number = ++last_number_;
        standing_.begin(graph_);
      } else {
        ++without_graph_;
      }
    }
  }
  for (const auto& one : over) tell(*one);
  if (!room) return std::nullopt;
  return made->id;
}

// Takes it out of what is open; `over` gets it if nothing of it is under way any more.
void ExecutionTable::close(List::iterator which, api::ExecutionEnd how, net::Deadline now, List& over) {
  Execution& execution = **which;
  execution.end = how;
  execution.ended = now;
  if (execution.number == 0) {
    --without_graph_;
  } else if (how == api::EXECUTION_END_COMPLETE && !execution.idle_start()) {
    execution.incomplete = standing_.end(execution.number);
  } else {
    standing_.forget(execution.number);
  }
  if (--execution.holders > 0) {
    open_.erase(which);
  } else {
    over.splice(over.end(), open_, which);
  }
}

template <class Match>
void ExecutionTable::end_first(Match&& match, api::ExecutionEnd how, net::Deadline now) {
  List over;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find_if(open_, match);
    if (found == open_.end()) return;
    close(found, how, now, over);
  }
  for (const auto& one : over) tell(*one);
}

void ExecutionTable::end(const ExecutionId& id, api::ExecutionEnd how, net::Deadline now) {
  end_first([&](const auto& one) { return one->id == id; }, how, now);
}

void ExecutionTable::end_named(std::string_view name, api::ExecutionEnd how, net::Deadline now) {
  end_first([&](const auto& one) { return !one->name.empty() && one->name == name; }, how, now);
}

void ExecutionTable::end_all(api::ExecutionEnd how, net::Deadline now) {
  List over;
  {
    const std::lock_guard lock(mutex_);
    expire(now, over);
    while (!open_.empty()) close(open_.begin(), how, now, over);
  }
  for (const auto& one : over) tell(*one);
}

void ExecutionTable::end_overdue(net::Deadline now) {
  List over;
  {
    const std::lock_guard lock(mutex_);
    expire(now, over);
  }
  for (const auto& one : over) tell(*one);
}

void ExecutionTable::expire(net::Deadline now, List& over) {
  for (auto each = open_.begin(); each != open_.end();) {
    const auto which = each++;
    if ((*which)->began.steady + limits::kExecutionTimeout > now) return;  // the rest has begun later
    if (!(*which)->process && !(*which)->start) close(which, api::EXECUTION_END_TIMEOUT, now, over);
  }
}

std::size_t ExecutionTable::open() const {
  const std::lock_guard lock(mutex_);
  return open_.size();
}

std::shared_ptr<ExecutionTable::Execution> ExecutionTable::choose(const request::HeaderList& headers,
                                                                  Attribution& how) {
  if (open_.empty()) return nullptr;
  if (open_.size() == 1) {
    how = Attribution::only;
    return open_.front();
  }
  const std::optional<std::string> trace_id = trace_id_of(headers);
  std::shared_ptr<Execution> found;
  std::size_t matches = 0;
  for (const auto& one : open_) {
    if (!trace_id || one->trace_id != trace_id) continue;
    ++matches;
    found = one;
  }
  if (matches == 1) {
    how = Attribution::trace_context;
    return found;
  }
  // Each of them may lack this one, or have another's.
  for (const auto& one : open_) one->attributed = false;
  how = Attribution::set;
  return open_.front();
}

// Whether its trace may become so much larger.
bool ExecutionTable::take_room(Execution& execution, std::size_t size) {
  if (execution.bytes + size > limits::kTraceBytesMax || bytes_held_ + size > limits::kTraceBytesHeldMax) return false;
  execution.bytes += size;
  bytes_held_ += size;
  return true;
}

// Past the bounds it is only counted, and the trace is cut: what is in it is not all that happened.
void ExecutionTable::note(Execution& execution, const flow::Operation& operation, net::Deadline began, Flow& flow) {
  ++execution.flows;
  if (execution.trace == nullptr) return;
  const bool room = execution.left_out == 0 &&
                    static_cast<std::size_t>(execution.trace->flows_size()) < limits::kTraceFlowsMax &&
                    take_room(execution, size_of(operation));
  if (!room) {
    ++execution.left_out;
    return;
  }
  flow.index_ = execution.trace->flows_size();
  api::Flow& noted = *execution.trace->add_flows();
  set(*noted.mutable_operation(), operation);
  set(*noted.mutable_began(), std::max(began - execution.began.steady, net::Clock::duration::zero()));
}

// Whether the flow graph lets the request come. Open for executions that began without one, and while one of those may
// be the sender: nothing is known of what they have sent. Only who writes the policy can make such, by adding a graph
// while they are open, and they end by their time limit.
void ExecutionTable::follow(const flow::Operation& operation, Flow& flow, Step& step) {
  const bool known = flow.attribution_ == Attribution::only || flow.attribution_ == Attribution::trace_context;
  if (known ? flow.of_->number == 0 : without_graph_ > 0) return;
  const auto sender = known ? std::optional(flow.of_->number) : std::nullopt;
  const flow::OpenExecutions::Id request = ++last_number_;
  const auto allowed = standing_.request(sender, operation, request);
  if (!allowed) {
    step.refusal = standing_.refusal(sender, operation);
    return;
  }
  if (allowed->awaited) flow.request_ = request;
  step.node = std::string(allowed->node);
}

ExecutionTable::Flow ExecutionTable::send(const Request& request, net::Deadline now, Step& step) {
  Flow flow;
  List over;
  {
    const std::lock_guard lock(mutex_);
    expire(now, over);
    flow.of_ = choose(request.headers, flow.attribution_);
    if (request.follow) follow(request.operation, flow, step);
    if (flow.of_ != nullptr) {
      flow.table_ = this;
      flow.id_ = flow.of_->id;
      flow.application_request_ = flow.of_->application_request;
      ++flow.of_->holders;
      note(*flow.of_, request.operation, request.began, flow);
    }
  }
  for (const auto& one : over) tell(*one);
  return flow;
}

void ExecutionTable::Flow::answered(int status) {
  const auto request = std::exchange(request_, 0);
  if (request == 0) return;
  const std::lock_guard lock(table_->mutex_);
  table_->standing_.answered(request, flow::answer_of(status));
}

// The server says where it leads, as long as it likes. Without it the flow is not all that happened: the trace is cut.
void ExecutionTable::redirect(Execution& execution, api::Flow& noted, api::Operation&& to) {
  if (take_room(execution, size_of(to))) {
    *noted.mutable_redirect() = std::move(to);
  } else {
    ++execution.left_out;
  }
}

// Without a trace nothing of it is kept, and there is nothing to lock for.
void ExecutionTable::end_flow(Flow& flow, Outcome&& outcome, net::Deadline now) {
  Execution& execution = *flow.of_;
  if (flow.index_ >= 0) {
    const std::lock_guard lock(mutex_);
    api::Flow& noted = *execution.trace->mutable_flows(flow.index_);
    set(*noted.mutable_ended(), std::max(now - execution.began.steady, net::Clock::duration::zero()));
    noted.set_end(outcome.end);
    noted.set_status(static_cast<std::uint32_t>(outcome.status));
    noted.set_bytes_up(outcome.bytes_up);
    noted.set_bytes_down(outcome.bytes_down);
    if (outcome.redirect) redirect(execution, noted, std::move(*outcome.redirect));
  }
  if (--execution.holders == 0) tell(execution);
}

// Nobody else has the execution any more: it is closed, and nothing of it is under way.
void ExecutionTable::tell(Execution& execution) {
  if (execution.idle_start()) return;
  EndedExecution ended;
  ended.id = execution.id;
  ended.began = execution.began.wall;
  const net::Clock::duration took = std::max(execution.ended - execution.began.steady, net::Clock::duration::zero());
  ended.duration = std::chrono::duration_cast<std::chrono::microseconds>(took);
  ended.end = execution.left_out > 0 ? api::EXECUTION_END_CUT : execution.end;
  ended.flows = execution.flows;
  ended.left_out = execution.left_out;
  ended.attributed = execution.attributed;
  ended.incomplete = std::move(execution.incomplete);
  ended.inbound = execution.inbound;
  ended.application_request = execution.application_request;
  if (execution.trace != nullptr) {
    api::Trace& trace = *execution.trace;
    trace.set_function(options_.function);
    trace.set_execution(to_hex(execution.id));
    set(*trace.mutable_began(), execution.began.wall);
    set(*trace.mutable_duration(), took);
    if (execution.inbound) *trace.mutable_inbound() = *execution.inbound;
    trace.set_end(ended.end);
    trace.set_attributed(execution.attributed);
    sort_flows(*trace.mutable_flows());
    ended.trace = std::move(execution.trace);
    const std::lock_guard lock(mutex_);
    bytes_held_ -= execution.bytes;
  }
  on_end_(std::move(ended));
}

ExecutionTable::Flow::Flow(Flow&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)),
      of_(std::move(other.of_)),
      index_(other.index_),
      attribution_(other.attribution_),
      id_(other.id_),
      application_request_(other.application_request_),
      request_(std::exchange(other.request_, 0)) {}

ExecutionTable::Flow& ExecutionTable::Flow::operator=(Flow&& other) noexcept {
  if (this == &other) return *this;
  if (table_ != nullptr) end({}, net::Clock::now());
  table_ = std::exchange(other.table_, nullptr);
  of_ = std::move(other.of_);
  index_ = other.index_;
  attribution_ = other.attribution_;
  id_ = other.id_;
  application_request_ = other.application_request_;
  request_ = std::exchange(other.request_, 0);
  return *this;
}

void ExecutionTable::Flow::end(Outcome outcome, net::Deadline now) {
  answered(0);
  ExecutionTable* table = std::exchange(table_, nullptr);
  if (table == nullptr) return;
  table->end_flow(*this, std::move(outcome), now);
  of_.reset();
}

}  // namespace sallyport::guard
