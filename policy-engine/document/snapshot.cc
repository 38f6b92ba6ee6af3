#include "policy-engine/document/snapshot.h"

#include <algorithm>
#include <utility>

#include "policy-engine/credentials/binding.h"
#include "policy-engine/document/compiler.h"
#include "policy-engine/document/rule.h"
#include "policy-engine/document/snapshot_index.h"

namespace sallyport::document {

namespace {

bool has_port(const Endpoint& endpoint, std::uint16_t port) {
  return endpoint.any_port || std::ranges::binary_search(endpoint.ports, port);
}

bool same_options(const request::TargetOptions& a, const request::TargetOptions& b) {
  return a.encoded_slashes == b.encoded_slashes && a.merge_slashes == b.merge_slashes;
}

// Looks at endpoints in matching order, and keeps the best explanation of a denial until one allows.
class RequestDecider {
 public:
  // Without `action`: whatever action it has.
  RequestDecider(const Destination& destination, std::string_view method, std::string_view path,
                 std::optional<std::string_view> action)
      : destination_(destination), method_(method), path_(path), action_(action) {}

  // True once the request is allowed.
  bool try_endpoint(const Endpoint& endpoint) {
    if (out_.reason == Reason::host_not_allowed) out_.reason = Reason::port_not_allowed;
    if (endpoint.protocol == Protocol::tcp || !has_port(endpoint, destination_.port)) return false;
    if (endpoint.inspection == Inspection::none) return !port_is_inspected_ && allow(endpoint, -1);
    port_is_inspected_ = true;
    if (endpoint.scheme != destination_.scheme) return false;
    if (first_ == nullptr) first_ = &endpoint;
    // Fails closed: path and action were read as the first endpoint says, and could mean something else to this one.
    if (!same_options(first_->target, endpoint.target) || first_->operations != endpoint.operations) return false;
    return try_rules(endpoint);
  }

  const RequestDecision& decision() const { return out_; }

 private:
  bool try_rules(const Endpoint& endpoint) {
    bool has_method = false, has_path = false;
    for (std::size_t i = 0; i < endpoint.rules.size(); ++i) {
      const Rule& rule = endpoint.rules[i];
      if (!rule.methods.contains(method_)) continue;
      has_method = true;
      if (!rule.path.matches(path_)) continue;
      if (!action_ || rule.has_action(*action_)) return allow(endpoint, static_cast<int>(i));
      has_path = true;
    }
    if (out_.reason == Reason::action_not_allowed) return false;  // nothing can be nearer
    if (has_path) {
      out_ = {false, Reason::action_not_allowed, &endpoint, -1};
      return false;
    }
    if (has_method && out_.reason != Reason::path_not_allowed) out_ = {false, Reason::path_not_allowed, &endpoint, -1};
    if (out_.endpoint == nullptr) out_ = {false, Reason::method_not_allowed, &endpoint, -1};
    return false;
  }

  bool allow(const Endpoint& endpoint, int rule) {
    out_ = {true, Reason::none, &endpoint, rule};
    return true;
  }

