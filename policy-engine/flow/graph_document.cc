#include "policy-engine/flow/graph_document.h"

#include <utility>

#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/message_check.h"
#include "policy-engine/document/message_reader.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/yaml_tree.h"
#include "policy-engine/flow/graph_check.h"
#include "policy-engine/flow/graph_compiler.h"

namespace sallyport::flow {

namespace {

void finish(GraphLoad& load, const document::Places& places, document::Diagnostics& diagnostics, bool written) {
  GraphChecker(load.document, places, diagnostics, written).check();
  if (!diagnostics.has_errors()) {
    std::vector<int> lines;
    for (const v1alpha1::Node& node : load.document.spec().nodes()) lines.push_back(places.of(node).line);
    load.graph = GraphCompiler(load.document).compile(lines);
  }
  load.diagnostics = diagnostics.take();
}

}  // namespace

GraphLoad load_graph(std::string_view yaml, const std::string& file) {
  document::Diagnostics diagnostics(file);
  GraphLoad load;
  const auto tree = document::parse_yaml(yaml, diagnostics);
  if (!tree) {
    load.diagnostics = diagnostics.take();
    return load;
  }
  // The places know the messages by their addresses: the document is not moved before all is said.
  document::Places places;
  document::read_message(*tree, load.document, places, diagnostics);
  finish(load, places, diagnostics, true);
  return load;
}

GraphLoad load_graph(v1alpha1::FlowGraph document, const std::string& name) {
  document::Diagnostics diagnostics(name);
  GraphLoad load;
  load.document = std::move(document);
  document::refuse_unknown(load.document, diagnostics);
  finish(load, {}, diagnostics, false);
  return load;
}

}  // namespace sallyport::flow
