#include "policy-engine/document/evaluate.h"

#include <algorithm>
#include <utility>

#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/names.h"

namespace sallyport::document {

namespace {

std::uint16_t default_port(request::Scheme scheme) { return scheme == request::Scheme::http ? 80 : 443; }

Evaluation denied(Evaluation evaluation, Reason reason, std::string text) {
  evaluation.decision = {false, reason, evaluation.decision.endpoint, -1};
  evaluation.text = std::move(text);
  return evaluation;
}

std::unexpected<Error> not_a_request(std::string_view request, const std::string& why) {
  return fail(
      ErrorSource::policy, ErrorKind::invalid,
      quoted(request) + " is not a request: " + why + "; write it as 'POST https://api.example.com/v1/charges'");
}

// An allowed endpoint, unless the host is an address that it does not have.
Evaluation with_address_checked(Evaluation evaluation) {
  // A name is resolved when the guard dials; an address can be judged here.
  const auto& address = evaluation.host.address;
  if (address && !evaluation.decision.endpoint->allows(*address)) {
    const std::string range(request::special_range(*address));
    return denied(std::move(evaluation), Reason::address_not_allowed,
                  "The address is " + range + ", and the endpoint's addresses do not have it.");
  }
  return evaluation;
}

// Before anything is read: what the guard asks first of each connection.
bool decide_tcp(const Snapshot& snapshot, Evaluation& evaluation) {
  const Endpoint* endpoint = snapshot.decide_tcp(evaluation.host.name, evaluation.port);
  if (endpoint == nullptr) return false;
  evaluation.tcp = true;
  evaluation.decision = {true, Reason::none, endpoint, -1};
  evaluation = with_address_checked(std::move(evaluation));
  return true;
}

constexpr std::string_view kTcp = "tcp://";

Result<Evaluation> evaluate_tcp(const Snapshot& snapshot, std::string_view request) {
  Evaluation evaluation;
  evaluation.tcp = true;
  auto authority = request::parse_authority(request.substr(kTcp.size()));
  if (!authority) return denied(std::move(evaluation), Reason::malformed_target, authority.error().text);
  if (!authority->port) return not_a_request(request, "it needs a port, as in tcp://db.example.com:5432");
  evaluation.host = std::move(authority->host);
  evaluation.port = *authority->port;
  if (decide_tcp(snapshot, evaluation)) return evaluation;
  return denied(std::move(evaluation), Reason::opaque_not_allowed,
                snapshot.explain_tcp(evaluation.host.name, evaluation.port));
}

Evaluation decide(const Snapshot& snapshot, Evaluation evaluation, std::string_view origin) {
  const Destination destination{evaluation.scheme, evaluation.host.name, evaluation.port};
  auto target = request::canonical_target(origin, snapshot.target_options(destination));
  if (!target && evaluation.scheme == request::Scheme::https) {
    // Nobody looks into a connection that is passed through, so no path can be wrong in it.
    const ConnectionDecision connection = snapshot.decide_connection(destination);
    if (connection.action == ConnectionAction::pass_through) target = request::Target{};
  }
  if (!target) return denied(std::move(evaluation), Reason::malformed_target, std::move(target.error().text));
  evaluation.target = std::move(*target);
  const Endpoint* reading = snapshot.reading(destination);
  if (!evaluation.action.empty() && (reading == nullptr || reading->operations.protocol == action::Protocol::none)) {
    return denied(std::move(evaluation), Reason::action_not_allowed,
                  "No endpoint says where the action of such a request stands. Give it operations.");
  }
  evaluation.decision =
      snapshot.decide_request(destination, evaluation.method, evaluation.target.path(), evaluation.action);
  if (!evaluation.decision.allowed) {
    evaluation.text = snapshot.explain(evaluation.decision, destination, evaluation.method, evaluation.target.path(),
                                       evaluation.action);
    return evaluation;
  }
  return with_address_checked(std::move(evaluation));
}

}  // namespace

std::string Evaluation::url() const {
  if (target.text.empty()) return {};
  const bool v6 = host.address && !host.address->is_v4();
  std::string out = scheme == request::Scheme::http ? "http://" : "https://";
  out += v6 ? "[" + host.name + "]" : host.name;
  if (port != default_port(scheme)) out += ":" + std::to_string(port);
  return out + target.text;
}

Result<Evaluation> evaluate(const Snapshot& snapshot, std::string_view request) {
  if (request.starts_with(kTcp)) return evaluate_tcp(snapshot, request);
  const std::size_t space = request.find(' ');
  if (space == std::string_view::npos) return not_a_request(request, "it needs a method and a URL");
  Evaluation evaluation;
  evaluation.method = request.substr(0, space);
  if (!is_token(evaluation.method)) return not_a_request(request, quoted(evaluation.method) + " is not a method");
  std::string_view rest = request.substr(space + 1);
  if (const std::size_t second = rest.find(' '); second != std::string_view::npos) {
    evaluation.action = rest.substr(second + 1);
    rest = rest.substr(0, second);
    if (!action::is_action(evaluation.action)) {
      return not_a_request(request, quoted(evaluation.action) + " is not an action");
    }
  }
  const auto url = request::split_absolute_form(rest);
  if (!url) return not_a_request(request, url.error().text);
  evaluation.scheme =
      url->scheme.size() == std::string_view("http").size() ? request::Scheme::http : request::Scheme::https;
  auto authority = request::parse_authority(url->authority);
  if (!authority) return denied(std::move(evaluation), Reason::malformed_target, authority.error().text);
  evaluation.host = std::move(authority->host);
  evaluation.port = authority->port.value_or(default_port(evaluation.scheme));
  if (decide_tcp(snapshot, evaluation)) return evaluation;
  if (evaluation.method == "CONNECT") {
    return denied(std::move(evaluation), Reason::unsupported_method, "The guard relays no tunnels.");
  }
  if (std::ranges::any_of(evaluation.method, [](char c) { return c >= 'a' && c <= 'z'; })) {
    return denied(std::move(evaluation), Reason::unsupported_method, "Write the method in upper case.");
  }
  return decide(snapshot, std::move(evaluation), url->origin);
}

}  // namespace sallyport::document
