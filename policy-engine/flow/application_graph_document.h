#pragma once
// YAML ↔ ApplicationGraph: read with every mistake at its place, checked, compiled; and written so that a person can
// review it.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/api/application_graph.pb.h"
#include "policy-engine/document/load.h"
#include "policy-engine/flow/application_graph.h"

namespace sallyport::flow {

inline constexpr std::string_view kApplicationGraphKind = "ApplicationGraph";

struct ApplicationGraphLoad {
  std::shared_ptr<const ApplicationGraph> graph;  // null if there was any error
  v1alpha1::ApplicationGraph document;            // as far as it could be read
  std::vector<document::Diagnostic> diagnostics;
};

// `file` names the document in diagnostics. Errors: what message_reader.h refuses, names that are none or are given
// twice, patterns that are none, predecessors that do not exist, an edge that is there twice, two patterns of one
// predecessor for one function that share requests, functions that nothing can begin, numbers and times out of bounds.
// Warnings: patterns of hosts that anybody may have, a redelivery window without redeliveries.
ApplicationGraphLoad load_application_graph(std::string_view yaml, const std::string& file);

// The same for a graph that was learned or received.
ApplicationGraphLoad load_application_graph(v1alpha1::ApplicationGraph document, const std::string& name);

// YAML in the order of the schema: functions that may be entered first, then the others behind those that lead to them,
// by name where several could come next, so that two graphs that are alike are written alike.
std::string write_application_graph(const v1alpha1::ApplicationGraph& document);

}  // namespace sallyport::flow
