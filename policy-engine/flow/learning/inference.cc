#include "policy-engine/flow/learning/inference.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "base/limits.h"
#include "policy-engine/flow/learning/invariants.h"

namespace sallyport::flow::learning {

namespace {

using NodeId = std::uint32_t;

// Making the graph of the parts anew takes as long as looking at this many edges for each event.
constexpr std::uint64_t kStepsPerEvent = 32;

// A step of one sequence.
struct Event {
  Type type = 0;
  std::uint32_t form = 0;
  std::uint32_t at = 0;
};

std::unexpected<Error> too_many_nodes() {
  return fail(ErrorSource::policy, ErrorKind::limit,
              "a graph of what was seen would have more than " + std::to_string(limits::kFlowNodesMax) +
                  " nodes: the executions have too little in common; lower --lcp-threshold, or learn several functions "
                  "apart");
}

class Inference {
 public:
  explicit Inference(const Sequences& sequences) : sequences_(sequences) { make_events(); }

  Result<StepGraph> infer() {
    std::vector<std::uint64_t> executions;
    for (const Form& form : sequences_.forms) executions.push_back(form.executions);
    const Invariants invariants(types_of_forms_, executions, types_.size());
    out_.invariants = invariants.count();
    if (!refine(invariants)) {
      // Closed: what no invariant could be checked of is not generalised at all.
      out_.exact = true;
      if (!share_endings()) return too_many_nodes();
    } else {
      coarsen(invariants);
      add_skips(invariants);
    }
    if (parts_.size() > limits::kFlowNodesMax) return too_many_nodes();
    return result();
  }

 private:
  // Types are a body and how many of it came before, so that none occurs twice in a sequence.
  void make_events() {
    std::map<std::pair<BodyId, std::uint32_t>, Type> numbers;
    for (const Form& form : sequences_.forms) {
      std::map<BodyId, std::uint32_t> nth;
      for (const BodyId body : form.bodies) numbers[{body, ++nth[body]}] = 0;
    }
    types_ = {{0, 0}, {0, 0}};
    for (auto& [key, number] : numbers) {
      number = static_cast<Type>(types_.size());
      types_.push_back(key);
    }
    for (std::uint32_t form = 0; form < sequences_.forms.size(); ++form) {
      first_.push_back(static_cast<std::uint32_t>(events_.size()));
      std::map<BodyId, std::uint32_t> nth;
      std::vector<Type> types;
      for (const BodyId body : sequences_.forms[form].bodies) {
        types.push_back(numbers.at({body, ++nth[body]}));
        events_.push_back({types.back(), form, static_cast<std::uint32_t>(types.size() - 1)});
      }
      types_of_forms_.push_back(std::move(types));
    }
    // One part for each type: accepts every sequence, and far too many more.
    parts_.assign(types_.size(), {});
    part_of_.resize(events_.size());
    for (std::uint32_t event = 0; event < events_.size(); ++event) {
      part_of_[event] = events_[event].type;
      parts_[events_[event].type].push_back(event);
    }
  }

  std::size_t length(std::uint32_t form) const { return types_of_forms_[form].size(); }
  NodeId after(std::uint32_t event) const {
    return events_[event].at + 1 == length(events_[event].form) ? kEnd : part_of_[event + 1];
  }
  // A part that was joined with another is empty, has no edges, and so any type.
  Type type_of(NodeId part) const {
    return part < 2 || parts_[part].empty() ? std::min(part, kEnd) : events_[parts_[part][0]].type;
  }

  TypeGraph graph() const {
    TypeGraph out;
    out.types.resize(parts_.size());
    out.next.resize(parts_.size());
    out.before.resize(parts_.size());
    for (NodeId part = 0; part < parts_.size(); ++part) out.types[part] = type_of(part);
    std::vector<std::pair<NodeId, NodeId>> edges(extra_.begin(), extra_.end());
    for (std::uint32_t form = 0; form < first_.size(); ++form) {
      edges.emplace_back(kBegin, length(form) == 0 ? kEnd : part_of_[first_[form]]);
    }
    for (std::uint32_t event = 0; event < events_.size(); ++event) edges.emplace_back(part_of_[event], after(event));
    std::ranges::sort(edges);
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    for (const auto& [from, to] : edges) {
      out.next[from].push_back(to);
      out.before[to].push_back(from);
    }
    return out;
  }

  bool spend(std::uint64_t steps) {
    steps_ -= std::min(steps, steps_);
    return steps_ > 0;
  }

  // Splits parts until no way through the graph breaks an invariant. False: given up.
  bool refine(const Invariants& invariants) {
    while (spend(kStepsPerEvent * events_.size() + 1) && parts_.size() <= limits::kFlowNodesMax) {
      const auto way = invariants.counterexample(graph(), steps_);
      if (steps_ == 0) return false;
      if (!way) return true;
      if (!split(*way)) return false;
    }
    return false;
  }

