#include "proxy/guard/explicit_proxy.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "policy-engine/request/target.h"
#include "proxy/net/proxy_connect.h"

namespace sallyport::guard {
namespace {

std::unexpected<http1::RequestFailure> refuse(Reason reason, std::string text) {
  return std::unexpected(http1::RequestFailure{reason, std::move(text), true});
}

// A name that leads back here is not looked up yet; the listener then gets a request that is not for a proxy, or a
// connection that was not redirected, and refuses that.
bool leads_back(const request::Host& host, std::uint16_t port, const net::LocalAddr& local) {
  return host.address && net::is_own_listener({*host.address, port}, local);
}

// What the guard itself asked an upstream proxy for, which led it back here: to go on would never end.
bool asked_by_this_guard(const request::RequestHead& head) {
  return std::ranges::any_of(head.headers, [](const request::Header& field) {
    return request::name_equals(field.name, "via") && field.value.find(net::via_pseudonym()) != std::string_view::npos;
  });
}

}  // namespace

std::expected<ProxyDestination, http1::RequestFailure> destination_of_connect(const request::RequestHead& head,
                                                                              const net::LocalAddr& local) {
  if (asked_by_this_guard(head)) {
    return refuse(Reason::loop, "the policy's upstreamProxy leads back to this guard: " + std::string(head.target));
  }
  auto target = request::parse_authority(head.target);
  if (!target) return refuse(Reason::malformed_target, "CONNECT: " + target.error().text);
  if (!target->port) return refuse(Reason::malformed_target, "CONNECT: the target has no port");
  if (!head.authority.empty()) {
    const auto named = request::parse_authority(head.authority);
    if (!named) return refuse(Reason::malformed_target, "Host: " + named.error().text);
    // Clients leave the port out, or send what they will send inside.
    if (named->host != target->host || named->port.value_or(*target->port) != *target->port) {
      return refuse(Reason::host_mismatch, "CONNECT names " + target->host.name + ", but Host another destination");
    }
  }
  if (leads_back(target->host, *target->port, local)) {
    return refuse(Reason::loop, "the destination is the guard itself");
  }
  return ProxyDestination{std::move(target->host), *target->port};
}

std::expected<ConnectionFacts, http1::RequestFailure> facts_of_absolute_form(const request::RequestHead& head,
                                                                             const net::LocalAddr& local) {
  if (head.target.starts_with('/') || head.target == "*") {
    return refuse(Reason::malformed_target, "this is a proxy: a request names its destination, as http://host/path");
  }
  const auto absolute = request::split_absolute_form(head.target);
  if (!absolute) return refuse(Reason::malformed_target, absolute.error().text);
  if (!request::name_equals(absolute->scheme, "http")) {
    return refuse(Reason::malformed_target, "https goes through CONNECT, not through a request for an https URL");
  }
  auto named = request::parse_authority(absolute->authority);
  if (!named) return refuse(Reason::malformed_target, "request target: " + named.error().text);
  const std::uint16_t port = named->port.value_or(80);
  if (leads_back(named->host, port, local)) return refuse(Reason::loop, "the destination is the guard itself");
  return ConnectionFacts{request::Scheme::http, std::move(named->host), port, true};
}

}  // namespace sallyport::guard
