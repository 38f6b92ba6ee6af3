#pragma once
// What goes into the state of an application, and what comes out of it.

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/tag/tag.h"

namespace sallyport::controller {

using tag::GuardId;
using tag::RequestId;
using ExecutionId = std::array<unsigned char, 16>;
// Of the controller's clock, when it heard of something: guards' clocks are not compared.
using Time = std::chrono::sys_time<std::chrono::milliseconds>;

// Who says something: a registered guard, of the graph's function with this number.
struct Source {
  GuardId guard{};
  std::uint32_t function = 0;
};

enum class AlarmKind : std::uint8_t {
  no_predecessor,       // a message without a tag, to a function that nothing has led to: no entry, no flow
  too_many_executions,  // the same, where there were flows, but each has led to as many executions as it may
  foreign_sender,       // the tag is of a function that does not lead here, or of an execution that is another's
  unknown_sender,       // the tag is of an execution that nobody has reported
  no_flow,              // the execution of the tag is known, and has sent this function nothing
  replayed_tag,         // it has, and that has led to as many executions as it may
  missing_execution,    // a flow has led to fewer executions than it must
  unknown_execution,    // a flow of an execution that has not begun, and could have led to another one
  reused_execution,     // an execution has begun that has begun before, of another guard
  malformed,            // a guard says what the contract does not allow
  overloaded,           // more is going on than is kept: what is not kept is refused
  // Raised by the owner of the state, also of a function that stands in no graph.
  incomplete,   // an execution ended where its function's flow graph has no end
  events_lost,  // a guard had to drop events
  // Raised by the owner of controller/registry, which counts instances.
  too_many_instances,  // another instance of a function wants to register than may run
  lost_instance,       // an instance is silent
};
// "no-predecessor" and so on.
std::string_view to_string(AlarmKind kind);

// Something that a person should know of. What is not known is all zeros, or empty.
struct Alarm {
  AlarmKind kind = AlarmKind::no_predecessor;
  std::string function;
  GuardId guard{};
  ExecutionId execution{};
  RequestId request{};
  std::string text;
  bool operator==(const Alarm&) const = default;
};

// An ask that was allowed by using something up. It is stored before its answer is sent, and replayed in its place
// among the events.
struct Decided {
  Time time{};
  GuardId guard{};
  std::string function;
  ExecutionId execution{};
  RequestId request{};
  // The flow that has led to it.
  GuardId from_guard{};
  ExecutionId from_execution{};
  std::uint64_t flow = 0;
  bool by_tag = false;  // not through a service: one flow may lead to a function in both ways
  bool operator==(const Decided&) const = default;
};

struct Answer {
  std::uint64_t ask = 0;  // the caller's number for it
  bool allowed = false;
  RequestId request{};
  std::string predecessor;  // where the message had no tag: the function whose flow led to it
  std::string refusal;      // for a person
  std::optional<Decided> decided;
};

// Appended to by every call.
struct Outcome {
  std::vector<Answer> answers;
  std::vector<Alarm> alarms;
  void clear() {
    answers.clear();
    alarms.clear();
  }
};

}  // namespace sallyport::controller
