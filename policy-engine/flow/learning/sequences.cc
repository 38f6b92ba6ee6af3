#include "policy-engine/flow/learning/sequences.h"

#include <algorithm>
#include <unordered_map>

#include "base/limits.h"
#include "policy-engine/flow/learning/folding.h"
#include "policy-engine/flow/learning/parallel.h"
#include "policy-engine/flow/learning/turns.h"

namespace sallyport::flow::learning {

namespace {

struct Hash {
  std::size_t operator()(const std::vector<std::uint32_t>& words) const {
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const std::uint32_t word : words) hash = (hash ^ word) * 0x100000001b3U;
    return hash;
  }
};

// Runs as numbers: how many parts, then each part's symbol and count.
std::vector<std::uint32_t> encode(const std::vector<Run>& runs) {
  std::vector<std::uint32_t> out;
  for (const Run& run : runs) {
    out.push_back(static_cast<std::uint32_t>(run.size()));
    for (const auto& [symbol, count] : run) {
      out.push_back(symbol);
      out.push_back(count);
    }
  }
  return out;
}

std::vector<Run> decode(const std::vector<std::uint32_t>& words) {
  std::vector<Run> out;
  for (std::size_t at = 0; at < words.size();) {
    Run run(words[at++]);
    for (auto& [symbol, count] : run) {
      symbol = words[at++];
      count = words[at++];
    }
    out.push_back(std::move(run));
  }
  return out;
}

class Finder {
 public:
  Finder(const Executions& executions, const Grouping& grouping)
      : executions_(executions), grouping_(grouping), parallel_(parallel_pairs(executions, grouping)) {}

  Result<Sequences> find() {
    if (auto gathered = gather(); !gathered) return std::unexpected(gathered.error());
    loop_of_ = find_turns(runs_, grouping_.patterns.size());
    find_loops();
    ParallelSets sets(memberships(), parallel_);
    sets_ = &sets;
    std::vector<std::vector<Token>> folded;
    std::set<Body> groups;
    for (const RunSequence& sequence : runs_) {
      folded.push_back(fold(tokens_of(sequence)).tokens);
      for (const Token& token : folded.back()) {
        if (token.body.kind == StepKind::group) groups.insert(token.body);
      }
    }
    std::vector<Body> known(groups.begin(), groups.end());
    std::ranges::sort(known, [](const Body& a, const Body& b) {
      return a.symbols.size() != b.symbols.size() ? a.symbols.size() > b.symbols.size() : a < b;
    });
    std::set<Body> bodies;
    for (auto& tokens : folded) {
      fold_known(tokens, known);
      for (const Token& token : tokens) bodies.insert(token.body);
    }
    out_.bodies.assign(bodies.begin(), bodies.end());
    for (std::size_t i = 0; i < folded.size(); ++i) add_form(folded[i], runs_[i].executions);
    for (auto& [ids, form] : forms_) out_.forms.push_back(std::move(form));
    for (auto& [loop, order] : orders_) out_.loops.emplace(id_of({StepKind::loop, loops_.at(loop)}), std::move(order));
    out_.executions = executions_.size();
    sets_ = nullptr;
    return std::move(out_);
  }

 private:
  // Executions that ran alike, once.
  Result<void> gather() {
    std::unordered_map<std::vector<std::uint32_t>, std::uint64_t, Hash> seen;
    for (ExecutionId id = 0; id < executions_.size(); ++id) {
      ++seen[encode(runs_of(executions_[id], grouping_, parallel_))];
      if (seen.size() > limits::kLearnFormsMax) {
        return fail(ErrorSource::policy, ErrorKind::limit,
                    "more than " + std::to_string(limits::kLearnFormsMax) +
                        " executions of which no two sent the same requests in the same order: learn from fewer, or "
                        "lower --lcp-threshold");
      }
    }
    for (const auto& [words, executions] : seen) runs_.push_back({decode(words), executions});
    std::ranges::sort(runs_, {}, &RunSequence::runs);
    return {};
  }

  void find_loops() {
    for (Symbol symbol = 0; symbol < loop_of_.size(); ++symbol) {
      if (loop_of_[symbol] != kNoLoop) loops_[loop_of_[symbol]].push_back(symbol);
    }
    // A loop of more steps than one may have stays as it was seen.
    std::erase_if(loops_, [](const auto& loop) { return loop.second.size() > limits::kFlowStepsMax; });
    for (std::uint32_t& loop : loop_of_) {
      if (!loops_.contains(loop)) loop = kNoLoop;
    }
  }

