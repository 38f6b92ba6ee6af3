#pragma once
// The hosts in whose names a guard answers its function, by the policy: what its CA certificate has to be for.

#include <optional>
#include <string>
#include <vector>

#include "policy-engine/document/snapshot.h"

namespace sallyport::document {

// Names, each for all that is below it, and IP addresses; sorted, and none below another. Nothing: any host, as where
// the policy does not enforce all of them pass, or an endpoint is for any. Endpoints whose TLS the guard does not end
// (scheme http, inspection none, protocol tcp) have no part in it.
std::optional<std::vector<std::string>> intercepted_hosts(const Snapshot& policy);

}  // namespace sallyport::document