  const Destination& destination_;
  const MethodKey method_;
  const std::string_view path_;
  const std::optional<std::string_view> action_;
  const Endpoint* first_ = nullptr;  // the first that matches host, port and scheme and is inspected
  bool port_is_inspected_ = false;   // by an endpoint that was tried before, with either scheme
  RequestDecision out_;
};

std::string counted(std::size_t count, const char* noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace

bool Inbound::is_probe(std::string_view method, std::string_view path) const {
  return std::ranges::any_of(probes, [&](const Probe& one) {
    return one.path == path && std::ranges::find(one.methods, method) != one.methods.end();
  });
}

std::string_view to_string(Mode mode) {
  switch (mode) {
    case Mode::learn:
      return "learn";
    case Mode::audit:
      return "audit";
    case Mode::enforce:
      return "enforce";
  }
  return "enforce";
}

std::optional<Mode> parse_mode(std::string_view text) {
  for (const Mode mode : {Mode::learn, Mode::audit, Mode::enforce}) {
    if (text == to_string(mode)) return mode;
  }
  return std::nullopt;
}

Endpoint::Endpoint() = default;
Endpoint::~Endpoint() = default;
Endpoint::Endpoint(Endpoint&&) noexcept = default;

bool Endpoint::allows(const request::IpAddress& address) const {
  if (request::special_range(address).empty()) return true;
  return std::ranges::any_of(addresses, [&](const request::Cidr& range) { return range.contains(address); });
}

Snapshot::Snapshot() = default;
Snapshot::~Snapshot() = default;

std::shared_ptr<const Snapshot> Snapshot::empty(Mode mode) { return Compiler::empty(mode); }

std::shared_ptr<const Snapshot> Snapshot::refusing(std::shared_ptr<const Snapshot> of, Reason reason,
                                                   std::string text) {
  return Compiler::refusing(std::move(of), reason, std::move(text));
}

ConnectionDecision Snapshot::decide_connection(const Destination& destination) const {
  ConnectionDecision out;
  if (refusal_) out.reason = refusal_->reason;  // there are no endpoints
  bool port_is_inspected = false;
  index_->hosts.visit(destination.host, [&](std::uint32_t index) {
    const Endpoint& endpoint = endpoints_[index];
    if (out.reason == Reason::host_not_allowed) out.reason = Reason::port_not_allowed;
    if (endpoint.protocol == Protocol::tcp || !has_port(endpoint, destination.port)) return false;
    if (endpoint.inspection == Inspection::none) {
      if (port_is_inspected) return false;
      out = {ConnectionAction::pass_through, Reason::none, &endpoint};
      return true;
    }
    port_is_inspected = true;
    if (endpoint.scheme != destination.scheme) return false;
    out = {ConnectionAction::intercept, Reason::none, &endpoint};
    return true;
  });
  return out;
}

const Endpoint* Snapshot::decide_tcp(std::string_view host, std::uint16_t port) const {
  const Endpoint* first = nullptr;
  index_->hosts.visit(host, [&](std::uint32_t index) {
    if (!has_port(endpoints_[index], port)) return false;
    first = &endpoints_[index];
    return true;
  });
  return first != nullptr && first->protocol == Protocol::tcp ? first : nullptr;
}

RequestDecision Snapshot::decide_request(const Destination& destination, std::string_view method, std::string_view path,
                                         std::string_view action) const {
  if (refusal_) return {false, refusal_->reason, nullptr, -1};
  RequestDecider decider(destination, method, path, action);
  index_->hosts.visit(destination.host, [&](std::uint32_t index) { return decider.try_endpoint(endpoints_[index]); });
  return decider.decision();
}

bool Snapshot::could_allow(const Destination& destination, std::string_view method, std::string_view path) const {
  RequestDecider decider(destination, method, path, std::nullopt);
  return index_->hosts.visit(destination.host,
                             [&](std::uint32_t index) { return decider.try_endpoint(endpoints_[index]); });
}

request::TargetOptions Snapshot::target_options(const Destination& destination) const {
  const Endpoint* endpoint = reading(destination);
  return endpoint == nullptr ? request::TargetOptions{} : endpoint->target;
}

bool Snapshot::resolves(std::string_view host) const {
  if (before_) return before_->resolves(host);
  return index_->hosts.visit(host, [](std::uint32_t) { return true; });
}

Snapshot::RuleText Snapshot::rule_text(const Endpoint& endpoint, int rule) const {
  const auto index = static_cast<std::size_t>(rule);
  if (rule < 0 || index >= endpoint.rules.size()) return {};
  return {endpoint.rules[index].to_string(), endpoint.rules[index].line};
}

std::size_t Snapshot::rule_count() const {
  std::size_t count = 0;
  for (const Endpoint& endpoint : endpoints_) count += endpoint.rules.size();
  return count;
}

std::string Snapshot::summary() const {
  const std::string who = function_.empty() ? "" : function_ + ": ";
  return who + std::string(to_string(mode_)) + ", " + counted(endpoints_.size(), "endpoint") + ", " +
         counted(rule_count(), "rule") + ", " + counted(bindings_->all().size(), "credential");
}

}  // namespace sallyport::document
