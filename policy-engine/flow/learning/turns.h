#pragma once
// Turns: symbols that lead to each other again and again in orders that do not settle, as an agent's calls of a model
// and of its tools. They are one loop, as no number of executions would show each of their orders.

#include <cstdint>
#include <vector>

#include "policy-engine/flow/learning/parallel.h"
#include "policy-engine/flow/learning/sequences.h"

namespace sallyport::flow::learning {

// The runs of some executions that are alike.
struct RunSequence {
  std::vector<Run> runs;
  std::uint64_t executions = 0;
};

// By symbol, the loop that it is a step of; kNoLoop: none. A loop is a strongly connected part of the relation
// "directly followed by" in which a symbol recurs three times or more in one execution also after folding, and of which
// several orders were seen: two at least that one execution alone had, or with repetitions that no group can hold.
inline constexpr std::uint32_t kNoLoop = UINT32_MAX;
std::vector<std::uint32_t> find_turns(const std::vector<RunSequence>& sequences, std::size_t symbols);

}  // namespace sallyport::flow::learning
