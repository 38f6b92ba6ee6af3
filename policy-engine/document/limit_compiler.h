#pragma once
// spec.limits → what the guard counts requests by.

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/snapshot.h"

namespace sallyport::document {

// What is wrong is in `diagnostics`, and left out. `endpoints` are those that could be compiled. A limit that
// `previous` has, too, goes on from where it is; it may be null.
std::vector<Limit> compile_limits(const policy::v1alpha1::EgressPolicySpec& source,
                                  const std::vector<Endpoint>& endpoints, const Snapshot* previous,
                                  const Places& places, Diagnostics& diagnostics);

}  // namespace sallyport::document
