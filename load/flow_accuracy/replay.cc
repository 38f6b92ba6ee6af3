#include "load/flow_accuracy/replay.h"

#include <cstdlib>
#include <iostream>

#include "policy-engine/flow/graph_compiler.h"
#include "policy-engine/flow/replay.h"

namespace sallyport::flow_accuracy {

namespace {

[[noreturn]] void give_up(const std::string& function, const Error& error) {
  std::cerr << function << ": " << error.text << "\n";
  std::exit(1);
}

}  // namespace

Graphs learn(const std::vector<Round>& rounds, const std::vector<std::size_t>& which,
             const flow::LearnOptions& options) {
  std::map<std::string, std::unique_ptr<flow::Learner>> learners;
  for (const std::size_t i : which) {
    for (const Execution& execution : rounds[i]) {
      auto& learner = learners[execution.trace.function()];
      if (learner == nullptr) learner = std::make_unique<flow::Learner>(options);
      flow::v1alpha1::Trace trace =
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

std::string refusal_of(const std::shared_ptr<const flow::Graph>& graph, const flow::v1alpha1::Trace& trace) {
  using Outcome = flow::Replay::Outcome;
  const flow::Replay replay = flow::replay(graph, trace);
  switch (replay.outcome) {
    case Outcome::allowed:
      return "";
    case Outcome::refused:
      return replay.request + ", expected " + replay.expected;
    case Outcome::incomplete:
      return "the end, expected " + replay.expected;
    case Outcome::left_out:
      break;
  }
  return "left out: " + replay.why;  // a mistake of who made the trace, and no benign execution
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