  // Follows the events that take the way, until there are none: there, those that go on as it does are told from those
  // that do not. No sequence goes all the way, as it would break the invariant itself.
  bool split(const std::vector<NodeId>& way) {
    std::vector<std::uint32_t> hot;
    for (std::uint32_t form = 0; form < first_.size(); ++form) {
      if (length(form) > 0 && part_of_[first_[form]] == way[1]) hot.push_back(first_[form]);
    }
    for (std::size_t i = 1; i + 1 < way.size(); ++i) {
      std::vector<std::uint32_t> next;
      for (const std::uint32_t event : hot) {
        if (after(event) == way[i + 1] && way[i + 1] != kEnd) next.push_back(event + 1);
        if (after(event) == way[i + 1] && way[i + 1] == kEnd) return false;
      }
      if (!next.empty()) {
        hot = std::move(next);
        continue;
      }
      std::vector<std::uint32_t> with, without;
      for (const std::uint32_t event : parts_[way[i]]) (after(event) == way[i + 1] ? with : without).push_back(event);
      if (with.empty() || without.empty()) return false;
      parts_[way[i]] = std::move(with);
      for (const std::uint32_t event : without) part_of_[event] = static_cast<NodeId>(parts_.size());
      parts_.push_back(std::move(without));
      return true;
    }
    return false;
  }

  // Joins parts of one type while every invariant holds, and there are steps left.
  void coarsen(const Invariants& invariants) {
    for (NodeId a = 2; a < parts_.size() && steps_ > 0; ++a) {
      for (NodeId b = a + 1; b < parts_.size() && steps_ > 0; ++b) {
        if (parts_[a].empty() || parts_[b].empty() || type_of(a) != type_of(b)) continue;
        if (spend(kStepsPerEvent * events_.size() + 1)) try_join(a, b, invariants);
      }
    }
    remove_empty();
  }

  void try_join(NodeId a, NodeId b, const Invariants& invariants) {
    const std::vector<std::uint32_t> moved = join(a, b);
    const bool broken = invariants.counterexample(graph(), steps_).has_value();
    if (!broken && steps_ > 0) return;
    // Apart again, also where it could not be checked to the end.
    parts_[a].resize(parts_[a].size() - moved.size());
    parts_[b] = moved;
    for (const std::uint32_t event : moved) part_of_[event] = b;
  }

  std::vector<std::uint32_t> join(NodeId a, NodeId b) {
    std::vector<std::uint32_t> moved = std::move(parts_[b]);
    parts_[b].clear();
    for (const std::uint32_t event : moved) part_of_[event] = a;
    parts_[a].insert(parts_[a].end(), moved.begin(), moved.end());
    return moved;
  }

  void remove_empty() {
    std::vector<std::vector<std::uint32_t>> kept = {{}, {}};
    for (NodeId part = 2; part < parts_.size(); ++part) {
      if (parts_[part].empty()) continue;
      for (const std::uint32_t event : parts_[part]) part_of_[event] = static_cast<NodeId>(kept.size());
      kept.push_back(std::move(parts_[part]));
    }
    parts_ = std::move(kept);
  }

  // Steps that were each left out, though never in one execution, may be left out together, where no invariant is
  // against it.
  void add_skips(const Invariants& invariants) {
    bool added = true;
    while (added && spend(kStepsPerEvent * events_.size() + 1)) {
      added = false;
      const TypeGraph now = graph();
      for (const auto& [from, to] : skips_of(now)) {
        extra_.emplace(from, to);
        if (!invariants.counterexample(graph(), steps_) && steps_ > 0) {
          added = true;
        } else {
          extra_.erase({from, to});
          refused_.emplace(from, to);
        }
        if (!spend(kStepsPerEvent * events_.size() + 1)) return;
      }
    }
  }

  // u→x→y→v where also u→y and x→v, but not u→v.
  std::set<std::pair<NodeId, NodeId>> skips_of(const TypeGraph& graph) {
    std::set<std::pair<NodeId, NodeId>> out;
    const auto has = [&](NodeId a, NodeId b) { return std::ranges::binary_search(graph.next[a], b); };
    for (NodeId u = 0; u < graph.next.size(); ++u) {
      for (const NodeId x : graph.next[u]) {
        for (const NodeId y : graph.next[x]) {
          if (y == kEnd || !has(u, y)) continue;
          for (const NodeId v : graph.next[y]) {
            if (!spend(1)) return {};
            if (has(x, v) && !has(u, v) && !refused_.contains({u, v})) out.emplace(u, v);
          }
        }
      }
    }
    return out;
  }

