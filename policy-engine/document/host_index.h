#pragma once
// From a host to the endpoints whose pattern has it, in the order in which they are tried, without allocating.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy-engine/document/host_pattern.h"

namespace sallyport::document {

class HostIndex {
 public:
  // Endpoints of one pattern keep the order in which they are added.
  void add(const HostPattern& pattern, std::uint32_t endpoint) {
    switch (pattern.kind) {
      case HostPattern::Kind::exact:
        exact_[pattern.text].push_back(endpoint);
        return;
      case HostPattern::Kind::any:
        any_.push_back(endpoint);
        return;
      case HostPattern::Kind::wildcard:
        break;
    }
    const std::string suffix = pattern.text.substr(2);
    wildcard_labels_max_ = std::max(wildcard_labels_max_, labels(suffix));
    wildcard_[suffix].push_back(endpoint);
  }

  // Calls visit(endpoint) for exact hosts, then wildcards from the longest to the shortest, then `any`, until it
  // returns true; returns whether it did. An empty host has no endpoint, not even `any`: nobody knows where it would
  // go.
  template <class Visit>
  bool visit(std::string_view host, Visit&& visit) const {
    if (host.empty()) return false;
    if (visit_list(exact_, host, visit)) return true;
    std::size_t left = wildcard_labels_max_ == 0 ? 0 : labels(host);
    for (std::size_t dot = host.find('.'); left > 1 && dot != std::string_view::npos; dot = host.find('.', dot + 1)) {
      // Names with very many labels cost no more lookups than the policy has kinds of wildcards.
      if (--left > wildcard_labels_max_) continue;
      if (visit_list(wildcard_, host.substr(dot + 1), visit)) return true;
    }
    return std::ranges::any_of(any_, visit);
  }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Map = std::unordered_map<std::string, std::vector<std::uint32_t>, Hash, std::equal_to<>>;

  static std::size_t labels(std::string_view host) {
    return static_cast<std::size_t>(std::ranges::count(host, '.')) + 1;
  }

  template <class Visit>
  static bool visit_list(const Map& map, std::string_view key, Visit&& visit) {
    const auto found = map.find(key);
    return found != map.end() && std::ranges::any_of(found->second, visit);
  }

  Map exact_;
  Map wildcard_;  // by what follows "*."
  std::vector<std::uint32_t> any_;
  std::size_t wildcard_labels_max_ = 0;
};

}  // namespace sallyport::document