  std::uint32_t loop_of(const Run& run) const { return loop_of_[run[0].first]; }

  std::vector<std::vector<Symbol>> memberships() const {
    std::set<std::vector<Symbol>> out;
    for (const RunSequence& sequence : runs_) {
      for (const Run& run : sequence.runs) {
        if (run.size() < 2 || loop_of(run) != kNoLoop) continue;
        out.insert(symbols_of(run));
      }
    }
    return {out.begin(), out.end()};
  }

  static std::vector<Symbol> symbols_of(const Run& run) {
    std::vector<Symbol> out;
    for (const auto& [symbol, count] : run) out.push_back(symbol);
    return out;
  }

  std::vector<Token> tokens_of(const RunSequence& sequence) {
    std::vector<Token> out;
    const std::vector<Run>& runs = sequence.runs;
    for (std::size_t at = 0; at < runs.size();) {
      const std::uint32_t loop = loop_of(runs[at]);
      std::size_t end = at + 1;
      if (loop == kNoLoop) {
        out.push_back(run_token(runs[at]));
      } else {
        while (end < runs.size() && loop_of(runs[end]) == loop) ++end;
        out.push_back(loop_token(std::span(runs).subspan(at, end - at), loop, sequence.executions));
      }
      at = end;
    }
    return out;
  }

  Token run_token(const Run& run) const {
    Token token;
    if (run.size() == 1) {
      token.body.symbols = {run[0].first};
      token.count = run[0].second;
      return token;
    }
    token.body = {StepKind::set, sets_->set_of(symbols_of(run))};
    for (const Symbol symbol : token.body.symbols) {
      const auto part = std::ranges::find(run, symbol, &Run::value_type::first);
      token.inner.push_back(part == run.end() ? 0 : part->second);
    }
    return token;
  }

  Token loop_token(std::span<const Run> runs, std::uint32_t loop, std::uint64_t executions) {
    Token token;
    token.body = {StepKind::loop, loops_.at(loop)};
    token.inner.assign(token.body.symbols.size(), 0);
    token.count = 0;
    std::set<std::pair<Symbol, Symbol>> edges;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      for (const auto& [symbol, count] : runs[i]) {
        const auto at = std::ranges::lower_bound(token.body.symbols, symbol) - token.body.symbols.begin();
        token.inner[static_cast<std::size_t>(at)] += count;
        token.count += count;
        // Of a set, any may be the next: also the first and the last.
        for (const auto& [other, times] : runs[i]) {
          if (other != symbol || times > 1) edges.emplace(symbol, other);
        }
        if (i + 1 == runs.size()) continue;
        for (const auto& [other, times] : runs[i + 1]) edges.emplace(symbol, other);
      }
    }
    LoopOrder& order = orders_[loop];
    for (const auto& edge : edges) order.edges[edge] += executions;
    for (const auto& [symbol, count] : runs.front()) order.starts.insert(symbol);
    for (const auto& [symbol, count] : runs.back()) order.ends.insert(symbol);
    return token;
  }

  BodyId id_of(const Body& body) const {
    return static_cast<BodyId>(std::ranges::lower_bound(out_.bodies, body) - out_.bodies.begin());
  }

  void add_form(const std::vector<Token>& tokens, std::uint64_t executions) {
    std::vector<BodyId> ids;
    for (const Token& token : tokens) ids.push_back(id_of(token.body));
    Form& form = forms_[ids];
    form.bodies = ids;
    form.executions += executions;
    form.occurrences.resize(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      Occurrence& occurrence = form.occurrences[i];
      occurrence.times[tokens[i].count] += executions;
      occurrence.inner.resize(tokens[i].inner.size());
      for (std::size_t j = 0; j < tokens[i].inner.size(); ++j) occurrence.inner[j][tokens[i].inner[j]] += executions;
    }
  }

  const Executions& executions_;
  const Grouping& grouping_;
  const Relation parallel_;
  std::vector<RunSequence> runs_;
  std::vector<std::uint32_t> loop_of_;                  // by symbol
  std::map<std::uint32_t, std::vector<Symbol>> loops_;  // the steps of each
  std::map<std::uint32_t, LoopOrder> orders_;
  const ParallelSets* sets_ = nullptr;
  std::map<std::vector<BodyId>, Form> forms_;
  Sequences out_;
};

}  // namespace

Result<Sequences> find_sequences(const Executions& executions, const Grouping& grouping) {
  return Finder(executions, grouping).find();
}

}  // namespace sallyport::flow::learning
