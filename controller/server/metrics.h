#pragma once
// The controller's metrics, in Prometheus' text format. Labels are bounded: application, function, kind of alarm.

#include <optional>
#include <string>
#include <vector>

#include "controller/core/controller.h"
#include "controller/link/link_server.h"

namespace sallyport::controller {

// Of all that this process has of applications; `shards`: how many those are, where several controllers share them.
std::string metrics_of(const std::vector<const Controller*>& controllers, std::optional<std::size_t> shards,
                       const LinkCounts& links);

}  // namespace sallyport::controller
