#include "policy-engine/flow/learning/counters.h"

#include <algorithm>
#include <cmath>

#include "base/limits.h"

namespace sallyport::flow::learning {

namespace {

constexpr std::uint64_t kSteadyMin = 5;  // executions after which a constant is taken for one
constexpr std::uint64_t kLowerMin = 20;  // executions before the least of counts that vary is taken for a bound
constexpr std::uint64_t kOften = 5;      // and in a tenth of the executions: then it is a bound
// A tail that went on would have shown: were what is beyond the maximum but a fifth as frequent as it, none of it
// beside twenty of the maximum had a chance of one in fifty.
constexpr std::uint64_t kManyTimes = 20;
constexpr double kFutureExecutions = 1'000;  // in which a tail should pass the bound
constexpr double kPassesMax = 0.1;           // so many times

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

// Half as often as the most frequent count at least: towards a bound counts do not thin out.
bool is_often(std::uint64_t times, const Histogram& counts) {
  std::uint64_t mode = 0;
  for (const auto& [count, executions] : counts) mode = std::max(mode, executions);
  return times >= kOften && times * 10 >= executions_of(counts) && times * 2 >= mode;
}

std::uint32_t with_headroom(const Histogram& counts, bool turns) {
  const std::uint32_t most = most_seen(counts);
  const std::uint64_t executions = executions_of(counts);
  const std::uint64_t times = counts.rbegin()->second;
  if (times >= kManyTimes || (!turns && is_often(times, counts))) return most;
  double bound = most + std::ceil(3.0 * most / static_cast<double>(executions));
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
  if (least == most) return {executions_of(counts) >= kSteadyMin ? most : std::min(most, 1U), most};
  const std::uint64_t executions = executions_of(counts);
  const bool bounded_below = executions >= kLowerMin && is_often(counts.begin()->second, counts);
  return {bounded_below ? least : std::min(least, 1U), exact ? most : with_headroom(counts, turns)};
}

std::string times_text(const Range& range, std::uint32_t least) {
  if (range == Range{1, 1} && least == 1) return "";
  if (range.least == least) return std::to_string(range.most);
  return std::to_string(range.least) + ".." + std::to_string(range.most);
}

}  // namespace sallyport::flow::learning
