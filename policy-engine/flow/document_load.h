#pragma once
// How the documents of flow tracking are loaded, each with a check and a compiler of its own: from YAML with a place
// for every mistake, or from a message that was learned or received.

#include <string>
#include <string_view>
#include <utility>

#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/message_check.h"
#include "policy-engine/document/message_reader.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/yaml_tree.h"

namespace sallyport::flow {

// `Load` has `document` and `diagnostics`. finish(load, places, diagnostics, written) checks what has been read, and
// compiles it where there is no error.
template <class Load, class Finish>
Load load_written(std::string_view yaml, const std::string& file, Finish finish) {
  document::Diagnostics diagnostics(file);
  Load load;
  // The places know the messages by their addresses: the document is not moved before all is said.
  document::Places places;
  if (const auto tree = document::parse_yaml(yaml, diagnostics)) {
    document::read_message(*tree, load.document, places, diagnostics);
    finish(load, places, diagnostics, true);
  }
  load.diagnostics = diagnostics.take();
  return load;
}

template <class Load, class Document, class Finish>
Load load_message(Document document, const std::string& name, Finish finish) {
  document::Diagnostics diagnostics(name);
  Load load;
  load.document = std::move(document);
  document::refuse_unknown(load.document, diagnostics);
  finish(load, document::Places(), diagnostics, false);
  load.diagnostics = diagnostics.take();
  return load;
}

}  // namespace sallyport::flow
