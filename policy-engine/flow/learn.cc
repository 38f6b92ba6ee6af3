#include "policy-engine/flow/learn.h"

#include <utility>

#include "policy-engine/flow/graph_document.h"
#include "policy-engine/flow/learning/acceptance.h"
#include "policy-engine/flow/learning/document.h"
#include "policy-engine/flow/learning/executions.h"
#include "policy-engine/flow/learning/inference.h"
#include "policy-engine/flow/learning/merging.h"
#include "policy-engine/flow/learning/sequences.h"
#include "policy-engine/flow/learning/url_grouping.h"

namespace sallyport::flow {

struct Learner::State {
  LearnOptions options;
  learning::Executions executions;
};

Learner::Learner(LearnOptions options) : state_(std::make_unique<State>()) { state_->options = std::move(options); }
Learner::~Learner() = default;
Learner::Learner(Learner&&) noexcept = default;

Result<void> Learner::add(v1alpha1::Trace&& trace) {
  return state_->executions.add(std::move(trace), state_->options.function);
}

namespace {

std::unexpected<Error> nothing_usable(const learning::Executions& executions, const std::string& function) {
  const std::string of = function.empty() ? "" : " of '" + function + "'";
  const std::uint64_t left = executions.left_out();
  return fail(ErrorSource::policy, ErrorKind::invalid,
              left == 0 ? "no execution" + of + " to learn from"
                        : "no execution" + of + " to learn from: " + std::to_string(left) +
                              " had no end, or were mixed with others; run the function with one request at a time");
}

// Closed: a graph that guards would refuse, or that would refuse what it was learned from, is not handed out.
Result<void> check(const v1alpha1::FlowGraph& graph, const learning::Executions& executions,
                   const learning::Grouping& grouping) {
  const GraphLoad load = load_graph(graph, "the graph");
  if (load.graph == nullptr) {
    return fail(ErrorSource::internal, ErrorKind::invalid,
                "what was learned is no graph: " +
                    (load.diagnostics.empty() ? "no diagnostic" : load.diagnostics.front().to_string()));
  }
  return learning::check_accepted(load.graph, executions, grouping);
}

}  // namespace

Result<Learned> Learner::finish() {
  const learning::Executions& executions = state_->executions;
  if (executions.size() == 0) return nothing_usable(executions, state_->options.function);
  const auto grouping = learning::group_urls(executions, state_->options.lcp_threshold);
  if (!grouping) return std::unexpected(grouping.error());
  const auto sequences = learning::find_sequences(executions, *grouping);
  if (!sequences) return std::unexpected(sequences.error());
  const auto graph = learning::infer(*sequences);
  if (!graph) return std::unexpected(graph.error());
  Learned out = learning::DocumentWriter(executions, *grouping, *sequences, state_->options).write(*graph);
  if (auto good = check(out.graph, executions, *grouping); !good) return std::unexpected(good.error());
  return out;
}

Result<Learned> learn(std::vector<v1alpha1::Trace> traces, const LearnOptions& options) {
  Learner learner(options);
  for (v1alpha1::Trace& trace : traces) {
    if (auto added = learner.add(std::move(trace)); !added) return std::unexpected(added.error());
  }
  return learner.finish();
}

Result<Learned> merge(const v1alpha1::FlowGraph& reviewed, std::vector<v1alpha1::Trace> traces,
                      const LearnOptions& options) {
  const std::string& of = reviewed.spec().has_function() ? reviewed.spec().function() : reviewed.metadata().name();
  const std::string& function = options.function.empty() ? of : options.function;
  learning::Executions executions;
  for (v1alpha1::Trace& trace : traces) {
    if (auto added = executions.add(std::move(trace), function); !added) return std::unexpected(added.error());
  }
  if (executions.size() == 0) return nothing_usable(executions, function);
  if (reviewed.spec().has_image_digest() && executions.image_digest() != reviewed.spec().image_digest()) {
    return fail(ErrorSource::policy, ErrorKind::invalid,
                "the graph is of the image '" + reviewed.spec().image_digest() + "', and the traces of '" +
                    executions.image_digest() + "': change imageDigest of the graph first, if it is to be of both");
  }
  const auto patterns = learning::patterns_of(reviewed);
  if (!patterns) return std::unexpected(patterns.error());
  const auto grouping = learning::group_urls(executions, options.lcp_threshold, *patterns);
  if (!grouping) return std::unexpected(grouping.error());
  auto out = learning::Merging(reviewed, executions, *grouping, options).merge();
  if (!out) return out;
  if (auto good = check(out->graph, executions, *grouping); !good) return std::unexpected(good.error());
  return out;
}

}  // namespace sallyport::flow
