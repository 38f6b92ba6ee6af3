#pragma once
// The path of a rule: checked and compiled.

#include <cstddef>

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/rule.h"
#include "policy-engine/request/target.h"

namespace sallyport::document {

// Reports paths that are not canonical under `options`, since no request would ever have them, with the canonical form
// as hint; and expressions that RE2 refuses, that are too large, or that no path can match. `regexes` counts the
// expressions of the whole policy. Matches nothing after an error.
PathMatcher compile_path(const policy::v1alpha1::PathMatch& source, const request::TargetOptions& options,
                         const Places& places, Diagnostics& diagnostics, std::size_t& regexes);

}  // namespace sallyport::document
