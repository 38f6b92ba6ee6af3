#include "policy-engine/flow/learning/turns.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "policy-engine/flow/learning/folding.h"

namespace sallyport::flow::learning {

namespace {

constexpr std::size_t kRecursMin = 3;
constexpr std::size_t kOrdersMin = 2;

using Edges = std::vector<std::set<Symbol>>;

Edges followers(const std::vector<RunSequence>& sequences, std::size_t symbols) {
  Edges out(symbols);
  for (const RunSequence& sequence : sequences) {
    for (std::size_t i = 0; i < sequence.runs.size(); ++i) {
      for (const auto& [symbol, count] : sequence.runs[i]) {
        // Those of one set are in any order.
        for (const auto& [other, times] : sequence.runs[i]) {
          if (other != symbol) out[symbol].insert(other);
        }
        if (i + 1 == sequence.runs.size()) continue;
        for (const auto& [other, times] : sequence.runs[i + 1]) out[symbol].insert(other);
      }
    }
  }
  return out;
}

// Tarjan's algorithm, without recursion: there are as many symbols as a hostile trace likes.
class Components {
 public:
  explicit Components(const Edges& edges)
      : edges_(edges), number_(edges.size(), 0), low_(edges.size(), 0), component_(edges.size(), kNoLoop) {}

  // By symbol; a component of one symbol has no number.
  std::vector<std::uint32_t> find() {
    for (Symbol symbol = 0; symbol < edges_.size(); ++symbol) {
      if (number_[symbol] == 0) visit(symbol);
    }
    return std::move(component_);
  }

 private:
  struct Frame {
    Symbol symbol;
    std::set<Symbol>::const_iterator next;
  };

  void open(std::vector<Frame>& frames, Symbol symbol) {
    number_[symbol] = low_[symbol] = ++count_;
    stack_.push_back(symbol);
    frames.push_back({symbol, edges_[symbol].begin()});
  }

  void visit(Symbol root) {
    std::vector<Frame> frames;
    open(frames, root);
    while (!frames.empty()) {
      Frame& frame = frames.back();
      if (frame.next == edges_[frame.symbol].end()) {
        const Symbol done = frame.symbol;
        frames.pop_back();
        if (!frames.empty()) low_[frames.back().symbol] = std::min(low_[frames.back().symbol], low_[done]);
        if (low_[done] == number_[done]) close(done);
        continue;
      }
      const Symbol next = *frame.next++;
      if (number_[next] == 0) {
        open(frames, next);
      } else if (!closed(next)) {
        low_[frame.symbol] = std::min(low_[frame.symbol], number_[next]);
      }
    }
  }

  bool closed(Symbol symbol) const { return std::ranges::binary_search(closed_, symbol); }

  void close(Symbol root) {
    const auto from = std::ranges::find(stack_, root);
    const bool single = stack_.end() - from == 1;
    for (auto at = from; at != stack_.end(); ++at) {
      if (!single) component_[*at] = components_;
      closed_.insert(std::ranges::lower_bound(closed_, *at), *at);
    }
    if (!single) ++components_;
    stack_.erase(from, stack_.end());
  }

  const Edges& edges_;
  std::vector<std::uint32_t> number_, low_, component_;
  std::vector<Symbol> stack_, closed_;
  std::uint32_t count_ = 0, components_ = 0;
};

struct Evidence {
  bool recurs = false;
  bool nested = false;
  std::map<std::vector<Body>, std::uint64_t> orders;  // with how many executions had each
};

Token token_of(const Run& run) {
  Token token;
  for (const auto& [symbol, count] : run) {
    token.body.symbols.push_back(symbol);
    token.inner.push_back(count);
  }
  if (run.size() > 1) {
    token.body.kind = StepKind::set;
  } else {
    token.count = run[0].second;
    token.inner.clear();
  }
  return token;
}

void look(const RunSequence& sequence, const std::vector<std::uint32_t>& component, std::vector<Evidence>& evidence) {
  std::vector<Token> tokens;
  for (const Run& run : sequence.runs) tokens.push_back(token_of(run));
  const Folded folded = fold(std::move(tokens));
  std::map<std::uint32_t, std::vector<Body>> orders;
  std::map<Symbol, std::size_t> recurs;
  for (const Token& token : folded.tokens) {
    const std::uint32_t part = component[token.body.symbols[0]];
    if (part == kNoLoop) continue;
    orders[part].push_back(token.body);
    const std::set<Symbol> once(token.body.symbols.begin(), token.body.symbols.end());
    for (const Symbol symbol : once) evidence[part].recurs |= ++recurs[symbol] >= kRecursMin;
  }
  for (const Symbol symbol : folded.nested) {
    if (component[symbol] != kNoLoop) evidence[component[symbol]].nested = true;
  }
  for (auto& [part, order] : orders) evidence[part].orders[std::move(order)] += sequence.executions;
}

bool is_loop(const Evidence& evidence) {
  if (!evidence.recurs || evidence.orders.size() < kOrdersMin) return false;
  const auto once = std::ranges::count_if(evidence.orders, [](const auto& order) { return order.second == 1; });
  return evidence.nested || once >= 2;
}

}  // namespace

std::vector<std::uint32_t> find_turns(const std::vector<RunSequence>& sequences, std::size_t symbols) {
  std::vector<std::uint32_t> component = Components(followers(sequences, symbols)).find();
  std::vector<Evidence> evidence;
  for (const std::uint32_t part : component) {
    if (part != kNoLoop && part >= evidence.size()) evidence.resize(part + 1);
  }
  if (evidence.empty()) return component;
  for (const RunSequence& sequence : sequences) look(sequence, component, evidence);
  for (std::uint32_t& part : component) {
    if (part != kNoLoop && !is_loop(evidence[part])) part = kNoLoop;
  }
  return component;
}

}  // namespace sallyport::flow::learning
