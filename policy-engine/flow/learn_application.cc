#include "policy-engine/flow/learn_application.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <tuple>

#include "base/limits.h"
#include "policy-engine/flow/application_graph_document.h"
#include "policy-engine/flow/graph_symbols.h"
#include "policy-engine/flow/learning/application_replay.h"
#include "policy-engine/flow/learning/causes.h"
#include "policy-engine/flow/learning/counters.h"
#include "policy-engine/flow/learning/histories.h"
#include "policy-engine/flow/learning/url_grouping.h"

namespace sallyport::flow {

namespace {

using learning::Candidate;
using learning::Cause;
using learning::Causes;
using learning::Histogram;
using learning::History;
using learning::Range;
using learning::Sent;
using learning::Span;

constexpr std::uint64_t kFewest = 5;  // executions of which a person need not be told that they are few

std::unexpected<Error> refuse(std::string text) {
  return fail(ErrorSource::policy, ErrorKind::invalid, std::move(text));
}

std::string plural(std::uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// RFC 9110, section 9.2.1: they ask for nothing to happen.
bool is_safe(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE";
}

// Whether `name` stands in `text`, and not as a part of a longer name.
bool names(std::string_view text, std::string_view name) {
  const auto in_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  for (std::size_t at = text.find(name); at != text.npos; at = text.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    if ((at == 0 || !in_name(text[at - 1])) && (end == text.size() || !in_name(text[end]))) return true;
  }
  return false;
}

// How many executions a flow leads to. Where that varies it need not lead to any, and may to more: the controller gives
// each execution to the oldest flow that may have another, which then are not there for the next.
Range leads_to(const Histogram& flows, bool exact) {
  const Range range = learning::range_of(flows, exact);
  const bool constant = flows.size() == 1;
  if (!constant) return {0, range.most};
  return {range.least, flows.begin()->first};
}

// Flows of one function that one pattern stands for.
struct Symbol {
  const Pattern* pattern = nullptr;
  std::vector<Span> flows;
};

class Assembly {
 public:
  Assembly(const learning::Histories& histories, const LearnApplicationOptions& options)
      : histories_(histories), options_(options) {}

  Result<LearnedApplication> run() {
    if (auto good = check_options(); !good) return std::unexpected(good.error());
    for (const auto& [name, history] : histories_.functions()) {
      tagged_[name].resize(history.begun.size());
      v1alpha1::ApplicationFunction& made = *out_.graph.mutable_spec()->add_functions();
      made.set_name(name);
      made_[name] = &made;
      executions_ += history.begun.size();
    }
    pair_messages();
    for (const auto& [name, history] : histories_.functions()) {
      if (auto grouped = group(name, history); !grouped) return std::unexpected(grouped.error());
    }
    for (const auto& [name, history] : histories_.functions()) {
      if (auto found = find_predecessors(name, history); !found) return std::unexpected(found.error());
    }
    return finish();
  }

 private:
  Result<void> check_options() const {
    if (histories_.functions().empty()) return refuse("no execution to learn from");
    const auto known = [&](const std::string& name) { return histories_.functions().contains(name); };
    for (const std::string& name : options_.entries) {
      if (!known(name)) return refuse("there is no execution of the entry '" + name + "' among the traces");
    }
    for (const auto& [name, request] : options_.after) {
      if (!known(name)) return refuse("there is no execution of '" + name + "' among the traces");
    }
    return {};
  }

  void note(const std::string& function, std::string text) { out_.notes.push_back({function, std::move(text)}); }

  // The messages that a function sends to another itself: one that begins while a request to that address is under way.
  void pair_messages();
  Result<void> group(const std::string& name, const History& history);
  Result<void> find_predecessors(const std::string& name, const History& history);
  Result<void> add_causes(const std::string& name, const std::vector<Span>& executions);
  std::vector<Candidate> candidates_for(const std::string& name, std::vector<const Symbol*>& symbols) const;
  std::string text_of(const std::vector<std::size_t>& set, const std::vector<const Symbol*>& symbols,
                      const std::vector<Candidate>& candidates) const;
  void add_edge(const std::string& to, const std::string& from, const Pattern* through, const Cause& cause);
  Result<LearnedApplication> finish();

  const std::string& function_name(std::uint32_t function) const {
    return std::next(histories_.functions().begin(), function)->first;
  }

  const learning::Histories& histories_;
  const LearnApplicationOptions& options_;
  LearnedApplication out_;
  std::map<std::string, v1alpha1::ApplicationFunction*> made_;
  std::map<std::string, std::vector<bool>> tagged_;          // executions that another function has sent the message of
  std::map<std::string, std::set<std::string_view>> hosts_;  // that a function sends such messages to
  std::map<std::string, learning::Grouping> groupings_;
  std::map<std::string, std::vector<Symbol>> symbols_;
  std::uint64_t executions_ = 0;
  std::uint64_t steps_ = 0;
};

void Assembly::pair_messages() {
  struct Message {
    const std::string* function;
    std::size_t index;
    std::int64_t began;
  };
  std::map<learning::Address, std::vector<Message>> messages;
  for (const auto& [name, history] : histories_.functions()) {
    for (std::size_t i = 0; i < history.begun.size(); ++i) {
      const learning::Begun& begun = history.begun[i];
      if (begun.message != learning::kNoAddress) messages[begun.message].push_back({&name, i, begun.span.began});
    }
  }
  for (auto& [address, all] : messages) {
    std::ranges::sort(all, {}, [](const Message& each) { return std::tie(each.began, *each.function, each.index); });
  }
  for (const auto& [name, history] : histories_.functions()) {
    std::map<std::string, Cause> edges;                                           // by the function that they lead to
    std::map<std::string_view, std::pair<std::string, std::uint32_t>> answering;  // by host: who, and idle flows
    for (const Sent& sent : history.sent) {
      const std::string_view host = histories_.operations()[sent.operation].host;
      const auto found = messages.find(sent.address);
      const Message* message = nullptr;
      if (found != messages.end()) {
        for (auto at = std::ranges::lower_bound(found->second, sent.span.began, {}, &Message::began);
             at != found->second.end() && at->began <= sent.span.ended; ++at) {
          if (tagged_[*at->function][at->index]) continue;
          message = &*at;
          break;
        }
      }
      if (message == nullptr) {
        if (sent.taken) ++answering[host].second;
        continue;
      }
      tagged_[*message->function][message->index] = true;
      Cause& cause = edges[*message->function];
      ++cause.executions[1];
      cause.longest = std::max(cause.longest, message->began - sent.span.began);
      answering[host].first = *message->function;
    }
    for (const auto& [host, idle] : answering) {
      if (idle.first.empty()) continue;
      hosts_[name].insert(host);
      // Another request to that function: to the controller it is one that leads to it, too.
      if (idle.second > 0) edges[idle.first].executions[0] += idle.second;
    }
    for (const auto& [to, cause] : edges) {
      add_edge(to, name, nullptr, cause);
      note(to, "'" + name + "' sends to it itself, " + plural(cause.led_to(), "time") +
                   ": its policy must say 'function: " + to + "' at that endpoint, or its messages bear no tag");
    }
  }
}

// The patterns of what a function sends, as its own graph has them.
Result<void> Assembly::group(const std::string& name, const History& history) {
  if (history.executions.size() == 0) return {};
  auto grouping = learning::group_urls(history.executions, options_.lcp_threshold);
  if (!grouping) return std::unexpected(grouping.error());
  const learning::Grouping& kept = groupings_[name] = std::move(*grouping);
  SymbolIndex index;
  std::vector<Symbol>& symbols = symbols_[name];
  for (std::uint32_t i = 0; i < kept.patterns.size(); ++i) {
    index.add(kept.patterns[i], i);
    symbols.push_back({&kept.patterns[i], {}});
  }
  for (const Sent& sent : history.sent) {
    const Operation& operation = histories_.operations()[sent.operation];
    const std::uint32_t symbol = index.find(operation);
    if (!sent.taken || is_safe(operation.method) || symbol == SymbolIndex::kNone) continue;
    if (const auto direct = hosts_.find(name); direct != hosts_.end() && direct->second.contains(operation.host))
      continue;
    symbols[symbol].flows.push_back(sent.span);
  }
  return {};
}

Result<void> Assembly::find_predecessors(const std::string& name, const History& history) {
  std::vector<Span> executions;
  for (std::size_t i = 0; i < history.begun.size(); ++i) {
    if (!tagged_[name][i]) executions.push_back(history.begun[i].span);
  }
  if (executions.empty()) return {};
  if (std::ranges::find(options_.entries, name) == options_.entries.end()) {
    const int before = made_[name]->after_size();
    if (auto added = add_causes(name, executions); !added) return added;
    if (made_[name]->after_size() > before) return {};
    if (!options_.entries.empty()) {
      return refuse("nothing that another function has sent comes before each execution of '" + name +
                    "': say --entry " + name + " too, if messages from outside begin it");
    }
    note(name, "an entry: nothing that a function has sent comes before each of its " +
                   plural(executions.size(), "execution"));
  }
  made_[name]->set_entry(true);
  return {};
}

std::vector<Candidate> Assembly::candidates_for(const std::string& name, std::vector<const Symbol*>& symbols) const {
  std::set<std::string_view> only;
  for (const auto& [function, request] : options_.after) {
    if (function == name) only.insert(request);
  }
  std::vector<Candidate> out;
  std::uint32_t function = 0;
  for (const auto& [from, history] : histories_.functions()) {
    const auto found = symbols_.find(from);
    for (const Symbol& symbol : found == symbols_.end() ? std::span<const Symbol>() : std::span(found->second)) {
      const std::string text = symbol.pattern->to_string();
      if (symbol.flows.empty() || (!only.empty() && !only.contains(text))) continue;
      out.push_back({function, names(text, name) || names(symbol.pattern->action, name), symbol.flows});
      symbols.push_back(&symbol);
    }
    ++function;
  }
  return out;
}

std::string Assembly::text_of(const std::vector<std::size_t>& set, const std::vector<const Symbol*>& symbols,
                              const std::vector<Candidate>& candidates) const {
  std::string out;
  for (const std::size_t i : set) {
    const Pattern& pattern = *symbols[i]->pattern;
    out += (out.empty() ? "'" : " and '") + pattern.to_string() + "'";
    if (!pattern.action.empty()) out += " (" + pattern.action + ")";
    out += " of '" + function_name(candidates[i].function) + "'";
  }
  return out;
}

Result<void> Assembly::add_causes(const std::string& name, const std::vector<Span>& executions) {
  std::vector<const Symbol*> symbols;
  const std::vector<Candidate> candidates = candidates_for(name, symbols);
  const bool told =
      std::ranges::find(options_.after, name, &std::pair<std::string, std::string>::first) != options_.after.end();
  if (told && candidates.empty()) return refuse("no function sends what --after says of '" + name + "'");
  const Causes causes = learning::find_causes(candidates, executions, steps_);
  if (causes.exhausted) {
    return fail(ErrorSource::policy, ErrorKind::limit,
                "too many different requests come before '" + name +
                    "' to tell which leads to it: learn from fewer executions, or say it with --after");
  }
  if (!causes.unclear.empty()) {
    return refuse("it is not clear what leads to '" + name + "': " + text_of(causes.unclear[0], symbols, candidates) +
                  ", or " + text_of(causes.unclear[1], symbols, candidates) +
                  "; learn from more executions, in which they differ, or say which with --after '" + name +
                  "=METHOD URL', or --entry if it is neither");
  }
  if (told && causes.found.empty()) {
    return refuse("what --after says does not come before each execution of '" + name + "'");
  }
  for (const Cause& cause : causes.found) {
    add_edge(name, function_name(candidates[cause.candidate].function), symbols[cause.candidate]->pattern, cause);
  }
  return {};
}

void Assembly::add_edge(const std::string& to, const std::string& from, const Pattern* through, const Cause& cause) {
  v1alpha1::Predecessor& edge = *made_[to]->add_after();
  edge.set_function(from);
  if (through != nullptr) {
    edge.set_through(through->to_string());
    if (!through->action.empty()) edge.set_action(through->action);
  }
  const Range range = leads_to(cause.executions, options_.exact_counts);
  if (const std::string text = learning::times_text(range, 1); !text.empty()) edge.set_leads_to(text);
  // Who waits for what it leads to sends it again itself, if it does.
  if (through != nullptr && !cause.waits && options_.redeliveries > 0) edge.set_redeliveries(options_.redeliveries);
  const auto longest = std::chrono::ceil<std::chrono::minutes>(std::chrono::nanoseconds(cause.longest) * 2);
  constexpr auto kLongest = std::chrono::floor<std::chrono::minutes>(limits::kApplicationTimeMax);
  if (longest > limits::kFollowWithin) {
    edge.set_within(std::to_string(std::min(longest, kLongest).count()) + "m");
  }
  edge.set_support(cause.led_to());
  if (cause.led_to() < kFewest && executions_ >= kFewest) {
    note(to, "'" + from + "' was seen to lead to it " + plural(cause.led_to(), "time") + " only");
  }
}

Result<LearnedApplication> Assembly::finish() {
  out_.graph.set_api_version("sallyport.dev/v1alpha1");
  out_.graph.set_kind(std::string(kApplicationGraphKind));
  out_.graph.mutable_metadata()->set_name(options_.application);
  out_.graph.mutable_spec()->set_executions(executions_);
  // Closed: a graph that the controller would refuse, or that would refuse what it was learned from, is not handed out.
  const ApplicationGraphLoad load = load_application_graph(out_.graph, "what was learned");
  if (load.graph == nullptr) {
    return refuse(load.diagnostics.empty() ? "what was learned is no graph" : load.diagnostics.front().to_string());
  }
  if (auto accepted = learning::check_application(*load.graph, histories_, tagged_); !accepted) {
    return std::unexpected(accepted.error());
  }
  return std::move(out_);
}

}  // namespace

struct ApplicationLearner::State {
  LearnApplicationOptions options;
  learning::Histories histories;
};

ApplicationLearner::ApplicationLearner(LearnApplicationOptions options) : state_(std::make_unique<State>()) {
  state_->options = std::move(options);
}
ApplicationLearner::~ApplicationLearner() = default;

Result<void> ApplicationLearner::add(v1alpha1::Trace&& trace) { return state_->histories.add(std::move(trace)); }

Result<LearnedApplication> ApplicationLearner::finish() {
  state_->histories.finish();
  return Assembly(state_->histories, state_->options).run();
}

}  // namespace sallyport::flow
