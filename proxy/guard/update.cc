#include "proxy/guard/update.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/flow/graph_document.h"

namespace sallyport::guard {
namespace {

constexpr const char* kPolicyName = "the controller's policy";
constexpr const char* kGraphName = "the controller's flow graph";

// Wipes what is secret in an update, however the reading of it ends. The link's own buffers are the link's.
class Wiping {
 public:
  explicit Wiping(link_api::Update& update) : update_(update) {}
  Wiping(const Wiping&) = delete;
  Wiping& operator=(const Wiping&) = delete;
  ~Wiping() {
    for (link_api::Secret& secret : *update_.mutable_secrets()) wipe(*secret.mutable_value());
    for (std::string& key : *update_.mutable_tag_keys()) wipe(key);
  }

 private:
  static void wipe(std::string& text) { OPENSSL_cleanse(text.data(), text.size()); }
  link_api::Update& update_;
};

document::SecretReader reader_of(const link_api::Update& update, PolicyFile& file) {
  return [&update, &file](const document::SecretRef& reference) -> Result<credentials::Secret> {
    if (reference.store.empty()) return read_secret(reference, file);
    for (const link_api::Secret& secret : update.secrets()) {
      if (secret.name() == reference.store) return credentials::Secret::from_source(secret.value(), reference.store);
    }
    return fail(ErrorSource::controller, ErrorKind::unavailable,
                "the controller keeps no secret " + document::quoted(reference.store));
  };
}

Result<document::Application> application_of(const link_api::Update& update, const MemberOf& member) {
  const bool too_many = static_cast<std::size_t>(update.tag_keys_size()) > limits::kMemberTagKeysMax ||
                        static_cast<std::size_t>(update.secrets_size()) > limits::kMemberSecretsMax;
  if (too_many) return fail(ErrorSource::controller, ErrorKind::limit, "it has too many secrets or keys of tags");
  document::Application application{member.application, {}};
  for (const std::string& key : update.tag_keys()) {
    Result<credentials::Secret> secret = credentials::Secret::copy_of(key);
    if (!secret) return std::unexpected(secret.error());
    application.keys.push_back(std::move(*secret));
  }
  return application;
}

std::string text_of(const std::vector<document::Diagnostic>& diagnostics) {
  std::string out;
  for (const document::Diagnostic& diagnostic : diagnostics) {
    if (diagnostic.warning) continue;
    if (!out.empty()) out += "; ";
    out += diagnostic.to_string();
  }
  return out;
}

void complain(PolicyFile& file, std::string message, std::string hint) {
  file.diagnostics.push_back({kPolicyName, 0, 0, std::move(message), std::move(hint), false});
  file.snapshot.reset();
}

// The graph goes by the policy's flow rule; a policy without one enforces it, as it was sent to be obeyed.
void read_flow(link_api::Update& update, const PolicyContext& context, PolicyFile& file) {
  const document::FlowRule* rule = file.snapshot->flow();
  if (rule != nullptr && !update.has_graph()) {
    return complain(file, "it has a flow rule, and there is no flow graph",
                    "give the controller the function's graph, or take the rule out");
  }
  if (rule == nullptr) return;
  flow::GraphLoad load = flow::load_graph(std::move(*update.mutable_graph()), kGraphName);
  const auto now = std::chrono::system_clock::now();
  file.graph = accept_graph(std::move(load), kGraphName, kPolicyName, *file.snapshot, context, now, file.diagnostics);
  if (!file.graph) file.snapshot.reset();
}

void read_policy_of(link_api::Update& update, const MemberOf& member, const PolicyContext& context,
                    const document::Snapshot* previous, PolicyFile& file) {
  if (update.has_graph() && update.policy().has_spec() && !update.policy().spec().has_flow()) {
    update.mutable_policy()->mutable_spec()->mutable_flow()->set_graph(kGraphName);
  }
  Result<document::Application> application = application_of(update, member);
  if (!application) return complain(file, application.error().text, "");
  document::LoadResult loaded = document::load_policy(update.policy(), kPolicyName, reader_of(update, file),
                                                      context.mode, previous, &*application);
  file.snapshot = std::move(loaded.snapshot);
  file.diagnostics = std::move(loaded.diagnostics);
  if (!file.snapshot) return;
  if (file.snapshot->function() != member.function) {
    return complain(file, "it is for the function " + document::quoted(file.snapshot->function()),
                    "this guard is " + document::quoted(member.function));
  }
  read_flow(update, context, file);
  if (file.snapshot) check_files(kPolicyName, file);
}

}  // namespace

UpdateLoad read_update(link_api::Update&& update, const MemberOf& member, const PolicyContext& context,
                       const document::Snapshot* previous, const Terms* previous_terms, const HaltOf& halt_of) {
  link_api::Update taken = std::move(update);
  const Wiping wiping(taken);
  UpdateLoad load;
  read_policy_of(taken, member, context, previous, load.policy);
  Result<std::shared_ptr<Terms>> terms = read_terms(taken, previous_terms, halt_of);
  if (!terms) complain(load.policy, terms.error().text, "");
  if (load.policy.snapshot) {
    load.terms = std::move(*terms);
    return load;
  }
  load.refusal = text_of(load.policy.diagnostics);
  if (load.refusal.empty()) load.refusal = "it can't be used";
  if (load.refusal.size() > limits::kRefusalBytesMax) {
    std::size_t end = limits::kRefusalBytesMax;
    while (end > 0 && (static_cast<unsigned char>(load.refusal[end]) & 0xC0U) == 0x80) --end;  // between characters
    load.refusal.resize(end);
  }
  return load;
}

}  // namespace sallyport::guard
