#pragma once
// What leads to the executions of a function: which flows of others come before them (SecLambda S42). Messages that a
// service passes on say nothing of where they come from, so that times are all there is to tell it by.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "policy-engine/flow/learning/sequences.h"

namespace sallyport::flow::learning {

struct Span {
  std::int64_t began = 0, ended = 0;  // nanoseconds
};

// Flows that are alike, and that a service has taken.
struct Candidate {
  std::uint32_t function = 0;   // that has sent them
  bool names_it = false;        // their request has the name of the function that they may lead to
  std::span<const Span> flows;  // in the order in which they began
};

struct Cause {
  std::size_t candidate = 0;
  Histogram executions;      // how many flows have led to how many
  std::int64_t longest = 0;  // from a flow to what it led to, in nanoseconds
  bool waits = true;         // flows are mostly under way until what they lead to is over
  std::uint64_t led_to() const;
};

struct Causes {
  std::vector<Cause> found;  // empty: nothing comes before each execution
  // Where it cannot be told which of two explanations holds, these, as candidates; `found` is empty then.
  std::vector<std::vector<std::size_t>> unclear;
  bool exhausted = false;  // limits::kLearnStepsMax was reached: nothing is known
};

// `executions` are in the order in which they began, and there is one at least.
//
// Where one candidate, or two or three together, have as many flows as there are executions, each before its own, these
// lead to them. Else it is the one with which what was seen is most likely: by the entropy of how many executions
// follow one flow, and with delays of an exponential distribution. What names the function comes before what does not;
// of two that are less than ten times as likely as each other the one whose flows are always the later ones, unless one
// function sends both, as it may always do so in one order. `steps` is what has been spent, for other functions, too.
Causes find_causes(std::span<const Candidate> candidates, std::span<const Span> executions, std::uint64_t& steps);

}  // namespace sallyport::flow::learning
