#include "policy-engine/flow/graph_check.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/did_you_mean.h"
#include "policy-engine/document/names.h"
#include "policy-engine/flow/document_header.h"
#include "policy-engine/flow/graph_symbols.h"
#include "policy-engine/flow/image_digest.h"
#include "policy-engine/flow/pattern_sample.h"

namespace sallyport::flow {

namespace {

namespace api = v1alpha1;
using document::Place;
using document::quoted;

constexpr std::string_view kKind = "FlowGraph";
constexpr std::string_view kLabelHint = "up to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit at both ends";

std::string more_than(std::string_view what, std::size_t most, std::string_view things) {
  return std::string(what) + " has more than " + std::to_string(most) + " " + std::string(things);
}

template <class Map>
std::string meant_by(const std::string& name, const Map& names, std::string_view more) {
  std::vector<std::string_view> known;
  for (const auto& [candidate, index] : names) known.emplace_back(candidate);
  if (!more.empty()) known.push_back(more);
  const std::string_view meant = document::did_you_mean(name, known);
  return meant.empty() ? "" : "did you mean " + quoted(meant) + "?";
}

// All that is reached from `from`, itself with it.
std::vector<bool> reached(const std::vector<std::vector<std::size_t>>& next, std::vector<std::size_t> from) {
  std::vector<bool> out(next.size());
  while (!from.empty()) {
    const std::size_t at = from.back();
    from.pop_back();
    if (out[at]) continue;
    out[at] = true;
    from.insert(from.end(), next[at].begin(), next[at].end());
  }
  return out;
}

std::vector<std::vector<std::size_t>> reversed(const std::vector<std::vector<std::size_t>>& next) {
  std::vector<std::vector<std::size_t>> out(next.size());
  for (std::size_t from = 0; from < next.size(); ++from) {
    for (const std::size_t to : next[from]) out[to].push_back(from);
  }
  return out;
}

}  // namespace

void GraphChecker::check() {
  check_header();
  if (!document_.has_spec()) return;
  check_spec();
  const api::FlowGraphSpec& spec = document_.spec();
  if (static_cast<std::size_t>(spec.nodes_size()) > limits::kFlowNodesMax) {
    diagnostics_.error(places_.of(spec, api::FlowGraphSpec::kNodesFieldNumber),
                       more_than("the graph", limits::kFlowNodesMax, "nodes"),
                       "join what belongs together to groups, sets and loops");
    return;
  }
  check_names();
  for (const api::Node& node : spec.nodes()) check_node(node);
  if (edges_ > limits::kFlowEdgesMax) {
    diagnostics_.error(places_.of(spec, api::FlowGraphSpec::kNodesFieldNumber),
                       more_than("the graph", limits::kFlowEdgesMax, "edges"));
    return;
  }
  next_.emplace_back();
  may_end_.push_back(false);
  check_edges(spec, api::FlowGraphSpec::kEntryFieldNumber, spec.entry(), "the entry", next_.back());
  check_cycles();
  check_ways();
  if (diagnostics_.has_errors()) return;
  check_hidden();
  check_hosts();
}

void GraphChecker::check_header() {
  check_document_header({document_, document_.api_version(), document_.kind(), document_.metadata(), kKind}, places_,
                        diagnostics_, written_);
}

void GraphChecker::check_spec() {
  const api::FlowGraphSpec& spec = document_.spec();
  if (spec.has_function() && !document::is_subdomain(spec.function())) {
    diagnostics_.error(places_.of(spec, api::FlowGraphSpec::kFunctionFieldNumber),
                       "the function " + quoted(spec.function()) + " is not valid", kSubdomainHint);
  }
  if (spec.has_image_digest() && !is_image_digest(spec.image_digest())) {
    diagnostics_.error(places_.of(spec, api::FlowGraphSpec::kImageDigestFieldNumber),
                       "imageDigest " + quoted(spec.image_digest()) + " is not valid",
                       "write sha256: and 64 hexadecimal digits in lower case");
  }
  if (!written_ && spec.entry_size() == 0) {
    diagnostics_.error({}, "the spec has no 'entry'", "write [exit] where an execution sends nothing");
  }
}

Place GraphChecker::name_place(std::size_t node) const {
  return places_.of(document_.spec().nodes(static_cast<int>(node)), api::Node::kNameFieldNumber);
}

void GraphChecker::check_names() {
  const auto& nodes = document_.spec().nodes();
  for (int i = 0; i < nodes.size(); ++i) {
    const std::string& name = nodes[i].name();
    const Place place = places_.of(nodes[i], api::Node::kNameFieldNumber);
    if (written_ && !places_.given(nodes[i], api::Node::kNameFieldNumber)) continue;  // it has been said
    if (name == kExit) {
      diagnostics_.error(place, "a node is named 'exit', which is the end of an execution", "give it another name");
    } else if (!document::is_label(name)) {
      diagnostics_.error(place, "the name " + quoted(name) + " of a node is not valid", kLabelHint);
    }
    const auto [found, first] = names_.emplace(name, static_cast<std::size_t>(i));
    if (first) continue;
    const int line = name_place(found->second).line;
    diagnostics_.error(place, "two nodes are named " + quoted(name),
                       line > 0 ? "the first one is in line " + std::to_string(line) : "give one another name");
  }
}

void GraphChecker::check_node(const api::Node& node) {
  next_.emplace_back();
  may_end_.push_back(false);
  check_edges(node, api::Node::kNextFieldNumber, node.next(), "node " + quoted(node.name()), next_.back());
  if (!written_ && node.next_size() == 0) {
    diagnostics_.error({}, "node " + quoted(node.name()) + " has no 'next'", "write [exit] where the execution ends");
  }
  if (places_.broken(node)) return;
  check_kind(node);
  check_times(node, api::Node::kTimesFieldNumber, node.has_times(), node.times(), 1);
  if (node.retries() > kFlowRetriesMax) {
    diagnostics_.error(places_.of(node, api::Node::kRetriesFieldNumber),
                       "'retries' is at most " + std::to_string(kFlowRetriesMax));
  }
  for (int i = 0; i < node.redirects_size(); ++i) {
    check_pattern(node, api::Node::kRedirectsFieldNumber, i, node.redirects(i), "", node.name());
  }
  if (static_cast<std::size_t>(node.redirects_size()) > limits::kFlowStepsMax) {
    diagnostics_.error(places_.of(node, api::Node::kRedirectsFieldNumber),
                       more_than("node " + quoted(node.name()), limits::kFlowStepsMax, "redirects"));
  }
}

void GraphChecker::check_kind(const api::Node& node) {
  const std::array<std::pair<bool, std::string_view>, 4> kinds = {{{node.has_request(), "request"},
                                                                   {node.group_size() > 0, "group"},
                                                                   {node.set_size() > 0, "set"},
                                                                   {node.has_loop(), "loop"}}};
  std::string given;
  int count = 0;
  for (const auto& [there, word] : kinds) {
    if (!there) continue;
    if (count++ > 0) given += " and ";
    given += quoted(word);
  }
  if (count == 0) {
    diagnostics_.error(places_.of(node), "node " + quoted(node.name()) + " says no request",
                       "give it one of 'request', 'group', 'set' and 'loop'");
  } else if (count > 1) {
    diagnostics_.error(places_.of(node), "node " + quoted(node.name()) + " has " + given, "make it several nodes");
  }
  if (node.has_action() && !node.has_request()) {
    diagnostics_.error(places_.of(node, api::Node::kActionFieldNumber), "'action' stands beside 'request' only",
                       "give it to the steps");
  }
  check_action(node, api::Node::kActionFieldNumber, node.action());
  if (node.has_request()) {
    check_pattern(node, api::Node::kRequestFieldNumber, -1, node.request(), node.action(), node.name());
  }
  check_steps(node, node.group(), api::Node::kGroupFieldNumber);
  check_steps(node, node.set(), api::Node::kSetFieldNumber);
  if (node.has_loop()) check_loop(node);
}

void GraphChecker::check_steps(const api::Node& node, const google::protobuf::RepeatedPtrField<api::Step>& steps,
                               int field) {
  if (static_cast<std::size_t>(steps.size()) > limits::kFlowStepsMax) {
    diagnostics_.error(places_.of(node, field),
                       more_than("node " + quoted(node.name()), limits::kFlowStepsMax, "steps"));
  }
  for (const api::Step& step : steps) {
    check_action(step, api::Step::kActionFieldNumber, step.action());
    check_pattern(step, api::Step::kRequestFieldNumber, -1, step.request(), step.action(), node.name());
    check_times(step, api::Step::kTimesFieldNumber, step.has_times(), step.times(), 1);
  }
}

void GraphChecker::check_loop(const api::Node& node) {
  const api::Loop& loop = node.loop();
  if (static_cast<std::size_t>(loop.steps_size()) > limits::kFlowStepsMax) {
    diagnostics_.error(places_.of(loop, api::Loop::kStepsFieldNumber),
                       more_than("the loop of node " + quoted(node.name()), limits::kFlowStepsMax, "steps"));
    return;
  }
  std::map<std::string, int> names;
  for (int i = 0; i < loop.steps_size(); ++i) {
    const api::LoopStep& step = loop.steps(i);
    const Place place = places_.of(step, api::LoopStep::kNameFieldNumber);
    if (!document::is_label(step.name())) {
      diagnostics_.error(place, "the name " + quoted(step.name()) + " of a step is not valid", kLabelHint);
    }
    if (!names.emplace(step.name(), i).second) {
      diagnostics_.error(place, "two steps of a loop are named " + quoted(step.name()), "give one another name");
    }
    check_action(step, api::LoopStep::kActionFieldNumber, step.action());
    check_pattern(step, api::LoopStep::kRequestFieldNumber, -1, step.request(), step.action(), node.name());
    check_times(step, api::LoopStep::kTimesFieldNumber, step.has_times(), step.times(), 0);
  }
  check_times(loop, api::Loop::kTotalFieldNumber, true, loop.total(), 1);
  check_loop_counts(node);
  bool good = check_step_names(node, loop, api::Loop::kStartsFieldNumber, loop.starts(), names);
  good &= check_step_names(node, loop, api::Loop::kEndsFieldNumber, loop.ends(), names);
  for (const api::LoopStep& step : loop.steps()) {
    good &= check_step_names(node, step, api::LoopStep::kNextFieldNumber, step.next(), names);
  }
  if (!written_ && (loop.starts_size() == 0 || loop.ends_size() == 0 || loop.steps_size() == 0)) {
    diagnostics_.error({}, "the loop of node " + quoted(node.name()) + " has no steps, no starts or no ends");
  }
  if (good) check_loop_ways(node, names);
}

void GraphChecker::check_loop_counts(const api::Node& node) {
  const api::Loop& loop = node.loop();
  const auto total = parse_times(loop.total());
  if (!total) return;  // it has been said
  std::uint64_t least = 0, most = 0;
  for (const api::LoopStep& step : loop.steps()) {
    const auto times = step.has_times() ? parse_times(step.times(), 0) : Result<Times>(Times{0, total->most});
    if (!times) return;
    least += times->least;
    most += times->most;
  }
  const Place place = places_.of(loop, api::Loop::kTotalFieldNumber);
  if (total->most < least) {
    diagnostics_.error(place,
                       "no execution can keep to the total of node " + quoted(node.name()) + ": its steps come " +
                           std::to_string(least) + " times at least",
                       "write " + std::to_string(least));
  }
  if (total->least > most) {
    diagnostics_.error(place,
                       "no execution can reach the total of node " + quoted(node.name()) + ": its steps come " +
                           std::to_string(most) + " times at most",
                       "write " + std::to_string(most));
  }
}

bool GraphChecker::check_step_names(const api::Node& node, const Message& message, int field, const Names& list,
                                    const std::map<std::string, int>& names) {
  bool good = true;
  for (int i = 0; i < list.size(); ++i) {
    if (names.contains(list[i])) continue;
    good = false;
    diagnostics_.error(places_.of(message, field, i),
                       "the loop of node " + quoted(node.name()) + " has no step " + quoted(list[i]),
                       meant_by(list[i], names, {}));
  }
  return good;
}

// Every step is reached from a start, and reaches an end.
void GraphChecker::check_loop_ways(const api::Node& node, const std::map<std::string, int>& names) {
  const api::Loop& loop = node.loop();
  std::vector<std::vector<std::size_t>> next(static_cast<std::size_t>(loop.steps_size()));
  const auto indices = [&](const Names& list) {
    std::vector<std::size_t> out;
    for (const std::string& name : list) out.push_back(static_cast<std::size_t>(names.at(name)));
    return out;
  };
  for (int i = 0; i < loop.steps_size(); ++i) next[static_cast<std::size_t>(i)] = indices(loop.steps(i).next());
  const std::vector<bool> from_start = reached(next, indices(loop.starts()));
  const std::vector<bool> to_end = reached(reversed(next), indices(loop.ends()));
  for (std::size_t i = 0; i < next.size(); ++i) {
    const api::LoopStep& step = loop.steps(static_cast<int>(i));
    const Place place = places_.of(step, api::LoopStep::kNameFieldNumber);
    if (!from_start[i]) {
      diagnostics_.error(place, "nothing leads to step " + quoted(step.name()),
                         "name it in 'starts' or in the 'next' of a step");
    }
    if (!to_end[i]) {
      diagnostics_.error(place, "the loop has no end behind step " + quoted(step.name()),
                         "name it, or a step that it leads to, in 'ends'");
    }
  }
}

void GraphChecker::check_pattern(const Message& message, int field, int index, const std::string& text,
                                 const std::string& action, const std::string& node) {
  if (places_.broken(message)) return;
  auto pattern = parse_pattern(text, action);
  const Place place = places_.of(message, field, index);
  if (!pattern) {
    diagnostics_.error(place, quoted(text) + " is no pattern, " + pattern.error().text);
    return;
  }
  patterns_.try_emplace({text, action}, Known{std::move(*pattern), place, node});
}

void GraphChecker::check_action(const Message& message, int field, const std::string& action) {
  if (action.size() <= limits::kActionBytesMax && document::printable(action) == action) return;
  diagnostics_.error(places_.of(message, field), "the action " + quoted(action) + " is not valid",
                     "at most " + std::to_string(limits::kActionBytesMax) + " bytes without control characters");
}

void GraphChecker::check_times(const Message& message, int field, bool given, const std::string& text,
                               std::uint32_t least) {
  if (!given || places_.broken(message)) return;
  const auto times = parse_times(text, least);
  const Place place = places_.of(message, field);
  if (!times) {
    diagnostics_.error(place, quoted(text) + " is no number of times", times.error().text);
  } else if (times->least == 0 && message.GetDescriptor() == api::Node::descriptor()) {
    diagnostics_.error(place, "a node comes at least once",
                       "write " + std::to_string(times->most) + ", and an edge that leads past it");
  } else if (times->least == 0 && message.GetDescriptor() == api::Loop::descriptor()) {
    diagnostics_.error(place, "a loop has at least one request", "write " + std::to_string(times->most));
  }
}

void GraphChecker::check_edges(const Message& message, int field, const Names& list, const std::string& from,
                               std::vector<std::size_t>& out) {
  std::set<std::string_view> seen;
  edges_ += static_cast<std::size_t>(list.size());
  for (int i = 0; i < list.size(); ++i) {
    const Place place = places_.of(message, field, i);
    if (!seen.insert(list[i]).second) {
      diagnostics_.warning(place, from + " leads to " + quoted(list[i]) + " twice", "remove one");
    } else if (list[i] == kExit) {
      may_end_.back() = true;
    } else if (const auto found = names_.find(list[i]); found != names_.end()) {
      out.push_back(found->second);
    } else {
      dangling_ = true;
      diagnostics_.error(place, from + " leads to " + quoted(list[i]) + ", and there is no such node",
                         meant_by(list[i], names_, kExit));
    }
  }
}

// A search in depth that keeps its own stack, as a chain may be as long as the graph has nodes.
void GraphChecker::check_cycles() {
  enum class Mark : std::uint8_t { fresh, open, done };
  std::vector<Mark> marks(next_.size(), Mark::fresh);
  std::vector<std::size_t> edge(next_.size());  // of each node, the next one to follow
  for (std::size_t root = 0; root + 1 < next_.size(); ++root) {
    std::vector<std::size_t> way;
    if (marks[root] == Mark::fresh) way.push_back(root);
    while (!way.empty()) {
      const std::size_t at = way.back();
      marks[at] = Mark::open;
      if (edge[at] == next_[at].size()) {
        marks[at] = Mark::done;
        way.pop_back();
        continue;
      }
      const std::size_t to = next_[at][edge[at]++];
      if (marks[to] == Mark::fresh) way.push_back(to);
      if (marks[to] == Mark::open) report_cycle({std::ranges::find(way, to), way.end()});
    }
  }
}

void GraphChecker::report_cycle(const std::vector<std::size_t>& way) {
  constexpr std::size_t kNamedMax = 8;
  const auto node = [&](std::size_t index) -> const api::Node& {
    return document_.spec().nodes(static_cast<int>(index));
  };
  std::string text;
  for (std::size_t i = 0; i < way.size(); ++i) {
    const bool last = i + 1 == way.size(), named = i + 1 < kNamedMax || last;
    if (named) text += node(way[i]).name() + " → ";
    if (i + 1 == kNamedMax && !last) text += "… → ";
  }
  diagnostics_.error(places_.of(node(way.back()), api::Node::kNextFieldNumber),
                     "the graph goes round: " + text + node(way.front()).name(),
                     way.size() == 1 ? "write 'times', which says how often it comes"
                                     : "make what comes again a group with 'times', or a loop");
}

void GraphChecker::check_ways() {
  if (dangling_) return;  // what the edge was meant to lead to would be reported, too
  const std::size_t entry = next_.size() - 1;
  const std::vector<bool> from_entry = reached(next_, {entry});
  std::vector<std::size_t> ends;
  for (std::size_t i = 0; i < may_end_.size(); ++i) {
    if (may_end_[i]) ends.push_back(i);
  }
  const std::vector<bool> to_exit = reached(reversed(next_), ends);
  for (std::size_t i = 0; i < entry; ++i) {
    const std::string& name = document_.spec().nodes(static_cast<int>(i)).name();
    if (!from_entry[i]) {
      diagnostics_.error(name_place(i), "nothing leads to node " + quoted(name),
                         "name it in 'entry' or in the 'next' of a node, or remove it");
    }
    if (!to_exit[i] && document_.spec().nodes(static_cast<int>(i)).next_size() > 0) {
      diagnostics_.error(name_place(i), "from node " + quoted(name) + " the exit is not reached",
                         "add exit to its 'next', or to that of a node behind it");
    }
  }
}

// Of two patterns that a request matches it is taken for the more specific one alone: who wrote the other may have
// meant it for both. Whether one holds the other is told from two samples of what it stands for.
void GraphChecker::check_hidden() {
  SymbolIndex index;
  std::vector<const Known*> known;
  for (const auto& [key, entry] : patterns_) {
    index.add(entry.pattern, static_cast<std::uint32_t>(known.size()));
    known.push_back(&entry);
  }
  std::vector<bool> told(known.size());
  for (std::uint32_t i = 0; i < known.size(); ++i) {
    std::vector<std::uint32_t> behind;
    for (const bool second : {false, true}) {
      const Sample sample(known[i]->pattern, second);
      std::vector<std::uint32_t> all = index.find_all(sample.operation());
      const auto own = std::ranges::find(all, i);
      all.erase(all.begin(), own == all.end() ? own : own + 1);
      if (second) std::erase_if(behind, [&](std::uint32_t b) { return std::ranges::find(all, b) == all.end(); });
      if (!second) behind = std::move(all);
    }
    for (const std::uint32_t wide : behind) {
      if (told[wide]) continue;
      told[wide] = true;
      const std::string line = known[i]->place.line > 0 ? ", line " + std::to_string(known[i]->place.line) : "";
      diagnostics_.warning(known[wide]->place,
                           quoted(known[wide]->pattern.to_string()) + " does not get the requests of " +
                               quoted(known[i]->pattern.to_string()) + " (node " + quoted(known[i]->node) + line + ")",
                           "a request is taken for the most specific pattern alone");
    }
  }
}

void GraphChecker::check_hosts() {
  for (const auto& [key, entry] : patterns_) {
    if (!is_anybodys(entry.pattern)) continue;
    diagnostics_.warning(entry.place, quoted(entry.pattern.to_string()) + " stands for hosts of anybody",
                         "write out the last two labels of the host");
  }
}

}  // namespace sallyport::flow
