#pragma once
// What one application is made of: its documents, secrets and tag keys, and what the guards of each of its functions
// are given of them. Pure: storing is for its owner. Any thread.

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "ca/permitted_hosts.h"
#include "controller/api/link.pb.h"
#include "controller/core/application_settings.h"
#include "controller/store/store.h"
#include "policy-engine/document/load.h"
#include "policy-engine/flow/application_graph.h"
#include "policy-engine/flow/application_graph_document.h"

namespace sallyport::controller {

// As diagnostics, the audit trail and people have it: APPLICATION/FUNCTION KIND.
std::string name_of(const Document& document);

class Catalog {
 public:
  explicit Catalog(std::string application);
  const std::string& application() const { return application_; }

  // A document as it was read, in one of its kinds. What is wrong with it, also where it does not fit the others:
  // errors and warnings, each with its place.
  struct Read {
    std::vector<document::Diagnostic> diagnostics;
    std::shared_ptr<const policy::v1alpha1::EgressPolicy> policy;
    std::shared_ptr<const document::Snapshot> snapshot;  // of the policy
    std::optional<flow::v1alpha1::FlowGraph> graph;
    flow::ApplicationGraphLoad application_graph;
    ApplicationSettings settings;
    bool good() const;
  };
  // An empty text is nothing, and good unless another document needs it.
  Read read(const Document& document) const;
  // Puts in force what was read from it, and is good; nothing takes it away.
  void put(const Document& document, Read read);

  void put_secret(const std::string& name, credentials::Secret value);
  void drop_secret(const std::string& name);
  void put_tag_key(TagKeyRow key);
  void drop_tag_key(std::uint64_t number);
  std::vector<std::string> secret_names() const;
  // The number and time of each, the newest first.
  std::vector<std::pair<std::uint64_t, Time>> tag_keys() const;
  // The key that makes tags: the newest that guards have had time to get; 0: there is none.
  std::uint64_t making_key(Time now) const;

  // Null: the application has none, and anything may follow anything.
  std::shared_ptr<const flow::ApplicationGraph> application_graph() const;
  std::vector<ApplicationSettings::Limit> limits() const;
  // That have a policy, or stand in the application graph.
  std::vector<std::string> functions() const;
  bool has_function(std::string_view function) const;
  // Of its policy and its flow graph; 0: there is none.
  struct Versions {
    std::uint64_t policy = 0, graph = 0;
    std::optional<document::Mode> mode = std::nullopt;  // of the policy
  };
  Versions versions_of(std::string_view function) const;
  // Whether pods of the service account are instances of the function.
  bool believes(std::string_view function, std::string_view account) const;
  // What a guard's certificate is to be for; without a policy no host.
  ca::PermittedHosts permitted_hosts(std::string_view function) const;
  std::chrono::seconds certificate_lifetime() const;
  // 0: as many as there are.
  std::uint32_t instances_max(std::string_view function) const;

  // For a function's guards; without a policy nothing is in it but a policy that allows nothing.
  v1alpha1::Update update_of(std::string_view function, std::uint64_t generation, Time now) const;

 private:
  struct Function {
    std::shared_ptr<const policy::v1alpha1::EgressPolicy> policy;
    ca::PermittedHosts hosts = std::vector<std::string>();  // of the policy
    std::set<std::string> secrets;                          // that it needs
    std::optional<flow::v1alpha1::FlowGraph> graph;
    Versions versions;
  };
  void read_policy(const Document& document, const std::string& name, Read& out) const;
  std::uint64_t find_making_key(Time now) const;
  const Function* find(std::string_view function) const;
  void add_policy(const Function& function, v1alpha1::Update& update) const;
  void announce(std::string_view function, v1alpha1::Update& update) const;

  const std::string application_;
  mutable std::mutex mutex_;
  ApplicationSettings settings_;
  std::map<std::string, Function, std::less<>> functions_;
  std::shared_ptr<const flow::ApplicationGraph> graph_;
  flow::v1alpha1::ApplicationGraph graph_document_;
  std::map<std::string, credentials::Secret, std::less<>> secrets_;
  std::map<std::uint64_t, TagKeyRow, std::greater<>> keys_;
};

}  // namespace sallyport::controller
