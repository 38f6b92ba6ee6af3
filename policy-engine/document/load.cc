#include "policy-engine/document/load.h"

#include "base/limits.h"
#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/compiler.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/message_check.h"
#include "policy-engine/document/message_reader.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/yaml_tree.h"

namespace sallyport::document {

LoadResult load_policy(std::string_view yaml, const std::string& file, const SecretReader& secrets,
                       std::optional<Mode> mode, const Snapshot* previous, const Application* application) {
  Diagnostics diagnostics(file);
  LoadResult result;
  if (const auto tree = parse_yaml(yaml, diagnostics)) {
    const auto policy = std::make_shared<policy::v1alpha1::EgressPolicy>();
    Places places;
    read_message(*tree, *policy, places, diagnostics);
    result.snapshot = Compiler(*policy, places, diagnostics, application).compile(secrets, mode, previous);
    result.document = policy;
  }
  result.diagnostics = diagnostics.take();
  return result;
}

LoadResult load_policy(const policy::v1alpha1::EgressPolicy& message, const std::string& name,
                       const SecretReader& secrets, std::optional<Mode> mode, const Snapshot* previous,
                       const Application* application) {
  Diagnostics diagnostics(name);
  LoadResult result;
  if (message.ByteSizeLong() > limits::kPolicyBytesMax) {
    diagnostics.error({}, "the policy has more than " + std::to_string(limits::kPolicyBytesMax) + " bytes");
  } else {
    check_message(message, diagnostics);
  }
  if (!diagnostics.has_errors()) {
    result.snapshot = Compiler(message, {}, diagnostics, application).compile(secrets, mode, previous);
  }
  result.diagnostics = diagnostics.take();
  return result;
}

}  // namespace sallyport::document
