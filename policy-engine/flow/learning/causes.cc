#include "policy-engine/flow/learning/causes.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/limits.h"

namespace sallyport::flow::learning {

namespace {

constexpr std::size_t kTogetherMax = 3;            // candidates that together have one flow for each execution
constexpr double kSetsMax = 20'000'000;            // of so many candidates: where there are more, none of them is tried
constexpr std::size_t kRivalsMax = 16;             // explanations that are kept: two are enough for it to be unclear
constexpr double kShortest = 1'000;                // nanoseconds: what is faster says no more
const double kClearly = std::log(10);              // of how likely two explanations are
using Set = std::vector<std::size_t>;              // of candidates
using Flow = std::pair<std::size_t, std::size_t>;  // a candidate, and which of its flows

// That each execution comes of one flow of these.
struct Explanation {
  Set candidates;
  std::vector<Flow> flows;  // by execution
  std::size_t names = 0;    // of the candidates, that name the function
  double unlikely = 0;      // a logarithm; only differences mean anything
};

class Search {
 public:
  Search(std::span<const Candidate> candidates, std::span<const Span> executions, std::uint64_t& steps)
      : candidates_(candidates), executions_(executions), steps_(steps) {}

  Causes run() {
    double sets = 1;
    for (std::size_t size = 1; size <= kTogetherMax; ++size) {
      sets *= static_cast<double>(candidates_.size()) / static_cast<double>(size);
      if (sets > kSetsMax) break;
      gather_exact({}, 0, executions_.size(), size);
      if (!found_.empty() || spent()) return choose();
    }
    for (std::size_t i = 0; i < candidates_.size() && !spent(); ++i) take(latest(i));
    return choose();
  }

 private:
  bool spent() const { return steps_ >= limits::kLearnStepsMax; }
  const Span& span_of(const Flow& flow) const { return candidates_[flow.first].flows[flow.second]; }
  std::int64_t delay(std::size_t execution, const Flow& flow) const {
    return executions_[execution].began - span_of(flow).began;
  }

  // Keeps those that no other is clearly before.
  void take(std::optional<Explanation> explanation) {
    if (!explanation) return;
    const auto is_before = [&](const Explanation& other) { return clearly_before(other, *explanation); };
    if (std::ranges::any_of(found_, is_before)) return;
    std::erase_if(found_, [&](const Explanation& other) { return clearly_before(*explanation, other); });
    if (found_.size() < kRivalsMax) found_.push_back(std::move(*explanation));
  }

  // All sets of `size` from `first` on that together with `set` have `left` flows more.
  void gather_exact(const Set& set, std::size_t first, std::size_t left, std::size_t size) {
    if (size == 0) return left == 0 ? take(exact(set)) : void();
    for (std::size_t i = first; i < candidates_.size() && !spent(); ++i) {
      ++steps_;
      if (candidates_[i].flows.empty() || candidates_[i].flows.size() > left) continue;
      Set with = set;
      with.push_back(i);
      gather_exact(with, i + 1, left - candidates_[i].flows.size(), size - 1);
    }
  }

  // Paired in the order in which they began. Nothing: an execution did not begin behind its flow.
  std::optional<Explanation> exact(const Set& set) {
    Explanation out{.candidates = set, .flows = {}};
    for (const std::size_t candidate : set) {
      for (std::size_t i = 0; i < candidates_[candidate].flows.size(); ++i) out.flows.emplace_back(candidate, i);
    }
    steps_ += out.flows.size();
    std::ranges::sort(out.flows, {}, [&](const Flow& flow) { return std::pair(span_of(flow).began, flow); });
    for (std::size_t i = 0; i < out.flows.size(); ++i) {
      if (delay(i, out.flows[i]) <= 0) return std::nullopt;
    }
    weigh(out);
    return out;
  }

