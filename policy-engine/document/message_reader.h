#pragma once
// A tree of YAML → a protobuf message, led by the message's descriptor and the annotations of its schema. Strict: a
// field that the schema does not have, a second field of the same name, a value of another type, a word that the enum
// does not have, and the absence of a required field are each an error with a place.

#include <google/protobuf/message.h>

#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/yaml_tree.h"

namespace sallyport::document {

// Fills `message`, which must be empty, with all that is well-formed, and reports the rest. `message` and every message
// in it that has a mistake somewhere inside is marked broken in `places`.
void read_message(const YamlNode& node, google::protobuf::Message& message, Places& places, Diagnostics& diagnostics);

// "enforce" for MODE_ENFORCE; empty for the unspecified value.
std::string enum_word(const google::protobuf::EnumValueDescriptor& value);

}  // namespace sallyport::document
