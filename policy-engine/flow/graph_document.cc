#include "policy-engine/flow/graph_document.h"

#include <utility>

#include "policy-engine/flow/document_load.h"
#include "policy-engine/flow/graph_check.h"
#include "policy-engine/flow/graph_compiler.h"

namespace sallyport::flow {

namespace {

void finish(GraphLoad& load, const document::Places& places, document::Diagnostics& diagnostics, bool written) {
  GraphChecker(load.document, places, diagnostics, written).check();
  if (diagnostics.has_errors()) return;
  std::vector<int> lines;
  for (const v1alpha1::Node& node : load.document.spec().nodes()) lines.push_back(places.of(node).line);
  load.graph = GraphCompiler(load.document).compile(lines);
}

}  // namespace

GraphLoad load_graph(std::string_view yaml, const std::string& file) {
  return load_written<GraphLoad>(yaml, file, finish);
}

GraphLoad load_graph(v1alpha1::FlowGraph document, const std::string& name) {
  return load_message<GraphLoad>(std::move(document), name, finish);
}

}  // namespace sallyport::flow
