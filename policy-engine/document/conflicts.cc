#include "policy-engine/document/conflicts.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

namespace sallyport::document {

namespace {

// What must be equal among endpoints that can be reached by one connection.
using Nature = std::tuple<Protocol, Inspection, request::Scheme, bool, bool, std::string>;

Nature nature_of(const Endpoint& endpoint) {
  return {endpoint.protocol,
          endpoint.inspection,
          endpoint.scheme,
          endpoint.target.encoded_slashes,
          endpoint.target.merge_slashes,
          endpoint.operations.to_string()};
}

bool can_coexist(const Nature& a, const Nature& b) {
  if (std::get<Protocol>(a) != std::get<Protocol>(b)) return false;
  if (std::get<Inspection>(a) != std::get<Inspection>(b)) return false;
  if (std::get<Inspection>(a) == Inspection::none) return true;
  return std::get<request::Scheme>(a) != std::get<request::Scheme>(b) || a == b;
}

// The ports that endpoints of one host and one nature have, each with the first endpoint that has it.
struct Ports {
  std::map<std::uint16_t, const Endpoint*> first;
  const Endpoint* any = nullptr;

  const Endpoint* overlap(const Endpoint& endpoint) const {
    if (any != nullptr) return any;
    if (endpoint.any_port) return first.empty() ? nullptr : first.begin()->second;
    for (const std::uint16_t port : endpoint.ports) {
      if (const auto found = first.find(port); found != first.end()) return found->second;
    }
    return nullptr;
  }

  void add(const Endpoint& endpoint) {
    if (endpoint.any_port && any == nullptr) any = &endpoint;
    for (const std::uint16_t port : endpoint.ports) first.emplace(port, &endpoint);
  }
};

// True if every host of the pattern `inner` is one of `outer`, and they are not the same.
bool is_inside(std::string_view inner, std::string_view outer) {
  if (outer == "any") return inner != "any";
  if (!outer.starts_with("*.") || inner.size() <= outer.size()) return false;
  return inner.ends_with(outer.substr(1));
}

bool share_a_port(const Endpoint& tcp, const Endpoint& other) {
  return other.any_port || std::ranges::any_of(tcp.ports, [&](std::uint16_t port) {
           return std::ranges::binary_search(other.ports, port);
         });
}

// The more exact host decides, so what is relayed unread goes before the rules of a wildcard around it. That may be
// meant; the other way round the rules hold.
void check_shadow(const Endpoint& tcp, const std::vector<Endpoint>& endpoints, std::span<const Place> places,
                  Diagnostics& diagnostics) {
  for (const Endpoint& other : endpoints) {
    if (other.protocol == Protocol::tcp || !is_inside(tcp.host_pattern, other.host_pattern)) continue;
    if (!share_a_port(tcp, other)) continue;
    diagnostics.warning(places[tcp.index],
                        "endpoint " + quoted(tcp.name) + " relays a port unread that endpoint " + quoted(other.name) +
                            " in line " + std::to_string(other.line) + " has for this host too: what that one says " +
                            "does not hold there",
                        "give them different ports if that is not meant");
    return;
  }
}

}  // namespace

void check_conflicts(const std::vector<Endpoint>& endpoints, std::span<const Place> places, Diagnostics& diagnostics) {
  std::map<std::string_view, std::map<Nature, Ports>> hosts;
  for (const Endpoint& endpoint : endpoints) {
    const Nature nature = nature_of(endpoint);
    auto& natures = hosts[endpoint.host_pattern];
    for (const auto& [other_nature, ports] : natures) {
      const Endpoint* other = can_coexist(nature, other_nature) ? nullptr : ports.overlap(endpoint);
      if (other == nullptr) continue;
      const bool protocol = endpoint.protocol != other->protocol;
      const bool inspection = protocol || endpoint.inspection != other->inspection;
      const bool operations = endpoint.operations != other->operations;
      diagnostics.error(places[endpoint.index],
                        "endpoints " + quoted(other->name) + " and " + quoted(endpoint.name) +
                            " have the same host and port, but " +
                            (protocol     ? "one has protocol: tcp and the other has not"
                             : inspection ? "one is inspected and the other is not"
                             : operations ? "not the same operations"
                                          : "not the same allowEncodedSlashes and mergeSlashes"),
                        "the first is in line " + std::to_string(other->line) +
                            (inspection ? "; give them different ports" : "; give both the same values"));
      break;
    }
    natures[nature].add(endpoint);
  }
  for (const Endpoint& endpoint : endpoints) {
    if (endpoint.protocol == Protocol::tcp) check_shadow(endpoint, endpoints, places, diagnostics);
  }
}

}  // namespace sallyport::document
