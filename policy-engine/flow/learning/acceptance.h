#pragma once
// That a graph has what it was learned from: each execution is replayed in the matcher that guards use.

#include <memory>

#include "base/error.h"
#include "policy-engine/flow/graph.h"
#include "policy-engine/flow/learning/executions.h"
#include "policy-engine/flow/learning/url_grouping.h"

namespace sallyport::flow::learning {

// The first request that would be refused, or execution that could not end, as ErrorKind::invalid. Executions of which
// the requests are alike by symbol, order and answers are replayed once.
Result<void> check_accepted(const std::shared_ptr<const Graph>& graph, const Executions& executions,
                            const Grouping& grouping);

}  // namespace sallyport::flow::learning
