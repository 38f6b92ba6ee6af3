#pragma once
// spec.inbound → what the guard asks of it.

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/snapshot.h"

namespace sallyport::document {

// What is wrong is in `diagnostics`, and left out.
Inbound compile_inbound(const policy::v1alpha1::Inbound& source, const Places& places, Diagnostics& diagnostics);

}  // namespace sallyport::document
