#pragma once
// Executions of functions that somebody else took over: what the paper's classes of attacks (section VIII-B) leave in
// the flows of one function.

#include <random>
#include <string>
#include <vector>

#include "load/flow_accuracy/models.h"
#include "load/flow_accuracy/reference.h"

namespace sallyport::flow_accuracy {

struct Attack {
  std::string kind;
  Execution execution;
};

// The kinds, in the order of tables.
const std::vector<std::string>& attack_kinds();

// Of executions of one function. Each attack differs from every one of `reference` in an operation, a count or an
// order. Fewer than `count` of a kind where the function leaves no room for them: nothing comes before a first request.
std::vector<Attack> attacks_on(const std::vector<const Execution*>& benign, const Reference& reference,
                               std::size_t count, std::mt19937& random);

}  // namespace sallyport::flow_accuracy
