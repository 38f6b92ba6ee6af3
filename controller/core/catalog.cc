#include "controller/core/catalog.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/intercepted_hosts.h"
#include "policy-engine/flow/graph_document.h"

namespace sallyport::controller {

namespace {

using document::Diagnostic;
using document::quoted;
using policy::v1alpha1::EgressPolicy;

void complain(std::vector<Diagnostic>& diagnostics, const std::string& file, std::string message, std::string hint,
              bool warning = false) {
  diagnostics.push_back({file, 0, 0, std::move(message), std::move(hint), warning});
}

// Which function a document is of, where it names one.
void check_function(std::vector<Diagnostic>& diagnostics, const std::string& file, const std::string& named,
                    const std::string& function) {
  if (named == function) return;
  complain(diagnostics, file, "it is of the function " + quoted(named), "this one is " + quoted(function));
}

// Its guards would be given no certificate for them.
void check_hosts(std::vector<Diagnostic>& diagnostics, const std::string& file, const ca::PermittedHosts& hosts) {
  std::size_t bytes = 0;
  for (const std::string& host : hosts.value_or(std::vector<std::string>())) bytes += host.size();
  if (bytes <= limits::kPermittedHostsBytesMax) return;
  complain(diagnostics, file,
           "its hosts are too many for the certificate of one guard: their names have " + std::to_string(bytes) +
               " bytes, and " + std::to_string(limits::kPermittedHostsBytesMax) + " may be",
           "write \"*.example.com\" for many hosts of one domain");
}

// In the place of a policy, for a function that has none: fails closed.
EgressPolicy policy_that_allows_nothing(std::string_view function) {
  EgressPolicy out;
  out.set_api_version("sallyport.dev/v1alpha1");
  out.set_kind("EgressPolicy");
  out.mutable_metadata()->set_name(std::string(function));
  out.mutable_spec()->set_function(std::string(function));
  out.mutable_spec()->set_mode(policy::v1alpha1::MODE_ENFORCE);
  return out;
}

}  // namespace

std::string name_of(const Document& document) {
  std::string out = document.application;
  if (!document.function.empty()) out += "/" + document.function;
  return out + " " + std::string(to_string(document.kind));
}

bool Catalog::Read::good() const {
  return std::ranges::all_of(diagnostics, [](const Diagnostic& each) { return each.warning; });
}

Catalog::Catalog(std::string application) : application_(std::move(application)) {}

const Catalog::Function* Catalog::find(std::string_view function) const {
  const auto found = functions_.find(function);
  return found == functions_.end() ? nullptr : &found->second;
}

// No secret is read here, as where they are only guards know.
void Catalog::read_policy(const Document& document, const std::string& name, Read& out) const {
  document::Application application{application_, {}};
  for (const auto& [number, key] : keys_) {
    if (auto copy = credentials::Secret::copy_of(key.key.view())) application.keys.push_back(std::move(*copy));
  }
  document::LoadResult loaded =
      document::load_policy(document.text, name, nullptr, std::nullopt, nullptr, &application);
  out.diagnostics = std::move(loaded.diagnostics);
  if (!loaded.snapshot) return;
  out.policy = std::move(loaded.document);
  out.snapshot = std::move(loaded.snapshot);
  check_function(out.diagnostics, name, out.snapshot->function(), document.function);
  check_hosts(out.diagnostics, name, document::intercepted_hosts(*out.snapshot));
  for (const std::string& secret : out.snapshot->stored_secrets()) {
    if (secrets_.contains(secret)) continue;
    complain(out.diagnostics, name, "there is no secret " + quoted(secret),
             "until there is one, requests that need it are refused: sallyport secret put", true);
  }
  const Function* const function = find(document.function);
  if (out.snapshot->flow() != nullptr && (function == nullptr || !function->graph)) {
    complain(out.diagnostics, name, "its flow rule needs a flow graph, and the function has none here",
             "put the graph first: sallyport function put-graph FILE");
  }
}

Catalog::Read Catalog::read(const Document& document) const {
  const std::lock_guard lock(mutex_);
  const std::string name = name_of(document);
  Read out;
  if (document.text.empty()) {
    const Function* const function = find(document.function);
    if (document.kind == DocumentKind::graph && function != nullptr && function->policy &&
        function->policy->spec().has_flow()) {
      complain(out.diagnostics, name, "the flow rule of the function's policy needs it",
               "put a policy without a flow rule first: sallyport policy put FILE");
    }
    return out;
  }
  switch (document.kind) {
    case DocumentKind::policy:
      read_policy(document, name, out);
      break;
    case DocumentKind::graph: {
      flow::GraphLoad loaded = flow::load_graph(document.text, name);
      out.diagnostics = std::move(loaded.diagnostics);
      if (!loaded.graph) break;
      check_function(out.diagnostics, name, loaded.graph->function(), document.function);
      out.graph = std::move(loaded.document);
      break;
    }
    case DocumentKind::application_graph:
      out.application_graph = flow::load_application_graph(document.text, name);
      out.diagnostics = out.application_graph.diagnostics;
      if (out.application_graph.graph && out.application_graph.graph->application() != application_) {
        complain(out.diagnostics, name,
                 "it is of the application " + quoted(out.application_graph.graph->application()),
                 "this one is " + quoted(application_));
      }
      break;
    case DocumentKind::application: {
      ApplicationSettingsLoad loaded = load_application_settings(document.text, name, application_);
      out.diagnostics = std::move(loaded.diagnostics);
      if (loaded.settings) out.settings = *std::move(loaded.settings);
      break;
    }
  }
  return out;
}

void Catalog::put(const Document& document, Read read) {
  const std::lock_guard lock(mutex_);
  switch (document.kind) {
    case DocumentKind::policy: {
      Function& function = functions_[document.function];
      function.policy = std::move(read.policy);
      function.versions.policy = function.policy ? document.version : 0;
      function.versions.mode = read.snapshot ? std::optional(read.snapshot->mode()) : std::nullopt;
      function.hosts = read.snapshot ? document::intercepted_hosts(*read.snapshot) : ca::PermittedHosts(std::in_place);
      function.secrets = read.snapshot ? read.snapshot->stored_secrets() : std::set<std::string>();
      break;
    }
    case DocumentKind::graph: {
      Function& function = functions_[document.function];
      function.graph = std::move(read.graph);
      function.versions.graph = function.graph ? document.version : 0;
      break;
    }
    case DocumentKind::application_graph:
      graph_ = std::move(read.application_graph.graph);
      graph_document_ = std::move(read.application_graph.document);
      break;
    case DocumentKind::application:
      settings_ = std::move(read.settings);
      break;
  }
  std::erase_if(functions_, [](const auto& each) { return !each.second.policy && !each.second.graph; });
}

void Catalog::put_secret(const std::string& name, credentials::Secret value) {
  const std::lock_guard lock(mutex_);
  secrets_[name] = std::move(value);
}

void Catalog::drop_secret(const std::string& name) {
  const std::lock_guard lock(mutex_);
  secrets_.erase(name);
}

void Catalog::put_tag_key(TagKeyRow key) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t number = key.number;
  keys_[number] = std::move(key);
}

