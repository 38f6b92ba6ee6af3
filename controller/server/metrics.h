#pragma once
// The controller's metrics, in Prometheus' text format. Labels are bounded: application, function, kind of alarm.

#include <string>

#include "controller/core/controller.h"
#include "controller/link/link_server.h"

namespace sallyport::controller {

std::string metrics_of(const Controller& controller, const LinkCounts& links);

}  // namespace sallyport::controller
