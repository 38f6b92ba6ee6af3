#pragma once
// Whether an application graph allows what was seen.

#include "base/error.h"
#include "policy-engine/flow/application_graph.h"
#include "policy-engine/flow/learning/histories.h"

namespace sallyport::flow::learning {

// As the controller holds executions that bear no tag against it: each takes the oldest flow that leads to it and may
// lead to more, and each flow leads to as many as it must. `explicit_ones` are, by function and in its order, the
// executions that bear one. ErrorKind::invalid with the function whose execution would be refused, or missed.
Result<void> check_application(const ApplicationGraph& graph, const Histories& histories,
                               const std::map<std::string, std::vector<bool>>& explicit_ones);

}  // namespace sallyport::flow::learning
