#include "policy-engine/document/compiler.h"

#include <google/protobuf/util/time_util.h>

#include <array>
#include <chrono>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/conflicts.h"
#include "policy-engine/document/credential_compiler.h"
#include "policy-engine/document/did_you_mean.h"
#include "policy-engine/document/endpoint_compiler.h"
#include "policy-engine/document/inbound_compiler.h"
#include "policy-engine/document/limit_compiler.h"
#include "policy-engine/document/names.h"
#include "policy-engine/document/proxy_compiler.h"
#include "policy-engine/document/rule.h"
#include "policy-engine/document/snapshot_index.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;

constexpr std::string_view kApiVersion = "sallyport.dev/v1alpha1";
constexpr std::string_view kKind = "EgressPolicy";

Mode mode_of(api::Mode mode) {
  if (mode == api::MODE_LEARN) return Mode::learn;
  return mode == api::MODE_AUDIT ? Mode::audit : Mode::enforce;
}

std::string_view placeholder_of(const Snapshot* snapshot, std::string_view credential) {
  if (snapshot == nullptr) return {};
  for (const auto& binding : snapshot->bindings().all()) {
    if (binding->name == credential) return binding->placeholder;
  }
  return {};
}

}  // namespace

std::shared_ptr<Snapshot> Compiler::make() {
  // Not make_shared: the constructor is private.
  std::shared_ptr<Snapshot> made(new Snapshot);
  made->bindings_ = std::make_unique<credentials::BindingSet>();
  made->index_ = std::make_unique<Snapshot::Index>();
  return made;
}

std::shared_ptr<const Snapshot> Compiler::empty(Mode mode) {
  std::shared_ptr<Snapshot> made = make();
  made->mode_ = mode;
  return made;
}

std::shared_ptr<const Snapshot> Compiler::refusing(std::shared_ptr<const Snapshot> of, Reason reason,
                                                   std::string text) {
  std::shared_ptr<Snapshot> made = make();
  made->function_ = of->function_;
  made->inbound_ = of->inbound_;  // for its probes
  made->refusal_ = {reason, std::move(text)};
  made->before_ = std::move(of);
  return made;
}

std::shared_ptr<const Snapshot> Compiler::compile(const SecretReader& secrets, std::optional<Mode> mode,
                                                  const Snapshot* previous) {
  out_ = make();
  secrets_ = {&secrets, application_ != nullptr, &out_->stored_secrets_};
  check_header();
  if (source_.has_spec()) {
    compile_spec();
    if (mode) out_->mode_ = *mode;
    compile_application();
    compile_credentials(previous);
    compile_endpoints();
    out_->limits_ = compile_limits(source_.spec(), out_->endpoints_, previous, places_, diagnostics_);
    compile_flow();
    check_unused_credentials();
  }
  if (diagnostics_.has_errors()) return nullptr;
  return out_;
}

void Compiler::check_header() {
  if (!source_.api_version().empty() && source_.api_version() != kApiVersion) {
    diagnostics_.error(places_.of(source_, api::EgressPolicy::kApiVersionFieldNumber),
                       "apiVersion " + quoted(source_.api_version()) + " is not known",
                       "this version reads " + std::string(kApiVersion));
  }
  if (!source_.kind().empty() && source_.kind() != kKind) {
    diagnostics_.error(places_.of(source_, api::EgressPolicy::kKindFieldNumber),
                       "the kind is " + quoted(source_.kind()), "it must be " + std::string(kKind));
  }
  if (places_.broken(source_.metadata()) || !source_.has_metadata()) return;
  if (!is_subdomain(source_.metadata().name())) {
    diagnostics_.error(places_.of(source_.metadata(), api::Metadata::kNameFieldNumber),
                       "the name " + quoted(source_.metadata().name()) + " is not valid",
                       "up to 253 of a-z, 0-9, '.' and '-', starting and ending with a letter or digit");
  }
}

void Compiler::compile_spec() {
  const api::EgressPolicySpec& spec = source_.spec();
  out_->mode_ = mode_of(spec.mode());
  out_->function_ = spec.has_function() ? spec.function() : source_.metadata().name();
  if (spec.has_function() && !is_subdomain(spec.function())) {
    diagnostics_.error(places_.of(spec, api::EgressPolicySpec::kFunctionFieldNumber),
                       "the function " + quoted(spec.function()) + " is not valid",
                       "up to 253 of a-z, 0-9, '.' and '-', starting and ending with a letter or digit");
  }
  if (spec.endpoints_size() == 0 && !places_.broken(spec) &&
      !places_.given(spec, api::EgressPolicySpec::kEndpointsFieldNumber)) {
    const bool from_text = places_.of(spec).line > 0;  // else nobody knows whether it was written so
    diagnostics_.warning(
        places_.of(spec), "the policy has no endpoints, so every request is denied",
        from_text ? "write endpoints: [] if that is meant" : "put one in force for the function if more is meant");
  }
  if (spec.has_inbound() && !places_.broken(spec.inbound())) {
    out_->inbound_ = compile_inbound(spec.inbound(), places_, diagnostics_);
  }
}

