#pragma once
// spec.inbound and spec.tags → what the guard asks of them.

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/load.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/secret_source.h"
#include "policy-engine/document/snapshot.h"

namespace sallyport::document {

// What is wrong is in `diagnostics`, and left out.
Inbound compile_inbound(const policy::v1alpha1::Inbound& source, const Places& places, Diagnostics& diagnostics);

// A key that cannot be read is a warning; what would need it is refused then. The keys of `application` go before the
// policy's own; null: there is no controller.
std::unique_ptr<const Tags> compile_tags(const policy::v1alpha1::Tags& source, const Places& places,
                                         Diagnostics& diagnostics, const SecretSources& secrets,
                                         const Application* application);

// Of the application's keys. One that can't be used is an error, at `place`: nothing would work, and nobody know why.
std::unique_ptr<Tags> given_tags(const Application& application, Place place, Diagnostics& diagnostics);

}  // namespace sallyport::document
