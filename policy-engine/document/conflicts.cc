#include "policy-engine/document/conflicts.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

namespace sallyport::document {

namespace {

// What must be equal among endpoints that can be reached by one connection.
using Nature = std::tuple<Inspection, request::Scheme, bool, bool>;

Nature nature_of(const Endpoint& endpoint) {
  return {endpoint.inspection, endpoint.scheme, endpoint.target.encoded_slashes, endpoint.target.merge_slashes};
}

bool can_coexist(const Nature& a, const Nature& b) {
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

}  // namespace

void check_conflicts(const std::vector<Endpoint>& endpoints, std::span<const Place> places, Diagnostics& diagnostics) {
  std::map<std::string_view, std::map<Nature, Ports>> hosts;
  for (const Endpoint& endpoint : endpoints) {
    const Nature nature = nature_of(endpoint);
    auto& natures = hosts[endpoint.host_pattern];
    for (const auto& [other_nature, ports] : natures) {
      const Endpoint* other = can_coexist(nature, other_nature) ? nullptr : ports.overlap(endpoint);
      if (other == nullptr) continue;
      const bool inspection = endpoint.inspection != other->inspection;
      diagnostics.error(places[endpoint.index],
                        "endpoints " + quoted(other->name) + " and " + quoted(endpoint.name) +
                            " have the same host and port, but " +
                            (inspection ? "one is inspected and the other is not"
                                        : "not the same allowEncodedSlashes and mergeSlashes"),
                        "the first is in line " + std::to_string(other->line) +
                            (inspection ? "; give them different ports" : "; give both the same values"));
      break;
    }
    natures[nature].add(endpoint);
  }
}

}  // namespace sallyport::document
