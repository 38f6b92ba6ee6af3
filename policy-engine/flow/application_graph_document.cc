#include "policy-engine/flow/application_graph_document.h"

#include <utility>

#include "policy-engine/flow/application_graph_check.h"
#include "policy-engine/flow/document_load.h"

namespace sallyport::flow {

namespace {

void finish(ApplicationGraphLoad& load, const document::Places& places, document::Diagnostics& diagnostics,
            bool written) {
  ApplicationGraphChecker(load.document, places, diagnostics, written).check();
  if (!diagnostics.has_errors()) load.graph = std::make_shared<const ApplicationGraph>(load.document);
}

}  // namespace

ApplicationGraphLoad load_application_graph(std::string_view yaml, const std::string& file) {
  return load_written<ApplicationGraphLoad>(yaml, file, finish);
}

ApplicationGraphLoad load_application_graph(v1alpha1::ApplicationGraph document, const std::string& name) {
  return load_message<ApplicationGraphLoad>(std::move(document), name, finish);
}

}  // namespace sallyport::flow
