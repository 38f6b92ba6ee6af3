#pragma once
// One endpoint of a policy: checked and compiled. What depends on other endpoints or on the credentials is left to the
// Compiler.

#include <cstddef>

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/host_pattern.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/snapshot.h"

namespace sallyport::document {

struct CompiledEndpoint {
  Endpoint endpoint;
  HostPattern host;
};

// Reports every mistake; the result is whole if none was reported. `regexes` counts those of the whole policy.
CompiledEndpoint compile_endpoint(const policy::v1alpha1::Endpoint& source, const Places& places,
                                  Diagnostics& diagnostics, std::size_t& regexes);

}  // namespace sallyport::document