void Compiler::compile_application() {
  const api::EgressPolicySpec& spec = source_.spec();
  if (spec.has_tags() && !places_.broken(spec.tags())) {
    out_->tags_ = compile_tags(spec.tags(), places_, diagnostics_, secrets_, application_);
  } else if (!spec.has_tags() && application_ != nullptr && !application_->keys.empty()) {
    out_->tags_ = given_tags(*application_, {}, diagnostics_);
  }
  if (spec.has_tags() || out_->tags_) return;
  constexpr std::string_view kRemedy = "say of which application this function is: tags: {application: …, key: …}";
  if (!out_->inbound_.callers.empty()) {
    diagnostics_.error(places_.of(spec.inbound(), api::Inbound::kCallersFieldNumber),
                       "callers are known by their tags, and the policy has no 'tags'", kRemedy);
  }
  for (const api::Endpoint& endpoint : spec.endpoints()) {
    if (!endpoint.has_function() || places_.broken(endpoint)) continue;
    diagnostics_.error(places_.of(endpoint, api::Endpoint::kFunctionFieldNumber),
                       "functions know each other by tags, and the policy has no 'tags'", kRemedy);
  }
}

void Compiler::compile_credentials(const Snapshot* previous) {
  const api::EgressPolicySpec& spec = source_.spec();
  if (static_cast<std::size_t>(spec.credentials_size()) > limits::kPolicyCredentialsMax) {
    diagnostics_.error(places_.of(spec, api::EgressPolicySpec::kCredentialsFieldNumber),
                       "the policy has more than " + std::to_string(limits::kPolicyCredentialsMax) + " credentials");
    return;
  }
  for (const api::Credential& credential : spec.credentials()) compile_credential(credential, previous);
}

void Compiler::compile_credential(const api::Credential& credential, const Snapshot* previous) {
  const Place place = places_.of(credential);
  const auto [known, is_first] = credentials_.emplace(credential.name(), KnownCredential{nullptr, place, false});
  if (!is_first) {
    diagnostics_.error(places_.of(credential, api::Credential::kNameFieldNumber),
                       "credential " + quoted(credential.name()) + " is given twice",
                       "the first one is in line " + std::to_string(known->second.place.line));
    return;
  }
  if (places_.broken(credential)) return;
  auto binding = document::compile_credential(credential, places_, diagnostics_, secrets_,
                                              placeholder_of(previous, credential.name()));
  if (!binding) return;
  if (const std::string& variable = binding->placeholder_env; !variable.empty()) {
    const auto [first, is_only] = placeholder_variables_.emplace(variable, place.line);
    if (!is_only) {
      diagnostics_.error(places_.of(credential.placeholder(), api::Placeholder::kEnvFieldNumber),
                         "two credentials put their placeholder into " + quoted(variable),
                         "the first one is in line " + std::to_string(first->second));
    }
  }
  auto added = out_->bindings_->add(std::move(*binding));
  if (!added) {
    const Place at = credential.has_placeholder()
                         ? places_.of(credential.placeholder(), api::Placeholder::kValueFieldNumber)
                         : place;
    diagnostics_.error(at, added.error().text);
    return;
  }
  known->second.binding = *added;
}

const UpstreamProxy* Compiler::add_proxy(const api::UpstreamProxy& source) {
  if (places_.broken(source)) return nullptr;
  auto proxy = compile_proxy(source, places_, diagnostics_, secrets_);
  if (!proxy) return nullptr;
  out_->proxies_.push_back(std::move(proxy));
  return out_->proxies_.back().get();
}

void Compiler::choose_proxy(const api::Endpoint& source, CompiledEndpoint& compiled) {
  Endpoint& endpoint = compiled.endpoint;
  if (source.has_upstream_proxy() && source.upstream_proxy().url() == "none") {
    if (!source.upstream_proxy().has_credentials()) return;
    diagnostics_.error(places_.of(source.upstream_proxy(), api::UpstreamProxy::kCredentialsFieldNumber),
                       "there are credentials for no proxy", "remove them");
    return;
  }
  endpoint.proxy = source.has_upstream_proxy() ? add_proxy(source.upstream_proxy()) : out_->proxy_;
  if (endpoint.proxy == nullptr || compiled.host.kind == HostPattern::Kind::exact) return;
  diagnostics_.warning(places_.of(source, api::Endpoint::kHostFieldNumber),
                       "endpoint " + quoted(endpoint.name) +
                           " lets the upstream proxy look up names that the policy does not spell out, and where they "
                           "lead is not checked",
                       "name the hosts, or give the endpoint upstreamProxy: {url: none}");
}

