#include "policy-engine/flow/learning/merging.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/limits.h"
#include "policy-engine/flow/learning/document.h"

namespace sallyport::flow::learning {

namespace {

using v1alpha1::FlowGraph;
using v1alpha1::Node;

template <class Take>
void each_request(const Node& node, Take take) {
  if (node.has_request()) take(node.request(), node.action());
  for (const auto& step : node.group()) take(step.request(), step.action());
  for (const auto& step : node.set()) take(step.request(), step.action());
  for (const auto& step : node.loop().steps()) take(step.request(), step.action());
}

bool has(const google::protobuf::RepeatedPtrField<std::string>& list, const std::string& text) {
  return std::ranges::find(list, text) != list.end();
}

Times times_or(bool given, const std::string& text, std::uint32_t least, const Times& otherwise) {
  return given ? parse_times(text, least).value_or(otherwise) : otherwise;
}

std::string text_of(const Times& times, std::uint32_t least) {
  if (times.least == least) return std::to_string(times.most);
  return std::to_string(times.least) + ".." + std::to_string(times.most);
}

}  // namespace

Result<std::vector<Pattern>> patterns_of(const FlowGraph& graph) {
  std::vector<Pattern> out;
  std::optional<Error> mistake;
  const auto take = [&](const std::string& request, const std::string& action) {
    auto pattern = parse_pattern(request, action);
    if (pattern) {
      out.push_back(std::move(*pattern));
    } else {
      mistake = pattern.error();
    }
  };
  for (const Node& node : graph.spec().nodes()) {
    each_request(node, take);
    for (const std::string& redirect : node.redirects()) take(redirect, "");
  }
  if (mistake) return std::unexpected(*mistake);
  return out;
}

Merging::Merging(const FlowGraph& reviewed, const Executions& executions, const Grouping& grouping,
                 const LearnOptions& options)
    : executions_(executions), grouping_(grouping), options_(options) {
  out_.graph = reviewed;
  for (const Node& node : reviewed.spec().nodes()) names_.take(node.name());
  for (Symbol symbol = 0; symbol < grouping.patterns.size(); ++symbol) {
    symbols_[{grouping.patterns[symbol].to_string(), grouping.patterns[symbol].action}] = symbol;
  }
}

// kNoSymbol: no new execution sent it.
Symbol Merging::symbol_of(const std::string& request, const std::string& action) const {
  const auto pattern = parse_pattern(request, action);
  if (!pattern) return kNoSymbol;
  const auto found = symbols_.find({pattern->to_string(), action});
  return found == symbols_.end() ? kNoSymbol : found->second;
}

std::map<std::vector<Symbol>, Merging::Same> Merging::gather() const {
  std::map<std::vector<Symbol>, Same> out;
  for (ExecutionId id = 0; id < executions_.size(); ++id) {
    const auto exchanges = executions_[id];
    std::vector<Symbol> symbols;
    for (const Exchange& exchange : exchanges) symbols.push_back(grouping_.symbol_of[exchange.operation]);
    Same& same = out[symbols];
    ++same.executions;
    same.retries.resize(symbols.size());
    same.chains.resize(symbols.size());
    for (std::size_t i = 0; i < exchanges.size(); ++i) {
      same.retries[i] = std::max<std::uint32_t>(same.retries[i], exchanges[i].retries);
      std::vector<Symbol> chain;
      for (const OperationId target : executions_.chain(exchanges[i].redirects)) {
        chain.push_back(grouping_.symbol_of[target]);
      }
      if (!chain.empty()) same.chains[i].push_back(std::move(chain));
    }
  }
  for (auto& [symbols, same] : out) {
    for (auto& chains : same.chains) std::ranges::sort(chains);
  }
  return out;
}

AlignNode Merging::align_node(const Node& node) const {
  AlignNode out;
  const auto add = [&](const auto& step, const Times& times) {
    out.symbols.push_back(symbol_of(step.request(), step.action()));
    out.times.push_back(times);
  };
  out.passes = times_or(node.has_times(), node.times(), 1, {});
  if (node.has_request()) {
    add(node, {});
  } else if (node.has_loop()) {
    out.kind = StepKind::loop;
    out.passes = parse_times(node.loop().total()).value_or(Times{});
    for (const auto& step : node.loop().steps()) {
      add(step, times_or(step.has_times(), step.times(), 0, {0, out.passes.most}));
    }
  } else {
    out.kind = node.group_size() > 0 ? StepKind::group : StepKind::set;
    for (const auto& step : node.group()) add(step, times_or(step.has_times(), step.times(), 1, {}));
    for (const auto& step : node.set()) add(step, times_or(step.has_times(), step.times(), 1, {}));
  }
  return out;
}

// Nodes and edges by number, and a topological order: of those that are free always the first of the document.
void Merging::read_graph() {
  const auto& spec = out_.graph.spec();
  std::map<std::string, std::uint32_t> number;
  nodes_.clear();
  for (const Node& node : spec.nodes()) {
    number.emplace(node.name(), static_cast<std::uint32_t>(nodes_.size()));
    nodes_.push_back(align_node(node));
  }
  edges_.assign(nodes_.size() + 1, {});
  std::vector<std::size_t> open(nodes_.size(), 0);
  const auto connect_all = [&](std::uint32_t from, const auto& next) {
    for (const std::string& name : next) {
      if (const auto found = number.find(name); found != number.end()) edges_[from].push_back(found->second);
    }
    std::ranges::sort(edges_[from]);
    for (const std::uint32_t to : edges_[from]) ++open[to];
  };
  for (std::uint32_t node = 0; node < nodes_.size(); ++node)
    connect_all(node, spec.nodes(static_cast<int>(node)).next());
  connect_all(static_cast<std::uint32_t>(nodes_.size()), spec.entry());
  std::set<std::uint32_t> free;
  const auto leave = [&](std::uint32_t node) {
    for (const std::uint32_t to : edges_[node]) {
      if (--open[to] == 0) free.insert(to);
    }
  };
  leave(static_cast<std::uint32_t>(nodes_.size()));
  for (std::size_t position = 0; !free.empty(); ++position) {
    const std::uint32_t node = *free.begin();
    free.erase(free.begin());
    nodes_[node].position = position;
    leave(node);
  }
}

template <class Owner>
void Merging::raise(Owner& owner, const Times& now, std::uint32_t least, std::uint32_t most, const std::string& node,
                    std::uint32_t default_least) {
  const Times wider{std::min(now.least, least), std::max(now.most, most)};
  if (wider == now) return;
  owner.set_times(text_of(wider, default_least));
  note(node, "counter changed from " + text_of(now, default_least) + " to " + owner.times());
  changed_ = true;
}

void Merging::widen_loop(Node& node, const AlignNode& known, const std::vector<Symbol>& symbols, const Visit& visit) {
  v1alpha1::Loop& loop = *node.mutable_loop();
  const auto step_at = [&](std::size_t i) -> v1alpha1::LoopStep& {
    const auto at = std::ranges::find(known.symbols, symbols[i]) - known.symbols.begin();
    return *loop.mutable_steps(static_cast<int>(at));
  };
  const auto add = [&](google::protobuf::RepeatedPtrField<std::string>& list, const std::string& name,
                       std::string what) {
    if (has(list, name)) return;
    *list.Add() = name;
    note(node.name(), std::move(what));
    changed_ = true;
  };
  const std::string &first = step_at(visit.begin).name(), &last = step_at(visit.end - 1).name();
  add(*loop.mutable_starts(), first, "may begin with " + first);
  add(*loop.mutable_ends(), last, "may end with " + last);
  for (std::size_t i = visit.begin; i + 1 < visit.end; ++i) {
    v1alpha1::LoopStep& step = step_at(i);
    const std::string next = step_at(i + 1).name();
    add(*step.mutable_next(), next, step.name() + " may be followed by " + next);
  }
  const auto total = static_cast<std::uint32_t>(visit.end - visit.begin);
  const Times wider{std::min(known.passes.least, total), std::max(known.passes.most, total)};
  if (wider == known.passes) return;
  note(node.name(), "total changed from " + loop.total() + " to " + text_of(wider, 1));
  loop.set_total(text_of(wider, 1));
  changed_ = true;
}

void Merging::widen(Node& node, const AlignNode& known, const std::vector<Symbol>& symbols, const Visit& visit) {
  const Counted count = counted(known, symbols, visit.begin, visit.end);
  for (std::size_t i = 0; i < known.symbols.size(); ++i) {
    const int step = static_cast<int>(i);
    switch (known.kind) {
      case StepKind::request:
        break;
      case StepKind::group:
        raise(*node.mutable_group(step), known.times[i], count.least[i], count.most[i], node.name(), 1);
        break;
      case StepKind::set:
        raise(*node.mutable_set(step), known.times[i], count.least[i], count.most[i], node.name(), 1);
        break;
      case StepKind::loop:
        raise(*node.mutable_loop()->mutable_steps(step), known.times[i], count.least[i], count.most[i], node.name(), 0);
        break;
    }
  }
  if (known.kind == StepKind::loop) {
    widen_loop(node, known, symbols, visit);
  } else if (known.kind != StepKind::set) {
    raise(node, known.passes, count.passes, count.passes, node.name(), 1);
  }
}

void Merging::take_answers(Node& node, const Same& same, const Visit& visit) {
  for (std::size_t i = visit.begin; i < visit.end; ++i) {
    if (same.retries[i] > node.retries()) {
      note(node.name(),
           "retries changed from " + std::to_string(node.retries()) + " to " + std::to_string(same.retries[i]));
      node.set_retries(same.retries[i]);
    }
    for (const auto& chain : same.chains[i]) {
      for (const Symbol target : chain) {
        const std::string text = grouping_.patterns[target].to_string();
        if (has(node.redirects(), text)) continue;
        node.add_redirects(text);
        note(node.name(), "may be redirected to " + text);
      }
      while (static_cast<std::size_t>(node.redirects_size()) < chain.size()) node.add_redirects(node.redirects(0));
    }
  }
}

void Merging::connect(std::uint32_t from, const std::string& to) {
  auto& spec = *out_.graph.mutable_spec();
  const bool entry = from == kNewNode;
  auto& next = entry ? *spec.mutable_entry() : *spec.mutable_nodes(static_cast<int>(from))->mutable_next();
  if (has(next, to)) return;
  *next.Add() = to;
  note(entry ? "" : spec.nodes(static_cast<int>(from)).name(),
       (entry ? "an execution may begin with " : "may be followed by ") + to);
  changed_ = true;
}

std::uint32_t Merging::add_node(Symbol symbol) {
  auto& spec = *out_.graph.mutable_spec();
  const auto number = static_cast<std::uint32_t>(spec.nodes_size());
  Node& node = *spec.add_nodes();
  node.set_name(names_.take(name_of(grouping_.patterns[symbol])));
  node.set_request(grouping_.patterns[symbol].to_string());
  if (!grouping_.patterns[symbol].action.empty()) node.set_action(grouping_.patterns[symbol].action);
  if (options_.retries > 0) node.set_retries(options_.retries);
  note(node.name(), "added: " + node.request() + (node.action().empty() ? "" : " (" + node.action() + ")"));
  changed_ = true;
  return number;
}

void Merging::apply(const std::vector<Symbol>& symbols, const Same& same, const std::vector<Visit>& visits) {
  auto& spec = *out_.graph.mutable_spec();
  std::uint32_t before = kNewNode;
  for (const Visit& visit : visits) {
    const bool fresh = visit.node == kNewNode;
    const std::uint32_t number = fresh ? add_node(symbols[visit.begin]) : visit.node;
    Node& node = *spec.mutable_nodes(static_cast<int>(number));
    if (!fresh) {
      widen(node, nodes_[number], symbols, visit);
    } else if (visit.end - visit.begin > 1) {
      node.set_times(std::to_string(visit.end - visit.begin));
    }
    take_answers(node, same, visit);
    node.set_support(node.support() + same.executions);
    connect(before, node.name());
    before = number;
  }
  connect(before, "exit");
}

Result<Learned> Merging::merge() {
  for (const auto& [symbols, same] : gather()) {
    if (changed_) read_graph();
    changed_ = false;
    const auto visits = Alignment(nodes_, edges_).align(symbols);
    if (!visits) return std::unexpected(visits.error());
    apply(symbols, same, *visits);
    if (out_.graph.spec().nodes_size() > static_cast<int>(limits::kFlowNodesMax)) {
      return fail(ErrorSource::policy, ErrorKind::limit,
                  "the graph would have more than " + std::to_string(limits::kFlowNodesMax) +
                      " nodes: the executions are not of what was reviewed; learn them anew");
    }
  }
  auto& spec = *out_.graph.mutable_spec();
  spec.set_executions(spec.executions() + executions_.size());
  out_.executions = executions_.size();
  out_.left_out = executions_.left_out();
  return std::move(out_);
}

}  // namespace sallyport::flow::learning
