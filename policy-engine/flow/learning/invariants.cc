#include "policy-engine/flow/learning/invariants.h"

#include <algorithm>
#include <cmath>

namespace sallyport::flow::learning {

namespace {

constexpr std::uint32_t kNone = UINT32_MAX;
constexpr std::uint64_t kExecutionsMin = 10;  // with fewer all would be chance
constexpr double kChanceMax = 0.01;

// A breadth-first search, of which it is known by which way each node was reached.
class Search {
 public:
  Search(const std::vector<std::vector<std::uint32_t>>& edges, std::uint64_t& steps)
      : edges_(edges), steps_(steps), from_(edges.size(), kNone) {
    steps_ -= std::min<std::uint64_t>(steps_, edges.size() / 8);
  }

  void start(std::uint32_t node) {
    if (from_[node] != kNone) return;
    from_[node] = node;
    queue_.push_back(node);
  }

  // Visits what is reached, without the nodes that `avoid` is true of. False: the steps are used up.
  template <class Avoid>
  bool run(Avoid avoid) {
    for (std::size_t at = 0; at < queue_.size(); ++at) {
      for (const std::uint32_t node : edges_[queue_[at]]) {
        if (steps_ == 0) return false;
        --steps_;
        if (from_[node] != kNone || avoid(node)) continue;
        from_[node] = queue_[at];
        queue_.push_back(node);
      }
    }
    return true;
  }

  const std::vector<std::uint32_t>& reached() const { return queue_; }
  bool has(std::uint32_t node) const { return from_[node] != kNone; }

  // From where the search began to `node`.
  std::vector<std::uint32_t> way_to(std::uint32_t node) const {
    std::vector<std::uint32_t> way = {node};
    while (from_[way.back()] != way.back()) way.push_back(from_[way.back()]);
    std::ranges::reverse(way);
    return way;
  }

 private:
  const std::vector<std::vector<std::uint32_t>>& edges_;
  std::uint64_t& steps_;
  std::vector<std::uint32_t> from_;
  std::vector<std::uint32_t> queue_;
};

std::vector<std::vector<std::uint32_t>> nodes_by_type(const TypeGraph& graph, std::size_t types) {
  std::vector<std::vector<std::uint32_t>> out(types);
  for (std::uint32_t node = 0; node < graph.types.size(); ++node) out[graph.types[node]].push_back(node);
  return out;
}

}  // namespace

Invariants::Invariants(const std::vector<std::vector<Type>>& sequences, const std::vector<std::uint64_t>& executions,
                       std::size_t types)
    : types_(types),
      always_after_(types, TypeSet(types, true)),
      always_before_(types, TypeSet(types, true)),
      ever_after_(types, TypeSet(types)) {
  always_before_[kBegin] = always_after_[kEnd] = TypeSet(types);
  std::vector<std::uint64_t> counts(types, 0);
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    for (const Type type : sequences[i]) counts[type] += executions[i];
    all += executions[i];
  }
  for (const std::vector<Type>& sequence : sequences) {
    TypeSet after(types);
    after.add(kEnd);
    for (std::size_t i = sequence.size(); i-- > 0;) {
      always_after_[sequence[i]].keep(after);
      ever_after_[sequence[i]].add(after);
      after.add(sequence[i]);
    }
    always_after_[kBegin].keep(after);
    ever_after_[kBegin].add(after);
    TypeSet before(types);
    before.add(kBegin);
    for (const Type type : sequence) {
      always_before_[type].keep(before);
      before.add(type);
    }
    always_before_[kEnd].keep(before);
  }
  if (all >= kExecutionsMin) drop_chance(counts, all);
}

void Invariants::drop_chance(const std::vector<std::uint64_t>& counts, std::uint64_t all) {
  const auto k = static_cast<double>(all);
  // Whether `times` executions could all have been so by chance, if each is with the probability share / k.
  const auto is_chance = [&](std::uint64_t times, double share) {
    return share < k && static_cast<double>(times) * std::log(share / k) >= std::log(kChanceMax);
  };
  for (Type a = 2; a < types_; ++a) {
    for (Type b = 2; b < types_; ++b) {
      if (a == b) continue;  // what makes the graph free of cycles
      if (is_chance(counts[a], static_cast<double>(counts[b]))) always_after_[a].remove(b);
      if (is_chance(counts[b], static_cast<double>(counts[a]))) always_before_[b].remove(a);
    }
  }
  for (Type a = 2; a < types_; ++a) {
    for (Type b = a + 1; b < types_; ++b) {
      // Of those that met at all, the order is a rule.
      const bool met = ever_after_[a].has(b) || ever_after_[b].has(a);
      if (met || !is_chance(counts[a], k - static_cast<double>(counts[b]))) continue;
      ever_after_[a].add(b);
      ever_after_[b].add(a);
    }
  }
}

std::uint64_t Invariants::count() const {
  std::uint64_t count = 0;
  for (Type a = 2; a < types_; ++a) {
    if (always_after_[kBegin].has(a)) ++count;
    for (Type b = 2; b < types_; ++b) {
      count += (always_after_[a].has(b) ? 1 : 0) + (always_before_[b].has(a) ? 1 : 0) + (ever_after_[a].has(b) ? 0 : 1);
    }
  }
  return count;
}

std::optional<std::vector<std::uint32_t>> Invariants::counterexample(const TypeGraph& graph,
                                                                     std::uint64_t& steps) const {
  const auto by_type = nodes_by_type(graph, types_);
  Search all(graph.next, steps);
  all.start(kBegin);
  if (!all.run([](std::uint32_t) { return false; })) return std::nullopt;
  const auto join = [](std::vector<std::uint32_t> way, const std::vector<std::uint32_t>& rest) {
    way.insert(way.end(), rest.begin() + 1, rest.end());
    return way;
  };
  // a NFby b, also of a with itself: that is what makes the graph free of cycles.
  for (Type a = 2; a < types_; ++a) {
    Search behind(graph.next, steps);
    for (const std::uint32_t node : by_type[a]) behind.start(node);
    if (!behind.run([](std::uint32_t) { return false; })) return std::nullopt;
    for (const std::uint32_t node : behind.reached()) {
      for (const std::uint32_t next : graph.next[node]) {
        if (ever_after_[a].has(graph.types[next])) continue;
        std::vector<std::uint32_t> way = behind.way_to(node);
        way = join(all.way_to(way[0]), way);
        way.push_back(next);
        return way;
      }
    }
  }
  // a AP b: no way to b avoids a.
  for (Type a = 2; a < types_; ++a) {
    Search without(graph.next, steps);
    without.start(kBegin);
    if (!without.run([&](std::uint32_t node) { return graph.types[node] == a; })) return std::nullopt;
    for (const std::uint32_t node : without.reached()) {
      if (always_before_[graph.types[node]].has(a)) return without.way_to(node);
    }
  }
  // a AFby b: no way from a to the end avoids b. Searched backwards.
  for (Type b = 2; b < types_; ++b) {
    Search without(graph.before, steps);
    without.start(kEnd);
    if (!without.run([&](std::uint32_t node) { return graph.types[node] == b; })) return std::nullopt;
    for (const std::uint32_t node : without.reached()) {
      if (!all.has(node) || !always_after_[graph.types[node]].has(b)) continue;
      std::vector<std::uint32_t> rest = without.way_to(node);
      std::ranges::reverse(rest);
      return join(all.way_to(node), rest);
    }
  }
  return std::nullopt;
}

}  // namespace sallyport::flow::learning
