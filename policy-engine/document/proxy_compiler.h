#pragma once
// One upstreamProxy of a policy: checked, its credentials read.

#include <memory>

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/secret_source.h"

namespace sallyport::document {

// Null after an error. Credentials that cannot be read or used are only a warning, as those of requests are:
// connections that need them fail.
std::unique_ptr<UpstreamProxy> compile_proxy(const policy::v1alpha1::UpstreamProxy& source, const Places& places,
                                             Diagnostics& diagnostics, const SecretSources& secrets);

}  // namespace sallyport::document