void Catalog::drop_tag_key(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  keys_.erase(number);
}

std::vector<std::string> Catalog::secret_names() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [name, value] : secrets_) out.push_back(name);
  return out;
}

std::vector<std::pair<std::uint64_t, Time>> Catalog::tag_keys() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<std::uint64_t, Time>> out;
  for (const auto& [number, key] : keys_) out.emplace_back(number, key.made);
  return out;
}

std::shared_ptr<const flow::ApplicationGraph> Catalog::application_graph() const {
  const std::lock_guard lock(mutex_);
  return graph_;
}

std::vector<ApplicationSettings::Limit> Catalog::limits() const {
  const std::lock_guard lock(mutex_);
  return settings_.limits();
}

std::vector<std::string> Catalog::functions() const {
  const std::lock_guard lock(mutex_);
  std::set<std::string> out;
  for (const auto& [name, function] : functions_) out.insert(name);
  for (std::uint32_t i = 0; graph_ && i < graph_->function_count(); ++i) out.insert(graph_->name_of(i));
  return {out.begin(), out.end()};
}

bool Catalog::has_function(std::string_view function) const {
  const std::lock_guard lock(mutex_);
  return find(function) != nullptr || (graph_ && graph_->function_of(function) != flow::ApplicationGraph::kNone);
}

