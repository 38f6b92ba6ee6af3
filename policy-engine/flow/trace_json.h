#pragma once
// Traces in JSON, as guards write them: without blanks, with the fields in the order of the schema, and with strings
// that need no escapes.

#include <string_view>

#include "policy-engine/api/flow.pb.h"

namespace sallyport::flow {

// `line` into `trace`, which must be empty. False: it is not in that form, and `trace` has a part of it. Whatever is
// read here protobuf's parser reads as the same message; what is not is for that parser, also to say what is wrong.
bool read_plain_json(std::string_view line, v1alpha1::Trace& trace);

}  // namespace sallyport::flow
