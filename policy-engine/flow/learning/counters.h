#pragma once
// What was counted → what is allowed.

#include <cstdint>
#include <string>

#include "policy-engine/flow/learning/sequences.h"

namespace sallyport::flow::learning {

struct Range {
  std::uint32_t least = 1;
  std::uint32_t most = 1;
  auto operator<=>(const Range&) const = default;
};

// A count that was the same in all executions stays: as both bounds where there were several of them. Of counts that
// varied, the least and the most are bounds where they were seen often (five times, in a tenth of the executions, and
// half as often as the most frequent), the least only from 20 executions on. Else there is no bound below but 1, or 0
// where it was ever 0; and above there is headroom, unless `exact`.
//
// Headroom is for what few samples cannot show: ceil(3·max/k) for k executions, the rule of three applied to the
// maximum. Where counts thin out towards their maximum, that is no bound but where luck ended: there it is as far as
// such a tail goes in a thousand executions, at most as far again. Counts of `turns`, the steps of a loop, are always
// so. There is none where the maximum was seen twenty times.
Range range_of(const Histogram& counts, bool exact, bool turns = false);

std::uint32_t most_seen(const Histogram& counts);
std::uint64_t executions_of(const Histogram& counts);

// As a graph's document has it where nothing stands for `least`..1: "3", "2..5"; empty for 1..1.
std::string times_text(const Range& range, std::uint32_t least);

}  // namespace sallyport::flow::learning