  // Each execution comes of the last flow before it. Nothing: one has none.
  std::optional<Explanation> latest(std::size_t candidate) {
    const std::span<const Span> flows = candidates_[candidate].flows;
    steps_ += flows.size() + executions_.size();
    Explanation out{.candidates = {candidate}, .flows = {}};
    for (const Span& execution : executions_) {
      const auto behind = std::ranges::lower_bound(flows, execution.began, {}, &Span::began);
      if (behind == flows.begin()) return std::nullopt;
      out.flows.emplace_back(candidate, static_cast<std::size_t>(behind - flows.begin()) - 1);
    }
    weigh(out);
    return out;
  }

  Histogram counts_of(const Explanation& explanation, std::size_t candidate) const {
    std::vector<std::uint32_t> led_to(candidates_[candidate].flows.size());
    for (const auto& [of, flow] : explanation.flows) {
      if (of == candidate) ++led_to[flow];
    }
    Histogram out;
    for (const std::uint32_t count : led_to) ++out[count];
    return out;
  }

  void weigh(Explanation& explanation) const {
    double sum = 0;
    for (std::size_t i = 0; i < executions_.size(); ++i) {
      sum += static_cast<double>(delay(i, explanation.flows[i]));
    }
    const auto executions = static_cast<double>(executions_.size());
    explanation.unlikely = executions * std::log(std::max(sum / executions, kShortest));
    for (const std::size_t candidate : explanation.candidates) {
      explanation.names += candidates_[candidate].names_it ? 1 : 0;
      const auto flows = static_cast<double>(candidates_[candidate].flows.size());
      for (const auto& [count, times] : counts_of(explanation, candidate)) {
        explanation.unlikely -= static_cast<double>(times) * std::log(static_cast<double>(times) / flows);
      }
    }
  }

  bool of_same_functions(const Explanation& a, const Explanation& b) const {
    const auto functions = [&](const Explanation& explanation) {
      std::vector<std::uint32_t> out;
      for (const std::size_t candidate : explanation.candidates) out.push_back(candidates_[candidate].function);
      std::ranges::sort(out);
      return out;
    };
    return functions(a) == functions(b);
  }

  bool clearly_before(const Explanation& a, const Explanation& b) const {
    if (a.names != b.names) return a.names > b.names;
    if (a.unlikely + kClearly <= b.unlikely) return true;
    if (of_same_functions(a, b)) return false;
    for (std::size_t i = 0; i < executions_.size(); ++i) {
      if (span_of(a.flows[i]).began < span_of(b.flows[i]).began) return false;
    }
    return true;
  }

  Causes choose() const {
    Causes out;
    out.exhausted = spent();
    if (out.exhausted) return out;
    if (found_.size() > 1) {
      out.unclear = {found_[0].candidates, found_[1].candidates};
    } else if (!found_.empty()) {
      for (const std::size_t candidate : found_[0].candidates) out.found.push_back(cause_of(found_[0], candidate));
    }
    return out;
  }

  Cause cause_of(const Explanation& explanation, std::size_t candidate) const {
    Cause out{.candidate = candidate, .executions = counts_of(explanation, candidate)};
    std::size_t pairs = 0, waiting = 0;
    for (std::size_t i = 0; i < executions_.size(); ++i) {
      const Flow& flow = explanation.flows[i];
      if (flow.first != candidate) continue;
      out.longest = std::max(out.longest, delay(i, flow));
      const Span& execution = executions_[i];
      ++pairs;
      waiting += span_of(flow).ended >= execution.began + (execution.ended - execution.began) / 2 ? 1 : 0;
    }
    out.waits = waiting * 5 >= pairs * 4;  // what ran in parallel may have been paired crosswise
    return out;
  }

  const std::span<const Candidate> candidates_;
  const std::span<const Span> executions_;
  std::vector<Explanation> found_;
  std::uint64_t& steps_;
};

}  // namespace

std::uint64_t Cause::led_to() const {
  std::uint64_t out = 0;
  for (const auto& [count, flows] : executions) out += count * flows;
  return out;
}

Causes find_causes(std::span<const Candidate> candidates, std::span<const Span> executions, std::uint64_t& steps) {
  return Search(candidates, executions, steps).run();
}

}  // namespace sallyport::flow::learning
