#include "policy-engine/flow/learning/counters.h"

#include <algorithm>
#include <cmath>

#include "base/limits.h"

namespace sallyport::flow::learning {

namespace {

constexpr std::uint64_t kSteadyMin = 5;  // executions after which a constant is taken for one
constexpr std::uint64_t kLowerMin = 20;  // executions before the least of counts that vary is taken for a bound
constexpr std::uint64_t kOften = 20;     // and in a tenth of the executions: then it is a bound
constexpr std::size_t kCountsMin = 3;    // different ones, before they have an end that can be told from a tail
// By the rule of three, what none of so many executions had is in less than one of a hundred.
constexpr std::uint64_t kManyExecutions = 300;
constexpr double kBeyondMax = 0.0003;        // of executions may be beyond a bound that has no headroom
constexpr double kFutureExecutions = 1'000;  // in which a tail should pass the bound
constexpr double kPassesMax = 0.03;          // so many times

std::uint32_t median_of(const Histogram& counts) {
  std::uint64_t left = (executions_of(counts) + 1) / 2;
  for (const auto& [count, executions] : counts) {
    if (executions >= left) return count;
    left -= executions;
  }
  return most_seen(counts);
}

// Whether the largest is much farther from the middle than the smallest: counts of turns and tries, which have no
// bound, are so; those of a bounded number of things are not.
bool has_tail(const Histogram& counts) {
  const std::uint32_t median = median_of(counts), least = counts.begin()->first, most = most_seen(counts);
  return least == 0 || 2.0 * (most - median) > 3.0 * (median - least) + 2;
}

// Where a tail as thick as that above the median would end.
double end_of_tail(const Histogram& counts, double passes_max) {
  const std::uint32_t median = median_of(counts);
  double above = 0, excess = 0;
  for (const auto& [count, executions] : counts) {
    if (count <= median) continue;
    above += static_cast<double>(executions);
    excess += static_cast<double>(executions) * (count - median);
  }
  if (above == 0) return median;
  const double mean = std::max(excess / above, 1 + 1 / above);
  const double expected = kFutureExecutions * above / static_cast<double>(executions_of(counts));
  return median + std::log(expected / passes_max) / -std::log(1 - 1 / mean);
}

// Where counts end that get rarer evenly towards their end, so that one of a hundred samples has a maximum that is so
// far from it. At most as far again.
double end_of_ramp(std::uint32_t most, std::uint64_t executions) {
  const double missed = std::sqrt(-std::log(0.01) / static_cast<double>(executions));
  return missed < 0.5 ? most / (1 - missed) : 2.0 * most;
}

// Half as often as the most frequent count at least: towards a bound counts do not thin out.
bool is_often(std::uint64_t times, const Histogram& counts) {
  std::uint64_t mode = 0;
  for (const auto& [count, executions] : counts) mode = std::max(mode, executions);
  return counts.size() >= kCountsMin && times >= kOften && times * 10 >= executions_of(counts) && times * 2 >= mode;
}

// Whether a larger count than the most is not to be expected: counts that get rarer towards the most go on to do so,
// twice as fast, from what may as well have been three executions more.
bool is_settled(const Histogram& counts) {
  const auto executions = static_cast<double>(executions_of(counts));
  if (counts.size() == 1) return executions >= kManyExecutions;
  const double last = static_cast<double>(counts.rbegin()->second) + 3;
  const double ratio = last / static_cast<double>(std::next(counts.rbegin())->second);
  return last / executions * ratio * ratio < kBeyondMax;
}

std::uint32_t with_headroom(const Histogram& counts, bool turns) {
  const std::uint32_t most = most_seen(counts);
  const std::uint64_t executions = executions_of(counts);
  if (is_settled(counts) || (!turns && is_often(counts.rbegin()->second, counts))) return most;
  double bound = most + std::ceil(3.0 * most / static_cast<double>(executions));
  if (counts.size() > 1) bound = std::max(most + 1.0, std::ceil(end_of_ramp(most, executions)));
  if (turns || has_tail(counts)) {
    // What most executions have once at most is too rare to show how it is spread: it gets more room.
    const bool rare = turns && median_of(counts) <= 1;
    const double end = end_of_tail(counts, rare ? kPassesMax / 100 : kPassesMax);
    bound = std::max(bound, std::min(std::ceil(end), rare ? 3.0 * most + 4 : 2.0 * most + 3));
  }
  return static_cast<std::uint32_t>(std::min<double>(bound, limits::kFlowTimesMax));
}

}  // namespace

std::uint32_t most_seen(const Histogram& counts) { return counts.rbegin()->first; }

std::uint64_t executions_of(const Histogram& counts) {
  std::uint64_t sum = 0;
  for (const auto& [count, executions] : counts) sum += executions;
  return sum;
}

Range range_of(const Histogram& counts, bool exact, bool turns) {
  const std::uint32_t least = counts.begin()->first, most = most_seen(counts);
  const std::uint64_t executions = executions_of(counts);
  const bool steady = least == most && executions >= kSteadyMin;
  const bool often = executions >= kLowerMin && is_often(counts.begin()->second, counts);
  const bool bounded_below = !turns && (steady || often);
  const bool once = most <= 1 && !turns;  // what is no loop has no count
  return {bounded_below ? least : std::min(least, 1U), exact || once ? most : with_headroom(counts, turns)};
}

Range range_of_turns(const Histogram& counts, const Range& total, bool exact) {
  Range range = range_of(counts, exact, true);
  if (!exact && !is_settled(counts)) range.most = std::max(range.most, total.most / 3);
  return range;
}

Range range_of_polls(const Histogram& counts, bool exact) {
  constexpr std::uint32_t kPolls = 100;
  const std::uint64_t times = counts.rbegin()->second;
  const bool constant = counts.size() == 1 && times >= kManyExecutions;
  Range range = range_of(counts, exact);
  if (exact || most_seen(counts) <= 1 || constant || is_often(times, counts)) return range;
  range.most = std::max(range.most, kPolls);
  return range;
}

std::string times_text(const Range& range, std::uint32_t least) {
  if (range == Range{1, 1} && least == 1) return "";
  if (range.least == least) return std::to_string(range.most);
  return std::to_string(range.least) + ".." + std::to_string(range.most);
}

}  // namespace sallyport::flow::learning
