#pragma once
// Endpoints that cannot stand beside each other: what they say of one destination depends on the endpoint, but must be
// known before the guard can tell which of them a request is for.

#include <span>
#include <vector>

#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/snapshot.h"

namespace sallyport::document {

// For endpoints of the same host and a common port: all inspected or none; and with the same scheme, the same
// allowEncodedSlashes and mergeSlashes. `places` has one place per endpoint. Takes time linear in endpoints and ports.
void check_conflicts(const std::vector<Endpoint>& endpoints, std::span<const Place> places, Diagnostics& diagnostics);

}  // namespace sallyport::document
