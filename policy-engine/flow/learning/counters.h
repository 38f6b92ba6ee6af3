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

// What came once at most stays so. Below, a count that was the same in all executions is a bound where there were five
// of them; of counts that varied the least one, where it was seen often (twenty times, in a tenth of the executions,
// half as often as the most frequent, and one of three or more) and from 20 executions on. Else there is no bound below
// but 1, or 0 where it was ever 0.
//
// Above there is headroom, unless `exact`, for what few samples cannot show: for a count that did not vary
// ceil(3·max/k) in k executions, the rule of three applied to it; for one that did one more, or max/(1 - √(4.6/k)), at
// most as far again: where counts end that get rarer evenly towards it. Where they thin out towards their maximum, that
// is no bound but where luck ended: there it is as far as such a tail goes in a thousand executions, at most as far
// again. Counts of `turns`, the steps of a loop, are always so. There is no headroom where the maximum was seen often;
// where counts thin out so fast that what is beyond it is not to be expected in a thousand executions; and where 300
// executions had the same count.
Range range_of(const Histogram& counts, bool exact, bool turns = false);

// Of one step of a loop. Which step a turn takes is free, so one that was seen rarely may be taken in a third of all
// turns that are allowed.
Range range_of_turns(const Histogram& counts, const Range& total, bool exact);

// Of a request that is sent again as it is until something has happened: how often is a matter of time alone. Unless
// the maximum is a bound, up to a hundred times.
Range range_of_polls(const Histogram& counts, bool exact);

std::uint32_t most_seen(const Histogram& counts);
std::uint64_t executions_of(const Histogram& counts);

// As a graph's document has it where nothing stands for `least`..1: "3", "2..5"; empty for 1..1.
std::string times_text(const Range& range, std::uint32_t least);

}  // namespace sallyport::flow::learning
