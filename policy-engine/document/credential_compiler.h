#pragma once
// One credential of a policy: checked, its secret read, its placeholder chosen.

#include <optional>
#include <string_view>

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/credentials/binding.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/secret_source.h"

namespace sallyport::document {

// Nothing after an error. A secret that cannot be read or used is only a warning: the binding stays without one, and
// the requests that need it are refused. `kept_placeholder` is what the function already holds for this credential,
// from the policy before this one; it is used where the document does not say the placeholder's value.
std::optional<credentials::Binding> compile_credential(const policy::v1alpha1::Credential& source, const Places& places,
                                                       Diagnostics& diagnostics, const SecretSources& secrets,
                                                       std::string_view kept_placeholder);

}  // namespace sallyport::document
