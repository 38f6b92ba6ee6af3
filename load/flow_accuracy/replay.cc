#include "load/flow_accuracy/replay.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "policy-engine/flow/graph_compiler.h"

namespace sallyport::flow_accuracy {

namespace {

using flow::v1alpha1::Flow;
using flow::v1alpha1::Trace;

flow::Operation view(const flow::v1alpha1::Operation& operation) {
  return {operation.method(), operation.host(), operation.path(), operation.query(), operation.action()};
}

std::int64_t nanoseconds(const google::protobuf::Duration& at) { return at.seconds() * 1'000'000'000 + at.nanos(); }

[[noreturn]] void give_up(const std::string& function, const Error& error) {
  std::cerr << function << ": " << error.text << "\n";
  std::exit(1);
}

class Replay {
 public:
  Replay(const std::shared_ptr<const flow::Graph>& graph, const Trace& trace)
      : execution_(graph), trace_(trace), tickets_(static_cast<std::size_t>(trace.flows_size())) {}

  std::string run() {
    for (int i = 0; i < trace_.flows_size(); ++i) {
      answer_until(nanoseconds(trace_.flows(i).began()));
      const flow::Operation operation = view(trace_.flows(i).operation());
      if (!execution_.request(operation, tickets_[static_cast<std::size_t>(i)])) {
        return to_string(operation) + ", expected " + execution_.expected();
      }
      open_.emplace_back(nanoseconds(trace_.flows(i).ended()), i);
    }
    answer_until(INT64_MAX);
    return execution_.complete() ? "" : "the end, expected " + execution_.expected();
  }

 private:
  void answer_until(std::int64_t now) {
    std::ranges::sort(open_);
    while (!open_.empty() && open_.front().first <= now) {
      const int i = open_.front().second;
      const auto status = static_cast<int>(trace_.flows(i).status());
      execution_.answered(tickets_[static_cast<std::size_t>(i)], flow::answer_of(status));
      open_.erase(open_.begin());
    }
  }

  flow::Execution execution_;
  const Trace& trace_;
  std::vector<flow::Ticket> tickets_;
  std::vector<std::pair<std::int64_t, int>> open_;  // when each ends that is under way
};

}  // namespace

Graphs learn(const std::vector<Round>& rounds, const std::vector<std::size_t>& which,
             const flow::LearnOptions& options) {
  std::map<std::string, std::unique_ptr<flow::Learner>> learners;
  for (const std::size_t i : which) {
    for (const Execution& execution : rounds[i]) {
      auto& learner = learners[execution.trace.function()];
      if (learner == nullptr) learner = std::make_unique<flow::Learner>(options);
      Trace trace =
          execution.trace;  // the learner keeps what it likes of it, and other graphs are learned from it, too
      if (auto added = learner->add(std::move(trace)); !added) give_up(execution.trace.function(), added.error());
    }
  }
  Graphs out;
  for (auto& [function, learner] : learners) {
    const auto learned = learner->finish();
    if (!learned) give_up(function, learned.error());
    out[function] = flow::GraphCompiler(learned->graph).compile({});
  }
  return out;
}

std::string refusal_of(const std::shared_ptr<const flow::Graph>& graph, const Trace& trace) {
  return Replay(graph, trace).run();
}

std::string failure_of(const Graphs& graphs, const Round& round) {
  for (const Execution& execution : round) {
    const auto graph = graphs.find(execution.trace.function());
    if (graph == graphs.end()) return execution.trace.function() + ": not seen";
    const std::string refusal = refusal_of(graph->second, execution.trace);
    if (!refusal.empty()) return execution.trace.function() + ": " + refusal;
  }
  return "";
}

}  // namespace sallyport::flow_accuracy