  // A tree of the sequences in which what ends alike is one: exactly the sequences.
  bool share_endings() {
    std::map<std::pair<std::uint32_t, Type>, std::uint32_t> children;  // of a node of the tree, by type
    std::vector<std::pair<std::uint32_t, Type>> tree = {{0, kBegin}};  // parent and type
    std::vector<std::set<std::uint32_t>> below(1);
    std::vector<bool> ends(1, false);
    std::vector<std::uint32_t> node_of(events_.size());
    for (std::uint32_t form = 0; form < first_.size(); ++form) {
      std::uint32_t node = 0;
      for (std::uint32_t i = 0; i < length(form); ++i) {
        const auto [found, made] = children.try_emplace({node, types_of_forms_[form][i]}, tree.size());
        if (made) {
          tree.emplace_back(node, types_of_forms_[form][i]);
          below.emplace_back();
          below[node].insert(found->second);
          ends.push_back(false);
        }
        node = node_of[first_[form] + i] = found->second;
      }
      ends[node] = true;
    }
    // Children have larger numbers than their parents, so from the last to the first all that is below is known.
    std::map<std::tuple<Type, bool, std::set<std::uint32_t>>, std::uint32_t> same;
    std::vector<std::uint32_t> part(tree.size());
    for (std::size_t node = tree.size(); node-- > 1;) {
      std::set<std::uint32_t> next;
      for (const std::uint32_t child : below[node]) next.insert(part[child]);
      const auto number = static_cast<std::uint32_t>(same.size() + 2);
      part[node] = same.try_emplace({tree[node].second, ends[node], std::move(next)}, number).first->second;
      if (same.size() > limits::kFlowNodesMax) return false;
    }
    parts_.assign(same.size() + 2, {});
    for (std::uint32_t event = 0; event < events_.size(); ++event) {
      part_of_[event] = part[node_of[event]];
      parts_[part_of_[event]].push_back(event);
    }
    return true;
  }

  static void add(Histogram& to, const Histogram& from) {
    for (const auto& [count, executions] : from) to[count] += executions;
  }

  StepNode node_of(NodeId part) const {
    StepNode out;
    std::tie(out.body, out.nth) = types_[type_of(part)];
    for (const std::uint32_t event : parts_[part]) {
      const Form& form = sequences_.forms[events_[event].form];
      const Occurrence& occurrence = form.occurrences[events_[event].at];
      out.executions += form.executions;
      add(out.counts.times, occurrence.times);
      out.counts.inner.resize(occurrence.inner.size());
      for (std::size_t i = 0; i < occurrence.inner.size(); ++i) add(out.counts.inner[i], occurrence.inner[i]);
    }
    return out;
  }

  // Kahn's algorithm, always with the least type that is free: the order does not depend on how parts were made.
  std::vector<NodeId> order(const TypeGraph& graph) const {
    std::vector<std::size_t> open(parts_.size());
    for (NodeId part = 0; part < parts_.size(); ++part) open[part] = graph.before[part].size();
    const auto key = [&](NodeId part) {
      return std::tuple(type_of(part), part < 2 ? 0 : *std::ranges::min_element(parts_[part]), part);
    };
    std::set<std::tuple<Type, std::uint32_t, NodeId>> free = {key(kBegin)};
    std::vector<NodeId> out;
    while (!free.empty()) {
      const NodeId part = std::get<2>(*free.begin());
      free.erase(free.begin());
      out.push_back(part);
      for (const NodeId next : graph.next[part]) {
        if (--open[next] == 0) free.insert(key(next));
      }
    }
    return out;
  }

  Result<StepGraph> result() {
    const TypeGraph now = graph();
    const std::vector<NodeId> sorted = order(now);
    if (sorted.size() != parts_.size()) {  // closed: a graph with a cycle would let loops run for ever
      return fail(ErrorSource::internal, ErrorKind::invalid, "inference left a cycle in the graph");
    }
    std::vector<std::uint32_t> number(parts_.size(), 0);
    std::uint32_t count = 0;
    for (const NodeId part : sorted) {
      if (part >= 2) number[part] = count++;
    }
    const auto next_of = [&](NodeId part, std::vector<std::uint32_t>& next, bool& end) {
      for (const NodeId other : now.next[part]) {
        if (other == kEnd) {
          end = true;
        } else {
          next.push_back(number[other]);
        }
      }
      std::ranges::sort(next);
    };
    out_.nodes.resize(count);
    for (const NodeId part : sorted) {
      if (part < 2) continue;
      StepNode& node = out_.nodes[number[part]] = node_of(part);
      next_of(part, node.next, node.may_end);
    }
    next_of(kBegin, out_.entry, out_.may_be_empty);
    out_.skips = extra_.size();
    return std::move(out_);
  }

  const Sequences& sequences_;
  std::vector<std::pair<BodyId, std::uint32_t>> types_;  // by type
  std::vector<std::vector<Type>> types_of_forms_;
  std::vector<std::uint32_t> first_;  // event of each form
  std::vector<Event> events_;
  std::vector<std::vector<std::uint32_t>> parts_;  // events; the first two, begin and end, have none
  std::vector<NodeId> part_of_;
  std::set<std::pair<NodeId, NodeId>> extra_, refused_;
  std::uint64_t steps_ = limits::kLearnStepsMax;
  StepGraph out_;
};

}  // namespace

Result<StepGraph> infer(const Sequences& sequences) { return Inference(sequences).infer(); }

}  // namespace sallyport::flow::learning