void Compiler::compile_endpoints() {
  const api::EgressPolicySpec& spec = source_.spec();
  if (spec.has_upstream_proxy()) out_->proxy_ = add_proxy(spec.upstream_proxy());
  if (static_cast<std::size_t>(spec.endpoints_size()) > limits::kPolicyEndpointsMax) {
    diagnostics_.error(places_.of(spec, api::EgressPolicySpec::kEndpointsFieldNumber),
                       "the policy has more than " + std::to_string(limits::kPolicyEndpointsMax) + " endpoints");
    return;
  }
  out_->endpoints_.reserve(static_cast<std::size_t>(spec.endpoints_size()));
  for (const api::Endpoint& endpoint : spec.endpoints()) add_endpoint(endpoint);
  check_conflicts(out_->endpoints_, endpoint_places_, diagnostics_);
}

void Compiler::add_endpoint(const api::Endpoint& source) {
  const Place place = places_.of(source);
  if (!source.name().empty()) {
    const auto [first, is_first] = endpoint_names_.emplace(source.name(), place.line);
    if (!is_first) {
      diagnostics_.error(places_.of(source, api::Endpoint::kNameFieldNumber),
                         "endpoint " + quoted(source.name()) + " is given twice",
                         "the first one is in line " + std::to_string(first->second));
    }
  }
  if (places_.broken(source)) {
    // Its credential counts as used all the same: one mistake is reported once.
    if (const auto known = credentials_.find(source.credential()); known != credentials_.end())
      known->second.used = true;
    return;
  }
  CompiledEndpoint compiled = compile_endpoint(source, places_, diagnostics_, regexes_);
  compiled.endpoint.index = static_cast<std::uint32_t>(out_->endpoints_.size());
  if (source.has_credential()) bind_credential(source, compiled.endpoint);
  choose_proxy(source, compiled);
  out_->index_->hosts.add(compiled.host, compiled.endpoint.index);
  out_->endpoints_.push_back(std::move(compiled.endpoint));
  endpoint_places_.push_back(place);
}

void Compiler::bind_credential(const api::Endpoint& source, Endpoint& endpoint) {
  const auto known = credentials_.find(source.credential());
  if (known != credentials_.end()) {
    known->second.used = true;
    endpoint.credential = known->second.binding;
    return;
  }
  std::vector<std::string_view> names;
  for (const auto& [name, credential] : credentials_) names.push_back(name);
  const std::string_view meant = did_you_mean(source.credential(), names);
  diagnostics_.error(places_.of(source, api::Endpoint::kCredentialFieldNumber),
                     "credential " + quoted(source.credential()) + " is not defined",
                     meant.empty() ? "define it in spec.credentials" : "did you mean " + quoted(meant) + "?");
}

void Compiler::compile_flow() {
  const api::EgressPolicySpec& spec = source_.spec();
  if (!spec.has_flow() || places_.broken(spec.flow())) return;
  const api::Flow& source = spec.flow();
  FlowRule& flow = out_->flow_.emplace();
  flow.graph_file = source.graph();
  flow.line = places_.of(source).line;
  flow.enforce = source.mode() != api::MODE_AUDIT;
  if (source.mode() == api::MODE_LEARN) {
    diagnostics_.error(places_.of(source, api::Flow::kModeFieldNumber), "the flow rule's mode is 'learn'",
                       "enforce or audit; to learn a graph, run the function with --traces and no flow rule");
  }
  google::protobuf::Timestamp until;
  if (source.has_relax_until()) {
    if (google::protobuf::util::TimeUtil::FromString(source.relax_until(), &until)) {
      flow.relaxed_until = std::chrono::sys_seconds(std::chrono::seconds(until.seconds()));
    } else {
      diagnostics_.error(places_.of(source, api::Flow::kRelaxUntilFieldNumber),
                         "the time " + quoted(source.relax_until()) + " is not valid",
                         "write it as 2026-12-01T12:00:00Z");
    }
  }
  for (std::size_t i = 0; i < out_->endpoints_.size(); ++i) {
    const Endpoint& endpoint = out_->endpoints_[i];
    if (endpoint.inspection == Inspection::full && endpoint.protocol == Protocol::http) continue;
    diagnostics_.warning(endpoint_places_[i],
                         "endpoint " + quoted(endpoint.name) + " is relayed unread: the flow graph does not see it",
                         "leave out what the function can do without");
  }
}

void Compiler::check_unused_credentials() {
  for (const auto& [name, credential] : credentials_) {
    if (credential.used || name.empty()) continue;
    diagnostics_.warning(credential.place, "credential " + quoted(name) + " is not used by any endpoint",
                         "name it in an endpoint: credential: " + name);
  }
}

}  // namespace sallyport::document
