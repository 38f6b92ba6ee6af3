#include "policy-engine/flow/replay.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "policy-engine/flow/learning/trace_check.h"

namespace sallyport::flow {

namespace {

namespace api = v1alpha1;
using learning::nanoseconds;
using Outcome = Replay::Outcome;

Operation operation_of(const api::Operation& operation) {
  return {operation.method(), operation.host(), operation.path(), operation.query(), operation.action()};
}

std::string place_of(const Execution& execution) {
  std::string out;
  for (const std::string_view node : execution.nodes()) {
    if (!out.empty()) out += ", ";
    out += node;
  }
  return out.empty() ? "the entry" : out;
}

struct Awaited {
  std::int64_t until = 0;
  Ticket ticket;
  Answer answer = Answer::fine;
};

// Why a trace says nothing about a graph; empty where it does.
std::string reason_to_leave_out(const Graph& graph, const api::Trace& trace) {
  if (!trace.function().empty() && trace.function() != graph.function()) {
    return "it is of function " + trace.function();
  }
  if (!trace.attributed()) return "its requests may belong to another execution that was open";
  if (static_cast<std::size_t>(trace.flows_size()) >= limits::kTraceFlowsMax)
    return "it has more requests than were kept";
  return {};
}

}  // namespace

Replay replay(const std::shared_ptr<const Graph>& graph, const api::Trace& trace) {
  Replay out;
  out.why = reason_to_leave_out(*graph, trace);
  if (!out.why.empty()) {
    out.outcome = Outcome::left_out;
    return out;
  }
  std::vector<int> order;
  for (int i = 0; i < trace.flows_size(); ++i) {
    if (trace.flows(i).end() != api::FLOW_END_DENIED) order.push_back(i);
  }
  std::ranges::sort(order, {}, [&](int i) { return std::pair(nanoseconds(trace.flows(i).began()), i); });

  Execution execution(graph);
  std::vector<Awaited> awaited;  // the one that ends first is at the back
  for (const int i : order) {
    const api::Flow& flow = trace.flows(i);
    const std::int64_t now = nanoseconds(flow.began());
    for (; !awaited.empty() && awaited.back().until <= now; awaited.pop_back()) {
      execution.answered(awaited.back().ticket, awaited.back().answer);
    }
    Ticket ticket;
    const Operation operation = operation_of(flow.operation());
    const std::string at = place_of(execution);
    if (!execution.request(operation, ticket)) {
      out = {Outcome::refused, i, to_string(operation), execution.expected(), at, ""};
      return out;
    }
    const bool answered = flow.end() != api::FLOW_END_FAILED;
    const Awaited one{std::max(now, nanoseconds(flow.ended())), ticket,
                      answer_of(answered ? static_cast<int>(flow.status()) : 0)};
    const auto behind = std::ranges::upper_bound(awaited, one.until, std::greater<>(), &Awaited::until);
    awaited.insert(behind, one);
  }
  if (trace.end() == api::EXECUTION_END_COMPLETE && !execution.complete()) {
    out = {Outcome::incomplete, trace.flows_size(), "", execution.expected(), place_of(execution), ""};
  }
  return out;
}

}  // namespace sallyport::flow
