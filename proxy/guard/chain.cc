#include "proxy/guard/chain.h"

#include <algorithm>

namespace sallyport::guard {
namespace {

std::uint16_t default_port(request::Scheme scheme) { return scheme == request::Scheme::https ? 443 : 80; }

Verdict refuse(Reason reason, std::string text) { return {Outcome::deny, reason, std::move(text)}; }

bool same_scheme(std::string_view text, request::Scheme scheme) {
  return request::name_equals(text, scheme == request::Scheme::https ? "https" : "http");
}

std::string authority_of(const Route& route) {
  std::string text = route.literal && !route.literal->is_v4() ? "[" + route.host + "]" : route.host;
  if (route.port != default_port(route.scheme)) text += ":" + std::to_string(route.port);
  return text;
}

// One destination for everything that names it: SNI, Host or :authority, and an absolute-form target.
std::optional<Verdict> settle_destination(const ConnectionFacts& facts, std::string_view authority, Route& route) {
  route.scheme = facts.scheme;
  route.port = facts.port;
  if (authority.empty() || authority == facts.host.name) {
    route.host = facts.host.name;
    route.literal = facts.host.address;
    return std::nullopt;
  }
  Result<request::Authority> parsed = request::parse_authority(authority);
  if (!parsed) return refuse(Reason::malformed_target, "Host: " + parsed.error().text);
  // TLS was agreed on for one name, and the port is the one that was dialled. A request that names another destination
  // is domain fronting, whatever the policy says of either name.
  const bool one_host = facts.scheme == request::Scheme::https || facts.one_host;
  if (one_host && parsed->host.name != facts.host.name) {
    return refuse(Reason::host_mismatch, "the request names the host " + parsed->host.name +
                                             ", but the connection was made for " + facts.host.name +
                                             ": one connection speaks for one host");
  }
  if (parsed->port && *parsed->port != facts.port) {
    return refuse(Reason::host_mismatch, "the request names port " + std::to_string(*parsed->port) +
                                             ", but the connection was made to port " + std::to_string(facts.port));
  }
  route.host = std::move(parsed->host.name);
  route.literal = parsed->host.address;
  return std::nullopt;
}

std::optional<Verdict> settle_target(const request::RequestHead& head, const request::TargetOptions& options,
                                     Route& route) {
  std::string_view raw = head.target;
  if (raw == "*") {
    route.target = {"*", 1};
    return std::nullopt;
  }
  if (!raw.empty() && raw[0] != '/') {
    Result<request::AbsoluteForm> absolute = request::split_absolute_form(raw);
    if (!absolute) return refuse(Reason::malformed_target, absolute.error().text);
    Result<request::Authority> named = request::parse_authority(absolute->authority);
    if (!named) return refuse(Reason::malformed_target, "request target: " + named.error().text);
    bool same = same_scheme(absolute->scheme, route.scheme) && named->host.name == route.host &&
                named->port.value_or(default_port(route.scheme)) == route.port;
    if (!same)
      return refuse(Reason::host_mismatch, "the request target and the Host field name different destinations");
    raw = absolute->origin;
  }
  Result<request::Target> target = request::canonical_target(raw, options);
  if (!target) return refuse(Reason::malformed_target, target.error().text);
  route.target = std::move(*target);
  return std::nullopt;
}

std::string describe(const credentials::Applied& applied) {
  std::string name = applied.binding ? "'" + applied.binding->name + "'" : "";
  switch (applied.reason) {
    case Reason::placeholder_misuse:
      return "the placeholder of credential " + name + " was found in " + std::string(applied.place) +
             ": it is good only in its own field, for its own endpoint";
    case Reason::foreign_credential:
      return "the request carries a credential of its own where only " + name + " may be used";
    case Reason::credential_unavailable:
      return "the credential " + name +
             " could not be injected: its secret was not read, or the way to the server is not TLS";
    default:
      return "the credential " + name + " could not be injected";
  }
}

// Servers in the manner of CGI take "X_Http_Method" for "X-Http-Method".
bool same_field(std::string_view a, std::string_view b) {
  const auto folded = [](char c) { return c == '_' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  return std::ranges::equal(a, b, {}, folded, folded);
}

bool is_ours(std::string_view name) {
  return (name.size() > 10 && same_field(name.substr(0, 10), "sallyport-")) || same_field(name, tag::kEventField);
}

bool must_not_leave(std::string_view name) {
  static constexpr std::string_view kOverrides[] = {"x-http-method-override", "x-http-method", "x-method-override",
                                                    "x-original-url", "x-rewrite-url"};
  switch (name.empty() ? 0 : name[0] | 0x20) {
    case 'x':
      return std::ranges::any_of(kOverrides, [name](std::string_view one) { return same_field(name, one); });
    case 'c':
    case 's':  // tags and the guard's own fields can't be forged by the function
      return is_ours(name);
    default:
      return false;
  }
}

// The server sends back what it got (RFC 9110 section 9.3.8), and the credential with it.
bool is_echoed(std::string_view method) { return method == "TRACE" || method == "TRACK"; }

// A method or path override would make the request another one than the one that was decided.
void strip_request(request::RequestHead& head) {
  for (std::size_t i = head.headers.size(); i-- > 0;) {
    if (must_not_leave(head.headers[i].name)) head.headers.erase_at(i);
  }
}

// Whether it matters which action the request has.
bool has_action(const Route& route, const request::RequestHead& head) {
  return route.reading != nullptr && route.reading->operations.protocol != action::Protocol::none &&
         route.policy->could_allow(route.destination(), head.method, route.target.path());
}

// A route may have been another request's before: nothing of that is to be told of this one.
void begin_route(std::shared_ptr<const document::Snapshot> policy, Route& route) {
  route.policy = std::move(policy);
  route.host.clear();
  route.literal.reset();
  route.authority.clear();
  route.target = {};
  route.reading = nullptr;
  route.action.clear();
  route.endpoint = nullptr;
  route.binding = nullptr;
  route.rule = -1;
}

}  // namespace

std::optional<Verdict> settle(const ConnectionFacts& facts, std::shared_ptr<const document::Snapshot> policy,
                              const request::RequestHead& head, Route& route) {
  begin_route(std::move(policy), route);
  if (auto refused = settle_destination(facts, head.authority, route)) return refused;
  route.authority = authority_of(route);
  route.reading = route.policy->reading(route.destination());
  return settle_target(head, route.reading == nullptr ? request::TargetOptions{} : route.reading->target, route);
}

std::optional<Verdict> settle_inbound(const ConnectionFacts& facts, std::shared_ptr<const document::Snapshot> policy,
                                      const request::RequestHead& head, Route& route) {
  begin_route(std::move(policy), route);
  route.scheme = facts.scheme;
  route.host = facts.host.name;
  route.literal = facts.host.address;
  route.port = facts.port;
  if (!head.authority.empty()) {
    Result<request::Authority> named = request::parse_authority(head.authority);
    if (!named) return refuse(Reason::malformed_target, "Host: " + named.error().text);
    route.host = std::move(named->host.name);
    route.literal = named->host.address;
    route.port = named->port.value_or(default_port(route.scheme));
  }
  route.authority = authority_of(route);
  return settle_target(head, {.encoded_slashes = true}, route);
}

bool needs_body(const Route& route, const request::RequestHead& head) {
  return has_action(route, head) && route.reading->operations.in_body();
}

Verdict decide(request::RequestHead& head, Route& route, bool websocket, std::string_view body) {
  if (has_action(route, head)) {
    Result<std::string> action =
        action::find_action(route.reading->operations, {head.headers, route.target.query(), body});
    if (!action) return refuse(Reason::malformed_action, "API action: " + action.error().text);
    route.action = std::move(*action);
  }
  const document::Snapshot& snapshot = *route.policy;
  const bool enforce = snapshot.mode() == document::Mode::enforce;
  Verdict verdict{Outcome::allow, Reason::none, {}};
  document::RequestDecision decision =
      snapshot.decide_request(route.destination(), head.method, route.target.path(), route.action);
  route.endpoint = decision.endpoint;
  route.rule = decision.rule;
  const bool no_websocket = websocket && decision.allowed && !decision.endpoint->websocket_allowed;
  if (no_websocket) {
    decision.allowed = false;
    decision.reason = Reason::websocket_not_allowed;
    route.rule = -1;  // as any denial: no credential, no client certificate
  }
  // Learning without a policy: there is nothing that the request could break.
  const bool nothing_to_break = snapshot.mode() == document::Mode::learn && snapshot.endpoints().empty();
  if (!decision.allowed && !nothing_to_break) {
    verdict = {enforce ? Outcome::deny : Outcome::would_deny, decision.reason,
               no_websocket
                   ? "Endpoint '" + route.endpoint->name + "' has websocket: {allow: false}."
                   : snapshot.explain(decision, route.destination(), head.method, route.target.path(), route.action)};
    if (enforce) return verdict;
  }

  // A credential goes only with a request that its endpoint allows: in learn and audit a would-be denial gets none.
  const credentials::Binding* bound =
      decision.allowed && route.endpoint != nullptr ? route.endpoint->credential : nullptr;
  if (bound != nullptr && is_echoed(head.method)) {
    verdict = {enforce ? Outcome::deny : Outcome::would_deny, Reason::method_not_allowed,
               std::string(head.method) + " asks the server to send the request back, and the credential '" +
                   bound->name + "' with it"};
    if (enforce) return verdict;
    bound = nullptr;
  }
  const bool verified_tls = route.scheme == request::Scheme::https;
  credentials::Applied applied = snapshot.bindings().apply(bound, verified_tls, route.target.text, head);
  if (applied.reason != Reason::none) {
    // A missing secret fails closed in every mode: the request could only fail at the server, or go there with a
    // placeholder.
    bool lets_through = !enforce && applied.reason != Reason::credential_unavailable;
    if (verdict.outcome == Outcome::allow) {
      verdict = {lets_through ? Outcome::would_deny : Outcome::deny, applied.reason, describe(applied)};
    }
    route.binding = applied.binding;
    if (!lets_through) return {Outcome::deny, applied.reason, describe(applied)};
  } else {
    route.binding = applied.binding;
  }
  strip_request(head);
  return verdict;
}

std::optional<Excess> exceeds_limits(const Route& route, std::string_view method, std::chrono::nanoseconds now) {
  const std::vector<document::Limit>& limits = route.policy->limits();
  for (auto limit = limits.begin(); limit != limits.end(); ++limit) {
    if (!limit->has(route.endpoint, method, route.action)) continue;
    const std::chrono::nanoseconds wait = limit->bucket->take(now);
    if (wait.count() == 0) continue;
    for (auto taken = limits.begin(); taken != limit; ++taken) {
      if (taken->has(route.endpoint, method, route.action)) taken->bucket->put_back();
    }
    const bool enforce = route.policy->mode() == document::Mode::enforce;
    const std::string burst = std::to_string(limit->bucket->rate().burst);
    return Excess{{enforce ? Outcome::deny : Outcome::would_deny, Reason::rate_limited,
                   "The limit '" + limit->name + "' lets " + limit->rate_text + " through, and " + burst + " at once."},
                  std::chrono::ceil<std::chrono::milliseconds>(wait)};
  }
  return std::nullopt;
}

void clean_request(request::RequestHead& head) { strip_request(head); }

void clean_inbound(request::RequestHead& head) {
  for (std::size_t i = head.headers.size(); i-- > 0;) {
    if (is_ours(head.headers[i].name)) head.headers.erase_at(i);
  }
}

void clean_response(request::ResponseHead& head) {
  for (std::size_t i = head.headers.size(); i-- > 0;) {
    std::string_view name = head.headers[i].name;
    char first = name.empty() ? '\0' : static_cast<char>(name[0] | 0x20);
    if (first == 'a' && request::name_equals(name, "alt-svc")) head.headers.erase_at(i);
    if ((first == 's' || first == 'c') && is_ours(name)) head.headers.erase_at(i);
  }
}

}  // namespace sallyport::guard
