#pragma once
// Records → the events that a controller is told. All texts are valid UTF-8, whatever the function has sent: an event
// that can't be read would end the link.

#include <string>

#include "controller/api/link.pb.h"
#include "policy-engine/tag/tag.h"
#include "proxy/guard/record.h"

namespace sallyport::guard {

namespace link_api = controller::v1alpha1;

std::string bytes_of(const ExecutionId& id);
link_api::Sender sender_of(const tag::Tag& tag);
// One without anything but its time.
link_api::Event event_now();
// The Exchange of a record, or the ExecutionEnded of an execution's.
link_api::Event event_of(const Record& record);
// Of a request that is about to be sent.
link_api::Event flow_began_of(const Record& record);

}  // namespace sallyport::guard
