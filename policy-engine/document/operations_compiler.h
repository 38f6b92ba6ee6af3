#pragma once
// What an endpoint says of API actions: where they stand, and which a rule has.

#include <string>
#include <vector>

#include "policy-engine/action/action.h"
#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"

namespace sallyport::document {

// Reports every mistake; the result is whole if none was reported.
action::Source compile_operations(const policy::v1alpha1::Operations& source, const Places& places,
                                  Diagnostics& diagnostics);

// `has_operations`: the endpoint says where actions stand. Without, no request would ever have one.
std::vector<std::string> compile_actions(const policy::v1alpha1::Rule& source, bool has_operations,
                                         const Places& places, Diagnostics& diagnostics);

}  // namespace sallyport::document
