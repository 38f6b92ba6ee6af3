#pragma once
// What executions did, as few different sequences of steps: loops folded into grouped flows with counters (SecLambda
// S43), parallel requests in sets, and turns whose order varies in loops.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "policy-engine/flow/learning/executions.h"
#include "policy-engine/flow/learning/url_grouping.h"

namespace sallyport::flow::learning {

// How many executions had which count.
using Histogram = std::map<std::uint32_t, std::uint64_t>;

enum class StepKind : std::uint8_t { request, group, set, loop };

// What a step stands for, whatever its counts.
struct Body {
  StepKind kind = StepKind::request;
  std::vector<Symbol> symbols;  // of a group in their order; else sorted
  auto operator<=>(const Body&) const = default;
};
using BodyId = std::uint32_t;

// One place in a sequence: the counts of all the executions that have it.
struct Occurrence {
  Histogram times;               // passes; of a loop, requests in all
  std::vector<Histogram> inner;  // by symbol of the body, for a set and a loop also 0
};

struct Form {
  std::vector<BodyId> bodies;
  std::vector<Occurrence> occurrences;
  std::uint64_t executions = 0;
};

// What was seen within the visits of one loop.
struct LoopOrder {
  std::map<std::pair<Symbol, Symbol>, std::uint64_t> edges;  // with in how many executions
  std::set<Symbol> starts, ends;
};

struct Sequences {
  std::vector<Body> bodies;  // sorted
  std::vector<Form> forms;   // sorted by bodies
  std::map<BodyId, LoopOrder> loops;
  std::uint64_t executions = 0;
};

// ErrorKind::limit: more different sequences than limits::kLearnFormsMax.
Result<Sequences> find_sequences(const Executions& executions, const Grouping& grouping);

}  // namespace sallyport::flow::learning
