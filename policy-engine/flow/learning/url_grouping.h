#pragma once
// Which requests are one, but for what users and clocks put into their URLs: the set version of SecLambda's grouping by
// longest common prefix, with classes of identifiers, at each segment of the path, value of the query and label of the
// host. Evidence is how many executions a value was seen in: what comes back in most of them is a constant, and never
// joined with its siblings.

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy-engine/flow/learning/executions.h"
#include "policy-engine/flow/pattern.h"

namespace sallyport::flow::learning {

using Symbol = std::uint32_t;
inline constexpr Symbol kNoSymbol = UINT32_MAX;

struct Grouping {
  std::vector<Pattern> patterns;          // by symbol, sorted by text and action
  std::vector<Symbol> symbol_of;          // by operation; kNoSymbol: not used by any execution
  std::vector<OperationId> example;       // by symbol: the operation that comes first by its text
  std::vector<std::uint32_t> operations;  // by symbol: how many different ones
};

// ErrorKind::limit: there are more patterns than a graph may have nodes. What `reviewed` patterns match is left to
// them.
Result<Grouping> group_urls(const Executions& executions, std::uint32_t threshold,
                            const std::vector<Pattern>& reviewed = {});

}  // namespace sallyport::flow::learning
