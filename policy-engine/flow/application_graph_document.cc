#include "policy-engine/flow/application_graph_document.h"

#include <utility>

#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/message_reader.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/yaml_tree.h"
#include "policy-engine/flow/application_graph_check.h"

namespace sallyport::flow {

namespace {

void finish(ApplicationGraphLoad& load, const document::Places& places, document::Diagnostics& diagnostics,
            bool written) {
  ApplicationGraphChecker(load.document, places, diagnostics, written).check();
  if (!diagnostics.has_errors()) load.graph = std::make_shared<const ApplicationGraph>(load.document);
  load.diagnostics = diagnostics.take();
}

}  // namespace

ApplicationGraphLoad load_application_graph(std::string_view yaml, const std::string& file) {
  document::Diagnostics diagnostics(file);
  ApplicationGraphLoad load;
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

ApplicationGraphLoad load_application_graph(v1alpha1::ApplicationGraph document, const std::string& name) {
  document::Diagnostics diagnostics(name);
  ApplicationGraphLoad load;
  load.document = std::move(document);
  finish(load, {}, diagnostics, false);
  return load;
}

}  // namespace sallyport::flow
