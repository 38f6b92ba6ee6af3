#pragma once
// What a trace must be before anything is concluded from it, and the repair of clocks that jumped.

#include <cstdint>

#include "base/error.h"
#include "policy-engine/api/flow.pb.h"

namespace sallyport::flow::learning {

// ErrorKind::invalid, with the flow by its number: an operation that is not canonical, a name or an action that is too
// long or has control characters, a duration that protobuf does not allow.
Result<void> check_trace(const v1alpha1::Trace& trace);

// In nanoseconds; saturates. `duration` has passed check_trace.
std::int64_t nanoseconds(const google::protobuf::Duration& duration);

// Puts the flows in the order in which they began, lets none begin before the execution did, and none end before it
// began. True if anything had to be changed.
bool repair_clock(v1alpha1::Trace& trace);

}  // namespace sallyport::flow::learning
