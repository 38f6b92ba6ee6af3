#pragma once
// Sequences → a graph without cycles that has all of them and keeps every invariant that they keep: Synoptic's
// refinement and coarsening, over types of events that are made to occur once in a sequence.

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "policy-engine/flow/learning/sequences.h"

namespace sallyport::flow::learning {

struct StepNode {
  BodyId body = 0;
  std::uint32_t nth = 1;  // of the steps with this body in a sequence
  Occurrence counts;      // of all the occurrences that it stands for
  std::uint64_t executions = 0;
  std::vector<std::uint32_t> next;  // sorted
  bool may_end = false;
};

struct StepGraph {
  std::vector<StepNode> nodes;  // in a topological order that depends only on the sequences
  std::vector<std::uint32_t> entry;
  bool may_be_empty = false;
  std::uint64_t invariants = 0;
  bool exact = false;       // inference was given up: the graph has the orders that were seen, and no other
  std::uint64_t skips = 0;  // edges over steps that were each left out, but never in one execution
};

// ErrorKind::limit: more nodes than a graph may have.
Result<StepGraph> infer(const Sequences& sequences);

}  // namespace sallyport::flow::learning
