#pragma once
// A policy message → a Snapshot.

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/credentials/binding.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/endpoint_compiler.h"
#include "policy-engine/document/load.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/secret_source.h"
#include "policy-engine/document/snapshot.h"

namespace sallyport::document {

class Compiler {
 public:
  // `application` is as for load_policy.
  Compiler(const policy::v1alpha1::EgressPolicy& source, const Places& places, Diagnostics& diagnostics,
           const Application* application)
      : source_(source), places_(places), diagnostics_(diagnostics), application_(application) {}

  // Null if `diagnostics` has an error, from here or from before. Parts that `places` knows as broken are passed over.
  // `mode` overrides the document's; `previous` is as for load_policy.
  std::shared_ptr<const Snapshot> compile(const SecretReader& secrets, std::optional<Mode> mode,
                                          const Snapshot* previous);

  static std::shared_ptr<const Snapshot> empty(Mode mode);
  static std::shared_ptr<const Snapshot> refusing(std::shared_ptr<const Snapshot> of, Reason reason, std::string text);

 private:
  struct KnownCredential {
    const credentials::Binding* binding = nullptr;  // null if it had an error
    Place place;
    bool used = false;
  };

  static std::shared_ptr<Snapshot> make();
  void check_header();
  void compile_spec();
  void compile_application();
  void compile_credentials(const Snapshot* previous);
  void compile_credential(const policy::v1alpha1::Credential& credential, const Snapshot* previous);
  void compile_endpoints();
  void add_endpoint(const policy::v1alpha1::Endpoint& endpoint);
  void choose_proxy(const policy::v1alpha1::Endpoint& source, CompiledEndpoint& endpoint);
  const UpstreamProxy* add_proxy(const policy::v1alpha1::UpstreamProxy& source);
  void bind_credential(const policy::v1alpha1::Endpoint& source, Endpoint& endpoint);
  void compile_flow();
  void check_unused_credentials();

  const policy::v1alpha1::EgressPolicy& source_;
  const Places& places_;
  Diagnostics& diagnostics_;
  const Application* application_;  // null: there is no controller
  SecretSources secrets_;
  std::shared_ptr<Snapshot> out_;
  std::map<std::string, KnownCredential, std::less<>> credentials_;
  std::map<std::string, int, std::less<>> placeholder_variables_;  // to the line of the first
  std::map<std::string, int, std::less<>> endpoint_names_;         // to the line of the first
  std::vector<Place> endpoint_places_;
  std::size_t regexes_ = 0;
};

}  // namespace sallyport::document
