#pragma once
// YAML ↔ FlowGraph: read with every mistake at its place, checked, compiled; and written so that a person can review
// it.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy-engine/api/flow.pb.h"
#include "policy-engine/document/load.h"
#include "policy-engine/flow/graph.h"

namespace sallyport::flow {

struct GraphLoad {
  std::shared_ptr<const Graph> graph;  // null if there was any error
  v1alpha1::FlowGraph document;        // as far as it could be read
  std::vector<document::Diagnostic> diagnostics;
};

// `file` names the document in diagnostics. Errors: what message_reader.h refuses, patterns that are none, edges to
// nodes that do not exist, cycles (each named as "a → b → a"), counters that no execution can reach ("5..2", a total
// below the sum of the lower counters), nodes that nothing leads to, nodes from which the exit is not reached, loops
// without an end, more than limits::kFlowNodesMax nodes. Warnings: patterns of which one hides the other, a document
// that allows every request.
GraphLoad load_graph(std::string_view yaml, const std::string& file);

// The same for a graph that was learned or received.
GraphLoad load_graph(v1alpha1::FlowGraph document, const std::string& name);

// YAML in the order of the schema, nodes in a topological order that does not depend on theirs, so that two graphs that
// are alike are written alike.
std::string write_graph(const v1alpha1::FlowGraph& document);

// The same over a document that a person has reviewed: its comments and empty lines stay, above or behind the line of
// the field that they belonged to (a comment above a line belongs to it), and its nodes keep their order; new nodes
// stand behind those that lead to them. Comments of a node that is gone are gone with it. ErrorKind::invalid:
// `reviewed_yaml` is no YAML.
Result<std::string> write_graph_over(std::string_view reviewed_yaml, const v1alpha1::FlowGraph& updated);

}  // namespace sallyport::flow
