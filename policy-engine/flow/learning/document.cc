#include "policy-engine/flow/learning/document.h"

#include <algorithm>
#include <utility>

#include "policy-engine/flow/learning/counters.h"
#include "policy-engine/flow/learning/node_names.h"

namespace sallyport::flow::learning {

namespace {

constexpr std::string_view kExit = "exit";
constexpr std::size_t kEdgesOnceMin = 2;

std::string plural(std::uint64_t count, const std::string& one) {
  return std::to_string(count) + " " + one + (count == 1 ? "" : "s");
}

template <class Step>
void set_request(Step& step, const Pattern& pattern) {
  step.set_request(pattern.to_string());
  if (!pattern.action.empty()) step.set_action(pattern.action);
}

bool has_placeholder(const Pattern& pattern) {
  const auto open = [](const Piece& piece) { return piece.literal.empty(); };
  return pattern.open_path || pattern.any_query || std::ranges::any_of(pattern.path, open) ||
         std::ranges::any_of(pattern.query, open) || std::ranges::any_of(pattern.host, open);
}

}  // namespace

Aftermath aftermath_of(const Executions& executions, const Grouping& grouping) {
  Aftermath out;
  for (ExecutionId id = 0; id < executions.size(); ++id) {
    for (const Exchange& exchange : executions[id]) {
      out.retries = std::max<std::uint32_t>(out.retries, exchange.retries);
      if (exchange.redirects == 0) continue;
      const Symbol symbol = grouping.symbol_of[exchange.operation];
      const auto& chain = executions.chain(exchange.redirects);
      for (const OperationId operation : chain) out.redirects[symbol].insert(grouping.symbol_of[operation]);
      out.chains[symbol] = std::max(out.chains[symbol], chain.size());
    }
  }
  return out;
}

// One more than were seen: what retries do not show is how often a client would go on.
std::uint32_t retries_of(const Aftermath& aftermath, const LearnOptions& options) {
  const std::uint32_t more = options.exact_counts || aftermath.retries == 0 ? 0 : 1;
  return std::max(options.retries, aftermath.retries + more);
}

std::vector<bool> polls_of(const Executions& executions, const Grouping& grouping) {
  std::vector<bool> out;
  for (const Pattern& pattern : grouping.patterns) out.push_back(pattern.method == "GET" || pattern.method == "HEAD");
  for (ExecutionId id = 0; id < executions.size(); ++id) {
    const auto exchanges = executions[id];
    for (std::size_t i = 1; i < exchanges.size(); ++i) {
      const OperationId before = exchanges[i - 1].operation, now = exchanges[i].operation;
      if (before != now && grouping.symbol_of[before] == grouping.symbol_of[now]) out[grouping.symbol_of[now]] = false;
    }
  }
  return out;
}

std::string DocumentWriter::times(const Histogram& counts, const Range& range, std::uint32_t least,
                                  const std::string& name) {
  if (range.most > most_seen(counts)) {
    note(name, "seen up to " + std::to_string(most_seen(counts)) + " times, and not always as often: up to " +
                   std::to_string(range.most) + " are allowed");
  }
  return times_text(range, least);
}

namespace {

// The step with the most ways to and from others.
Symbol hub_of(const LoopOrder& order) {
  std::map<Symbol, std::uint64_t> weight;
  for (const auto& [edge, executions] : order.edges) {
    if (edge.first == edge.second) continue;
    weight[edge.first] += executions;
    weight[edge.second] += executions;
  }
  return std::ranges::max_element(weight, {}, [](const auto& entry) { return entry.second; })->first;
}

// Steps that may come right behind the hub and right before it. One that was seen only behind or before such a step is
// of their kind, too.
std::vector<Symbol> kind_around(Symbol hub, const LoopOrder& order) {
  std::set<Symbol> behind = {hub}, before = {hub};
  for (std::size_t known = 0; known != behind.size() + before.size();) {
    known = behind.size() + before.size();
    for (const auto& [edge, executions] : order.edges) {
      if (behind.contains(edge.first)) behind.insert(edge.second);
      if (before.contains(edge.second)) before.insert(edge.first);
    }
  }
  std::vector<Symbol> out;
  std::ranges::set_intersection(behind, before, std::back_inserter(out));
  std::erase(out, hub);
  return out;
}

}  // namespace

// Steps of one kind come from one step, the hub, and lead back to it, as an agent's tools do to its model. Where some
// of them were seen to follow each other, in half of all ways, in several that one execution alone had, or two of them
// either way round, the others have only not been seen yet.
void DocumentWriter::close_order(LoopOrder& order, const std::string& name) {
  const auto is_way = [](const auto& entry) { return entry.first.first != entry.first.second; };
  if (std::ranges::none_of(order.edges, is_way)) return;
  const Symbol hub = hub_of(order);
  const std::vector<Symbol> kind = kind_around(hub, order);
  std::size_t seen = 0, once = 0;
  bool either_way = false;
  for (const Symbol a : kind) {
    for (const Symbol b : kind) {
      const auto edge = order.edges.find({a, b});
      if (edge == order.edges.end()) continue;
      ++seen;
      once += edge->second == 1 ? 1 : 0;
      either_way |= a != b && order.edges.contains({b, a});
    }
  }
  const std::size_t all = kind.size() * kind.size();
  if (2 * seen < all && once < kEdgesOnceMin && !either_way) return;
  const std::size_t before = order.edges.size();
  for (const Symbol a : kind) {
    for (const Symbol b : kind) order.edges.emplace(std::pair(a, b), 0);
    order.edges.emplace(std::pair(hub, a), 0);
    order.edges.emplace(std::pair(a, hub), 0);
  }
  if (order.edges.size() == before) return;
  note(name, plural(order.edges.size() - before, "edge") + " between steps of one kind were added that were not seen");
}

void DocumentWriter::add_loop(v1alpha1::Node& node, const StepNode& step) {
  const Body& body = sequences_.bodies[step.body];
  LoopOrder order = sequences_.loops.at(step.body);
  if (!options_.exact_counts) close_order(order, node.name());
  UniqueNames names;
  std::map<Symbol, std::string> name_by_symbol;
  for (std::size_t i = 0; i < body.symbols.size(); ++i) {
    // Steps of the loop that come only where it stands elsewhere are none of this node.
    if (most_seen(step.counts.inner[i]) == 0) continue;
    name_by_symbol[body.symbols[i]] = names.take(name_of(grouping_.patterns[body.symbols[i]]));
  }
  const auto is_here = [&](Symbol symbol) { return name_by_symbol.contains(symbol); };
  v1alpha1::Loop& loop = *node.mutable_loop();
  const Range total = range_of(step.counts.times, options_.exact_counts, true);
  for (std::size_t i = 0; i < body.symbols.size(); ++i) {
    const Symbol symbol = body.symbols[i];
    if (!is_here(symbol)) continue;
    v1alpha1::LoopStep& out = *loop.add_steps();
    out.set_name(name_by_symbol[symbol]);
    set_request(out, grouping_.patterns[symbol]);
    out.set_times(times_text(range_of_turns(step.counts.inner[i], total, options_.exact_counts), 0));
    for (const auto& [edge, executions] : order.edges) {
      if (edge.first == symbol && is_here(edge.second)) out.add_next(name_by_symbol[edge.second]);
    }
  }
  for (const Symbol symbol : order.starts) {
    if (is_here(symbol)) loop.add_starts(name_by_symbol[symbol]);
  }
  for (const Symbol symbol : order.ends) {
    if (is_here(symbol)) loop.add_ends(name_by_symbol[symbol]);
  }
  const std::string text = times_text(total, 1);
  loop.set_total(text.empty() ? "1" : text);
  note(node.name(), "the order of " + plural(body.symbols.size(), "request") +
                        " did not settle: they are one loop, of up to " + loop.total() + " requests");
}

// A chain may be as long as the list.
void DocumentWriter::add_redirects(v1alpha1::Node& node, const Body& body) {
  std::set<std::string> texts;
  std::size_t longest = 0;
  for (const Symbol symbol : body.symbols) {
    const auto found = aftermath_.redirects.find(symbol);
    if (found == aftermath_.redirects.end()) continue;
    for (const Symbol target : found->second) texts.insert(grouping_.patterns[target].to_string());
    longest = std::max(longest, aftermath_.chains.at(symbol));
  }
  for (const std::string& text : texts) node.add_redirects(text);
  while (!texts.empty() && static_cast<std::size_t>(node.redirects_size()) < longest)
    node.add_redirects(*texts.begin());
}

v1alpha1::Node DocumentWriter::node(const StepNode& step, const std::string& name) {
  const Body& body = sequences_.bodies[step.body];
  v1alpha1::Node out;
  out.set_name(name);
  switch (body.kind) {
    case StepKind::request:
      set_request(out, grouping_.patterns[body.symbols[0]]);
      break;
    case StepKind::group:
    case StepKind::set:
      for (std::size_t i = 0; i < body.symbols.size(); ++i) {
        if (most_seen(step.counts.inner[i]) == 0) continue;  // only where the same set stands elsewhere
        v1alpha1::Step& inner = body.kind == StepKind::group ? *out.add_group() : *out.add_set();
        set_request(inner, grouping_.patterns[body.symbols[i]]);
        const Histogram& counts = step.counts.inner[i];
        const std::string text = times(counts, range_of(counts, options_.exact_counts), 1, name);
        if (!text.empty()) inner.set_times(text);
      }
      break;
    case StepKind::loop:
      add_loop(out, step);
      break;
  }
  if (body.kind == StepKind::request || body.kind == StepKind::group) {
    const Histogram& counts = step.counts.times;
    const bool polls = body.kind == StepKind::request && polls_[body.symbols[0]];
    const Range range = polls ? range_of_polls(counts, options_.exact_counts) : range_of(counts, options_.exact_counts);
    const std::string text = times(counts, range, 1, name);
    if (!text.empty()) out.set_times(text);
  }
  if (const std::uint32_t retries = retries_of(aftermath_, options_); retries > 0) out.set_retries(retries);
  add_redirects(out, body);
  out.set_support(step.executions);
  note_about_node(step, name);
  return out;
}

void DocumentWriter::note_about_node(const StepNode& step, const std::string& name) {
  if (step.executions == 1 && sequences_.executions > 1) {
    note(name, "seen in 1 of " + plural(sequences_.executions, "execution"));
  }
  for (const Symbol symbol : sequences_.bodies[step.body].symbols) {
    const Pattern& pattern = grouping_.patterns[symbol];
    if (!has_placeholder(pattern)) continue;
    const bool host = std::ranges::any_of(pattern.host, [](const Piece& piece) { return piece.literal.empty(); });
    std::string text = pattern.to_string() + " stands for " + plural(grouping_.operations[symbol], "different request");
    if (host) text += "; it has every host of this form, so see that nobody else can have one";
    note(name, std::move(text));
  }
}

void DocumentWriter::note_about_graph(const StepGraph& graph) {
  const auto& all = executions_;
  if (all.incomplete() > 0) note("", plural(all.incomplete(), "execution") + " without an end left out");
  if (all.unattributed() > 0) note("", plural(all.unattributed(), "execution") + " mixed with others left out");
  if (all.too_long() > 0) note("", plural(all.too_long(), "execution") + " with too many requests left out");
  if (all.other_functions() > 0) note("", plural(all.other_functions(), "execution") + " of other functions not used");
  if (all.repaired() > 0)
    note("", "in " + plural(all.repaired(), "execution") + " the times were out of order, and put right");
  if (all.denied() > 0) note("", plural(all.denied(), "request") + " that the guard refused are not in the graph");
  if (graph.exact) note("", "too many orders to generalise: the graph has those that were seen, and no others");
  if (graph.skips > 0) {
    note("", plural(graph.skips, "edge") + " lead over steps that were each left out, but never together");
  }
}

Learned DocumentWriter::write(const StepGraph& graph) {
  Learned out;
  note_about_graph(graph);
  out.executions = sequences_.executions;
  out.left_out = executions_.left_out();
  out.graph.set_api_version("sallyport.dev/v1alpha1");
  out.graph.set_kind("FlowGraph");
  out.graph.mutable_metadata()->set_name(executions_.function());
  v1alpha1::FlowGraphSpec& spec = *out.graph.mutable_spec();
  if (!executions_.image_digest().empty()) spec.set_image_digest(executions_.image_digest());
  spec.set_executions(sequences_.executions);
  UniqueNames names;
  std::vector<std::string> name_of_node;
  for (const StepNode& step : graph.nodes) {
    name_of_node.push_back(names.take(name_of(sequences_.bodies[step.body], grouping_.patterns)));
  }
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    v1alpha1::Node made = node(graph.nodes[i], name_of_node[i]);
    for (const std::uint32_t next : graph.nodes[i].next) made.add_next(name_of_node[next]);
    if (graph.nodes[i].may_end) made.add_next(std::string(kExit));
    *spec.add_nodes() = std::move(made);
  }
  for (const std::uint32_t first : graph.entry) spec.add_entry(name_of_node[first]);
  if (graph.may_be_empty) spec.add_entry(std::string(kExit));
  out.notes = take_notes();
  return out;
}

}  // namespace sallyport::flow::learning
