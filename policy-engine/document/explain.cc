// Snapshot::explain: what to tell the one whose request was denied.

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/rule.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/document/snapshot_index.h"

namespace sallyport::document {

namespace {

constexpr std::size_t kExamplesMax = 5;

std::string_view to_string(request::Scheme scheme) { return scheme == request::Scheme::http ? "http" : "https"; }

// "a, b and c", or "a, b, … and 7 more".
std::string list_of(const std::set<std::string>& items) {
  std::string out;
  std::size_t shown = 0;
  for (const std::string& item : items) {
    if (shown == kExamplesMax) return out + " and " + std::to_string(items.size() - shown) + " more";
    if (shown > 0) out += shown + 1 == items.size() ? " and " : ", ";
    out += item;
    ++shown;
  }
  return out;
}

std::string ports_of(const Endpoint& endpoint) {
  if (endpoint.any_port) return "any port";
  std::set<std::string> ports;
  for (const std::uint16_t port : endpoint.ports) ports.insert(std::to_string(port));
  return (ports.size() == 1 ? "port " : "ports ") + list_of(ports);
}

std::string spoken_on(const Endpoint& endpoint) {
  if (endpoint.protocol == Protocol::tcp) return "tcp on " + ports_of(endpoint);
  if (endpoint.inspection == Inspection::none) return ports_of(endpoint);
  return std::string(to_string(endpoint.scheme)) + " on " + ports_of(endpoint);
}

std::string explain_host(const Destination& destination, const std::string& function) {
  return "No endpoint of the policy" + (function.empty() ? "" : " of " + quoted(function)) + " has the host " +
         quoted(destination.host) + ". To allow it, add an endpoint with this host.";
}

std::string explain_method(const Endpoint& endpoint, std::string_view method) {
  std::set<std::string> methods;
  for (const Rule& rule : endpoint.rules) methods.insert(rule.methods.names().begin(), rule.methods.names().end());
  return "Endpoint " + quoted(endpoint.name) + " has no rule for the method " + quoted(method) + ", only for " +
         list_of(methods) + ". To allow it, add the method to a rule.";
}

std::string explain_path(const Endpoint& endpoint, std::string_view method, std::string_view path) {
  const MethodKey key(method);
  std::set<std::string> paths;
  for (const Rule& rule : endpoint.rules) {
    if (rule.methods.contains(key)) paths.insert(rule.path.to_string());
  }
  return "No rule of endpoint " + quoted(endpoint.name) + " has the path " + quoted(path) + " for " +
         std::string(method) + ". What it has is " + list_of(paths) + ". To allow it, add a rule for this path.";
}

std::string explain_action(const Endpoint& endpoint, std::string_view method, std::string_view path,
                           std::string_view action) {
  const MethodKey key(method);
  std::set<std::string> actions;
  for (const Rule& rule : endpoint.rules) {
    if (rule.methods.contains(key) && rule.path.matches(path)) actions.insert(rule.actions.begin(), rule.actions.end());
  }
  return "No rule of endpoint " + quoted(endpoint.name) + " for " + std::string(method) + " on " + quoted(path) +
         (action.empty() ? " has a request without an action" : " has the action " + quoted(action)) +
         " (operations: " + endpoint.operations.to_string() + "). What it has is " + list_of(actions) +
         ". To allow it, add the action to the rule.";
}

}  // namespace

std::string Snapshot::explain(const RequestDecision& decision, const Destination& destination, std::string_view method,
                              std::string_view path, std::string_view action) const {
  if (decision.allowed) return {};
  if (refusal_) return refusal_->text;
  if (decision.reason == Reason::host_not_allowed) return explain_host(destination, function_);
  if (decision.reason == Reason::method_not_allowed && decision.endpoint != nullptr) {
    return explain_method(*decision.endpoint, method);
  }
  if (decision.reason == Reason::path_not_allowed && decision.endpoint != nullptr) {
    return explain_path(*decision.endpoint, method, path);
  }
  if (decision.reason == Reason::action_not_allowed && decision.endpoint != nullptr) {
    return explain_action(*decision.endpoint, method, path, action);
  }
  if (decision.reason != Reason::port_not_allowed) {
    return "The request was refused: " + std::string(sallyport::to_string(decision.reason)) + ".";
  }
  std::set<std::string> spoken;
  index_->hosts.visit(destination.host, [&](std::uint32_t index) {
    spoken.insert(spoken_on(endpoints_[index]));
    return false;
  });
  return "The policy has the host " + quoted(destination.host) + " for " + list_of(spoken) + ", not for " +
         std::string(to_string(destination.scheme)) + " on port " + std::to_string(destination.port) +
         ". To allow it, add an endpoint with this host and port.";
}

std::string Snapshot::explain_tcp(std::string_view host, std::uint16_t port) const {
  if (refusal_) return refusal_->text;
  return "No endpoint of the policy relays connections to " + quoted(host) + " on port " + std::to_string(port) +
         " unread. To allow it, add an endpoint with protocol: tcp, this host and this port.";
}

}  // namespace sallyport::document
