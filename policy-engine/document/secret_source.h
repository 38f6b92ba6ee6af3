#pragma once
// Reading what a SecretSource names.

#include <optional>
#include <set>
#include <string>

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/load.h"

namespace sallyport::document {

struct SecretSources {
  const SecretReader* reader = nullptr;     // null, or empty: the policy is only checked
  bool controller = false;                  // there is one, which keeps secrets by their names
  std::set<std::string>* stored = nullptr;  // the names of those that were asked for
  bool reads() const { return reader != nullptr && *reader; }
};

// Nothing: it is not to be read, or what is wrong with the source is in `diagnostics`. Where it cannot be read is for
// the caller to say, as it knows what that comes to.
std::optional<Result<credentials::Secret>> read_source(const policy::v1alpha1::SecretSource& source, Place place,
                                                       const SecretSources& secrets, Diagnostics& diagnostics);

}  // namespace sallyport::document
