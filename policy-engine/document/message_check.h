#pragma once
// What the reader of YAML refuses (message_reader.h), of a message that came in protobuf's own form.

#include <google/protobuf/message.h>

#include "policy-engine/document/diagnostics.h"

namespace sallyport::document {

// Errors, each with the field that it is about: fields and enum values that this version does not know, the absence of
// what the schema requires, control characters in a text.
void check_message(const google::protobuf::Message& message, Diagnostics& diagnostics);

// Only the first of these: what an older version would pass over could be what restricts the rest.
void refuse_unknown(const google::protobuf::Message& message, Diagnostics& diagnostics);

}  // namespace sallyport::document
