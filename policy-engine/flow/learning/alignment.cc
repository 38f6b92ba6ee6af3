#include "policy-engine/flow/learning/alignment.h"

#include <algorithm>
#include <limits>

#include "base/limits.h"

namespace sallyport::flow::learning {

namespace {

// What is rather believed: that something came more often than that it came in another order, and that than that it is
// something new.
constexpr double kCounter = 1;
constexpr double kEdge = 10;
constexpr double kNode = 25;

std::size_t step_of(const AlignNode& node, Symbol symbol) {
  return static_cast<std::size_t>(std::ranges::find(node.symbols, symbol) - node.symbols.begin());
}

std::size_t end_of_run(const std::vector<Symbol>& symbols, std::size_t begin) {
  std::size_t end = begin;
  while (end < symbols.size() && symbols[end] == symbols[begin]) ++end;
  return end;
}

// The end of one pass through a group: its steps in their order, each as often as it comes, those that need not come
// left out. `begin` itself if the pass does not begin here.
std::size_t end_of_pass(const AlignNode& node, const std::vector<Symbol>& symbols, std::size_t begin) {
  std::size_t at = begin;
  for (std::size_t step = 0; step < node.symbols.size(); ++step) {
    const std::size_t from = at;
    while (at < symbols.size() && symbols[at] == node.symbols[step]) ++at;
    if (at == from && node.times[step].least > 0) return begin;
  }
  return at;
}

}  // namespace

Counted counted(const AlignNode& node, const std::vector<Symbol>& symbols, std::size_t begin, std::size_t end) {
  Counted out;
  out.least.assign(node.symbols.size(), UINT32_MAX);
  out.most.assign(node.symbols.size(), 0);
  for (std::size_t at = begin; at < end; ++out.passes) {
    const std::size_t stop = node.kind == StepKind::group ? end_of_pass(node, symbols, at) : end;
    std::vector<std::uint32_t> counts(node.symbols.size(), 0);
    for (; at < stop; ++at) ++counts[step_of(node, symbols[at])];
    for (std::size_t step = 0; step < counts.size(); ++step) {
      out.least[step] = std::min(out.least[step], counts[step]);
      out.most[step] = std::max(out.most[step], counts[step]);
    }
  }
  if (node.kind == StepKind::request || node.kind == StepKind::loop) {
    out.passes = static_cast<std::uint32_t>(end - begin);
  }
  return out;
}

// Where a visit that begins there may end: as far as the counters allow, and as far as it would go.
std::vector<std::size_t> Alignment::ends_of(const AlignNode& node, const std::vector<Symbol>& symbols,
                                            std::size_t begin) const {
  std::vector<std::size_t> ends;
  switch (node.kind) {
    case StepKind::request: {
      if (symbols[begin] != node.symbols[0]) return ends;
      const std::size_t end = end_of_run(symbols, begin);
      ends = {std::min<std::size_t>(begin + node.passes.most, end), end};
      break;
    }
    case StepKind::group:
      for (std::size_t at = begin, next = end_of_pass(node, symbols, begin); next > at;) {
        at = next;
        if (ends.size() + 1 <= node.passes.most) ends.push_back(at);
        if (at == symbols.size() || (next = end_of_pass(node, symbols, at)) <= at) {
          ends.push_back(at);
          break;
        }
      }
      if (ends.size() > 2) ends.erase(ends.begin(), ends.end() - 2);
      break;
    case StepKind::set:
    case StepKind::loop: {
      std::size_t end = begin;
      while (end < symbols.size() && step_of(node, symbols[end]) < node.symbols.size()) ++end;
      if (end > begin) ends = {end};
      break;
    }
  }
  if (ends.size() == 2 && ends[0] == ends[1]) ends.pop_back();
  return ends;
}

double Alignment::cost_of(const AlignNode& node, const std::vector<Symbol>& symbols, std::size_t begin,
                          std::size_t end) const {
  const Counted count = counted(node, symbols, begin, end);
  double cost = 0;
  const bool passes_counted = node.kind != StepKind::set;
  if (passes_counted && (count.passes > node.passes.most || count.passes < node.passes.least)) cost += kCounter;
  for (std::size_t step = 0; node.kind != StepKind::request && step < node.symbols.size(); ++step) {
    if (count.most[step] > node.times[step].most || count.least[step] < node.times[step].least) cost += kCounter;
  }
  return cost;
}

double Alignment::cost_of_edge(const State& from, std::uint32_t to) const {
  const std::uint32_t node = from.visit.end == 0 ? static_cast<std::uint32_t>(nodes_.size()) : from.visit.node;
  if (node == kNewNode) return kEdge;
  return std::ranges::binary_search(edges_[node], to) ? 0 : kEdge;
}

Result<std::vector<Visit>> Alignment::align(const std::vector<Symbol>& symbols) const {
  if (symbols.size() * (nodes_.size() + 1) > limits::kLearnStepsMax / 64) {
    return fail(ErrorSource::policy, ErrorKind::limit,
                "an execution of so many requests cannot be merged into so large a graph");
  }
  // By how many symbols are taken, by node: the cheapest way.
  std::vector<State> states = {State{}};
  std::vector<std::vector<std::size_t>> at(symbols.size() + 1);
  at[0] = {0};
  for (std::size_t begin = 0; begin < symbols.size(); ++begin) {
    std::map<std::pair<std::size_t, std::uint32_t>, State> best;  // by end and node
    const auto offer = [&](std::size_t from, std::uint32_t node, std::size_t end, double cost, std::size_t position) {
      const State state{states[from].cost + cost, from, {node, begin, end}, position};
      const auto [found, made] = best.try_emplace({end, node}, state);
      if (!made && (state.cost < found->second.cost ||
                    (state.cost == found->second.cost && state.position < found->second.position))) {
        found->second = state;
      }
    };
    for (std::uint32_t node = 0; node < nodes_.size(); ++node) {
      for (const std::size_t end : ends_of(nodes_[node], symbols, begin)) {
        const double cost = cost_of(nodes_[node], symbols, begin, end);
        for (const std::size_t from : at[begin]) {
          const bool forward = begin == 0 || nodes_[node].position > states[from].position;
          if (forward) offer(from, node, end, cost + cost_of_edge(states[from], node), nodes_[node].position);
        }
      }
    }
    for (const std::size_t from : at[begin]) {
      offer(from, kNewNode, end_of_run(symbols, begin), kNode + kEdge, states[from].position);
    }
    for (auto& [key, state] : best) {
      at[key.first].push_back(states.size());
      states.push_back(state);
    }
  }
  std::vector<Visit> out;
  const auto cost_at_end = [&](std::size_t i) { return std::pair(states[i].cost, i); };
  for (std::size_t i = *std::ranges::min_element(at.back(), {}, cost_at_end); i != 0; i = states[i].from) {
    out.push_back(states[i].visit);
  }
  std::ranges::reverse(out);
  return out;
}

}  // namespace sallyport::flow::learning
