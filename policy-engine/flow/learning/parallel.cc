#include "policy-engine/flow/learning/parallel.h"

#include <algorithm>
#include <numeric>

#include "base/limits.h"

namespace sallyport::flow::learning {

namespace {

void add_both(Relation& relation, Symbol a, Symbol b) {
  relation.add(a, b);
  relation.add(b, a);
}

Relation overlapping(const Executions& executions, const Grouping& grouping) {
  Relation out(grouping.patterns.size());
  for (ExecutionId id = 0; id < executions.size(); ++id) {
    const auto exchanges = executions[id];
    for (std::size_t i = 0; i < exchanges.size(); ++i) {
      // Of very many at once only the next ones are compared, so that the time is linear; others show the rest.
      const std::size_t end = std::min<std::size_t>(exchanges[i].reach, i + 1 + limits::kLearnParallelMax);
      for (std::size_t j = i + 1; j < end; ++j) {
        add_both(out, grouping.symbol_of[exchanges[i].operation], grouping.symbol_of[exchanges[j].operation]);
      }
    }
  }
  return out;
}

// By symbol, the least symbol that it is connected with.
std::vector<Symbol> components(const Relation& relation) {
  std::vector<Symbol> parent(relation.size());
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](Symbol symbol) {
    while (parent[symbol] != symbol) symbol = parent[symbol] = parent[parent[symbol]];
    return symbol;
  };
  for (Symbol a = 0; a < relation.size(); ++a) {
    for (Symbol b = a + 1; b < relation.size(); ++b) {
      if (!relation.has(a, b)) continue;
      const Symbol low = std::min(root(a), root(b));
      const Symbol high = std::max(root(a), root(b));
      parent[high] = low;
    }
  }
  for (Symbol symbol = 0; symbol < relation.size(); ++symbol) parent[symbol] = root(symbol);
  return parent;
}

// Which symbols came before which others among neighbours of one component, by their first appearances.
Relation orders_within(const Executions& executions, const Grouping& grouping, const std::vector<Symbol>& component) {
  Relation before(component.size());
  std::vector<Symbol> seen;
  for (ExecutionId id = 0; id < executions.size(); ++id) {
    seen.clear();
    for (const Exchange& exchange : executions[id]) {
      const Symbol symbol = grouping.symbol_of[exchange.operation];
      if (!seen.empty() && component[seen[0]] != component[symbol]) seen.clear();
      if (std::ranges::find(seen, symbol) != seen.end()) continue;
      if (seen.size() == limits::kFlowStepsMax) continue;  // no set has more
      for (const Symbol other : seen) before.add(other, symbol);
      seen.push_back(symbol);
    }
  }
  return before;
}

bool joins(const Run& run, Symbol symbol, const Relation& parallel) {
  const bool member = std::ranges::find(run, symbol, &Run::value_type::first) != run.end();
  if (!member && run.size() == limits::kFlowStepsMax) return false;
  return std::ranges::all_of(
      run, [&](const auto& part) { return part.first == symbol || parallel.has(part.first, symbol); });
}

void add(Run& run, Symbol symbol) {
  const auto at = std::ranges::lower_bound(run, symbol, {}, &Run::value_type::first);
  if (at != run.end() && at->first == symbol) {
    ++at->second;
  } else {
    run.insert(at, {symbol, 1});
  }
}

}  // namespace

Relation parallel_pairs(const Executions& executions, const Grouping& grouping) {
  Relation out = overlapping(executions, grouping);
  const std::vector<Symbol> component = components(out);
  const Relation before = orders_within(executions, grouping, component);
  for (Symbol a = 0; a < out.size(); ++a) {
    for (Symbol b = a + 1; b < out.size(); ++b) {
      if (component[a] == component[b] && before.has(a, b) && before.has(b, a)) add_both(out, a, b);
    }
  }
  return out;
}

std::vector<Run> runs_of(std::span<const Exchange> exchanges, const Grouping& grouping, const Relation& parallel) {
  std::vector<Run> runs;
  for (const Exchange& exchange : exchanges) {
    const Symbol symbol = grouping.symbol_of[exchange.operation];
    if (runs.empty() || !joins(runs.back(), symbol, parallel)) runs.emplace_back();
    add(runs.back(), symbol);
  }
  return runs;
}

ParallelSets::ParallelSets(std::vector<std::vector<Symbol>> members, const Relation& parallel)
    : members_(std::move(members)) {
  std::ranges::sort(members_);
  members_.erase(std::unique(members_.begin(), members_.end()), members_.end());
  index_.resize(members_.size());
  std::vector<std::size_t> order(members_.size());
  std::iota(order.begin(), order.end(), 0);
  // The largest first; they are sorted otherwise.
  std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(SIZE_MAX - members_[i].size(), i); });
  const auto fits = [&](const std::vector<Symbol>& set, const std::vector<Symbol>& more) {
    bool shared = false;
    for (const Symbol a : more) {
      for (const Symbol b : set) {
        shared |= a == b;
        if (a != b && !parallel.has(a, b)) return false;
      }
    }
    return shared;
  };
  for (const std::size_t i : order) {
    const auto found = std::ranges::find_if(sets_, [&](const auto& set) { return fits(set, members_[i]); });
    index_[i] = static_cast<std::size_t>(found - sets_.begin());
    if (found == sets_.end()) {
      sets_.push_back(members_[i]);
      continue;
    }
    std::vector<Symbol> both;
    std::ranges::set_union(*found, members_[i], std::back_inserter(both));
    if (both.size() <= limits::kFlowStepsMax) {
      *found = std::move(both);
    } else {
      index_[i] = sets_.size();
      sets_.push_back(members_[i]);
    }
  }
}

const std::vector<Symbol>& ParallelSets::set_of(const std::vector<Symbol>& members) const {
  const auto at = std::ranges::lower_bound(members_, members);
  return sets_[index_[static_cast<std::size_t>(at - members_.begin())]];
}

}  // namespace sallyport::flow::learning
