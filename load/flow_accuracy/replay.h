#pragma once
// Graphs from some rounds of an application, and what they would refuse of others.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "load/flow_accuracy/models.h"
#include "policy-engine/flow/graph.h"
#include "policy-engine/flow/learn.h"

namespace sallyport::flow_accuracy {

using Graphs = std::map<std::string, std::shared_ptr<const flow::Graph>>;  // by function

// Ends the program where a graph cannot be learned: there is nothing to measure then.
Graphs learn(const std::vector<Round>& rounds, const std::vector<std::size_t>& which,
             const flow::LearnOptions& options = {});

// "": the graph lets the execution through to its end. Requests come at their times, and their answers at theirs.
std::string refusal_of(const std::shared_ptr<const flow::Graph>& graph, const flow::v1alpha1::Trace& trace);

// Why a round fails. A function that was not seen has no graph, and so no request of it passes.
std::string failure_of(const Graphs& graphs, const Round& round);

}  // namespace sallyport::flow_accuracy
