#pragma once
// Flow graphs and application graphs for people: as an outline, as a drawing for Graphviz, and what is different
// between two flow graphs.

#include <string>
#include <vector>

#include "base/error.h"
#include "policy-engine/api/application_graph.pb.h"
#include "policy-engine/api/flow.pb.h"

namespace sallyport::cli {

// `colour`: with the escapes of a terminal.
std::string outline_of(const flow::v1alpha1::FlowGraph& graph, bool colour);
std::string outline_of(const flow::v1alpha1::ApplicationGraph& graph, bool colour);

// In Graphviz's language.
std::string drawing_of(const flow::v1alpha1::FlowGraph& graph);
std::string drawing_of(const flow::v1alpha1::ApplicationGraph& graph);

// What dot(1) makes of it. ErrorKind::unavailable: the program is not here; timeout, invalid: what it did instead.
Result<std::string> svg_of(const std::string& drawing);

struct GraphDifference {
  enum class Change : std::uint8_t { added, removed, changed };
  Change change = Change::changed;
  std::string what;  // "node", "edge", "graph"
  std::string name;  // "load", "load → store", "imageDigest"
  std::string text;  // of a node: what it is; of a change: "times: 1..3 → 1..5"
};

// Nothing that is for people alone (support, executions) is a difference, nor is an order that means nothing.
std::vector<GraphDifference> differences(const flow::v1alpha1::FlowGraph& from, const flow::v1alpha1::FlowGraph& to);

}  // namespace sallyport::cli
