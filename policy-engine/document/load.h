#pragma once
// YAML → protobuf → checked → Snapshot. All mistakes of a document are reported at once, each with its place and a
// remedy.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy-engine/credentials/secret.h"
#include "policy-engine/document/snapshot.h"

namespace sallyport::policy::v1alpha1 {
class EgressPolicy;
}

namespace sallyport::document {

struct Diagnostic {
  std::string file;
  int line = 0;          // from 1; 0 when the whole file is meant
  int column = 0;        // from 1
  std::string message;   // what is wrong
  std::string hint;      // what to write instead; may be empty
  bool warning = false;  // warnings do not stop a policy from being used
  // "policy.yaml:12:7: error: unknown field 'method' in a rule (hint: did you mean 'methods'?)"
  std::string to_string() const;
};

// Where the document gets its secrets: called once per credential at load. I/O stays outside of the policy engine.
struct SecretRef {
  std::string file;   // a path, or
  std::string env;    // an environment variable of the guard, or
  std::string store;  // the name of a secret that the controller keeps; exactly one of them is set
};
// The reader removes one line end from the end of what it read: files have one, secrets do not.
using SecretReader = std::function<Result<credentials::Secret>(const SecretRef&)>;

// The application that a controller knows the function to be of. A policy that names another one is refused; one that
// names none is of this one. Without `keys` there are no tags, unless the policy has a key of its own.
struct Application {
  std::string name;
  std::vector<credentials::Secret> keys;  // tag::kKeyBytes each: the first makes tags, all verify them
};

struct LoadResult {
  std::shared_ptr<const Snapshot> snapshot;  // null if there was any error
  std::vector<Diagnostic> diagnostics;       // in the order of the file; at most limits::kPolicyErrorsMax
  // What YAML said, as far as it could be read; null where a message was loaded.
  std::shared_ptr<const policy::v1alpha1::EgressPolicy> document;
};

// `file` names the document in diagnostics. With a null `secrets` no secret is read and credentials are only checked
// (`policy check`); such a snapshot denies with credential_unavailable where it would have injected. A secret that
// cannot be read is a warning, with the same effect.
//
// `mode` overrides the document's. `previous` is the policy that this one replaces while the function runs, or null: a
// credential whose placeholder was made at random keeps it, as the function holds it already. Without `application`
// there is no controller, and a policy that needs one is an error, unless it is only checked.
LoadResult load_policy(std::string_view yaml, const std::string& file, const SecretReader& secrets,
                       std::optional<Mode> mode = {}, const Snapshot* previous = nullptr,
                       const Application* application = nullptr);

// The same for a policy that was received. What YAML cannot say is refused here: fields and words that this version
// does not know, and the absence of what is required. `name` names it in diagnostics, which have no lines but say the
// field.
LoadResult load_policy(const policy::v1alpha1::EgressPolicy& message, const std::string& name,
                       const SecretReader& secrets, std::optional<Mode> mode = {}, const Snapshot* previous = nullptr,
                       const Application* application = nullptr);

}  // namespace sallyport::document
