#include "controller/state/types.h"

namespace sallyport::controller {

std::string_view to_string(AlarmKind kind) {
  switch (kind) {
    case AlarmKind::no_predecessor:
      return "no-predecessor";
    case AlarmKind::too_many_executions:
      return "too-many-executions";
    case AlarmKind::foreign_sender:
      return "foreign-sender";
    case AlarmKind::unknown_sender:
      return "unknown-sender";
    case AlarmKind::no_flow:
      return "no-flow";
    case AlarmKind::replayed_tag:
      return "replayed-tag";
    case AlarmKind::missing_execution:
      return "missing-execution";
    case AlarmKind::incomplete:
      return "incomplete";
    case AlarmKind::unknown_execution:
      return "unknown-execution";
    case AlarmKind::reused_execution:
      return "reused-execution";
    case AlarmKind::malformed:
      return "malformed";
    case AlarmKind::events_lost:
      return "events-lost";
    case AlarmKind::overloaded:
      return "overloaded";
    case AlarmKind::too_many_instances:
      return "too-many-instances";
    case AlarmKind::lost_instance:
      return "lost-instance";
  }
  return "";
}

}  // namespace sallyport::controller