Catalog::Versions Catalog::versions_of(std::string_view function) const {
  const std::lock_guard lock(mutex_);
  const Function* const known = find(function);
  return known == nullptr ? Versions() : known->versions;
}

bool Catalog::believes(std::string_view function, std::string_view account) const {
  const std::lock_guard lock(mutex_);
  return settings_.believes(function, account);
}

ca::PermittedHosts Catalog::permitted_hosts(std::string_view function) const {
  const std::lock_guard lock(mutex_);
  const Function* const known = find(function);
  return known == nullptr ? std::vector<std::string>() : known->hosts;
}

std::chrono::seconds Catalog::certificate_lifetime() const {
  const std::lock_guard lock(mutex_);
  return settings_.certificate_lifetime();
}

std::uint32_t Catalog::instances_max(std::string_view function) const {
  const std::lock_guard lock(mutex_);
  const std::uint32_t number = graph_ ? graph_->function_of(function) : flow::ApplicationGraph::kNone;
  return number == flow::ApplicationGraph::kNone ? 0 : graph_->instances_max(number);
}

std::uint64_t Catalog::making_key(Time now) const {
  const std::lock_guard lock(mutex_);
  return find_making_key(now);
}

// Where none is old enough, the oldest: its guards are the first of the application.
std::uint64_t Catalog::find_making_key(Time now) const {
  for (const auto& [number, key] : keys_) {
    if (key.made + limits::kTagKeySettle <= now) return number;
  }
  return keys_.empty() ? 0 : keys_.rbegin()->first;
}

v1alpha1::Update Catalog::update_of(std::string_view function, std::uint64_t generation, Time now) const {
  const std::lock_guard lock(mutex_);
  v1alpha1::Update out;
  out.set_generation(generation);
  const Function* const known = find(function);
  if (known != nullptr && known->policy) {
    add_policy(*known, out);
  } else {
    *out.mutable_policy() = policy_that_allows_nothing(function);
  }
  const std::uint64_t making = find_making_key(now);
  if (making != 0) out.add_tag_keys(std::string(keys_.at(making).key.view()));
  for (const auto& [number, key] : keys_) {
    if (number != making) out.add_tag_keys(std::string(key.key.view()));
  }
  const FunctionSettings settings = settings_.of(function);
  const bool in_graph = graph_ && graph_->function_of(function) != flow::ApplicationGraph::kNone;
  out.set_entry_check(settings.entry_check);
  if (settings.entry_check == v1alpha1::ENTRY_CHECK_UNSPECIFIED) {
    out.set_entry_check(in_graph ? v1alpha1::ENTRY_CHECK_UNTAGGED : v1alpha1::ENTRY_CHECK_NONE);
  }
  out.set_on_controller_loss(settings.on_controller_loss);
  if (in_graph) announce(function, out);
  for (v1alpha1::Limit& limit : settings_.limits_of(function)) *out.add_limits() = std::move(limit);
  out.set_lifetime_s(settings_.lifetime_s());
  return out;
}

void Catalog::add_policy(const Function& function, v1alpha1::Update& update) const {
  *update.mutable_policy() = *function.policy;
  if (function.policy->spec().has_flow() && function.graph) *update.mutable_graph() = *function.graph;
  for (const std::string& name : function.secrets) {
    const auto found = secrets_.find(name);
    if (found == secrets_.end()) continue;  // what needs it is refused by the guard
    v1alpha1::Secret* const secret = update.add_secrets();
    secret->set_name(name);
    secret->set_value(std::string(found->second.view()));
  }
}

// What of the function's flows leads to others through a service.
void Catalog::announce(std::string_view function, v1alpha1::Update& update) const {
  std::set<std::pair<std::string, std::string>> announced;
  for (const auto& successor : graph_document_.spec().functions()) {
    for (const auto& edge : successor.after()) {
      if (edge.function() != function || !edge.has_through()) continue;
      if (!announced.emplace(edge.through(), edge.action()).second) continue;
      v1alpha1::OperationPattern* const pattern = update.add_announced();
      pattern->set_request(edge.through());
      pattern->set_action(edge.action());
    }
  }
}

}  // namespace sallyport::controller
