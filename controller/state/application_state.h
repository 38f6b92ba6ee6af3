#pragma once
// The state of one application (SecLambda S45 to S52): which executions of its functions there are, and which flows may
// lead to the next. It says of a message whether an execution may begin with it, and raises alarms where something has
// happened that the application graph does not allow.
//
// - A message with a tag may begin an execution where the graph has an edge from the tag's function, the execution of
//   the tag is known, and has begun a flow to this function that has not yet led to as many executions as it may.
// - One without a tag may where a flow through a service has led to it: the oldest that has not yet led to as many as
//   it may. The new execution is part of the same request to the application as that flow's.
// - Else it may where the function is an entry; the request is new then.
// - Else it waits for limits::kPairingGrace, as the flow may be on its way from another guard. If none has come by then
//   it may be a redelivery of what such a flow has led to; else it is refused. A redelivery waits, so that no message
//   that is faster than the report of its flow is taken for one.
//
// What an execution that was not asked for finds, or does not find, is the same; it has begun all the same, so all that
// can be done is an alarm. Flows that failed lead to nothing, unless they have done so already: what a server does
// before it fails nobody knows. If a flow has failed after it had led to something, that may have been another's: so
// many others to the same function may lead to nothing without an alarm.
//
// Causality is not seen but inferred from order, so an attacker who is faster than the message that a flow leads to can
// take its place. Then that message finds nothing, which is an alarm, if it comes within limits::kReportGrace or asks.
//
// Pure: the same calls with the same times have the same results, whatever the clock says. To build it up again: replay
// what was stored, events and Decided in the order in which they were given in and came out, each with its time. So
// what comes out of advance() is stored before the event of that time, for which advance() is called first, and what
// comes out of an event before the next event. The alarms of a replay have been raised before. A graph that has changed
// gets a new state in the same way.
//
// Not for several threads at once. No call allocates but for what is kept, waits, or has a text.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "controller/api/link.pb.h"
#include "controller/state/ledger.h"
#include "controller/state/types.h"
#include "controller/state/waiting_room.h"
#include "policy-engine/flow/application_graph.h"

namespace sallyport::controller {

class ApplicationState {
 public:
  struct Options {
    std::size_t executions_max = limits::kTrackedExecutionsMax;
    std::size_t flows_max = limits::kTrackedFlowsMax;
    std::size_t waiting_max = limits::kWaitingEntriesMax;  // asks, and reports
    std::uint64_t seed = 0;  // random: keeps guards from choosing identifiers whose hashes meet
  };

  ApplicationState(std::shared_ptr<const flow::ApplicationGraph> graph, const Options& options);

  const flow::ApplicationGraph& graph() const { return ledger_.graph(); }
  // A replay need not go further back than this.
  std::chrono::milliseconds memory() const { return ledger_.memory(); }
  std::size_t executions() const { return ledger_.executions(); }
  std::size_t flows() const { return ledger_.flows(); }
  std::size_t waiting() const { return waiting_.size(); }

  // `fresh` is random: the number of the request, if it is one from outside. The answer, which names `ask`, is in
  // `out`, or in that of a later call. An execution that has been allowed is allowed again, as the answer may not have
  // arrived.
  void ask(std::uint64_t ask, const Source& from, const v1alpha1::EntryAsk& message, const RequestId& fresh, Time now,
           Outcome& out);

  // An event that has not been given in before, in the order of its guard's numbers.
  void apply(const Source& from, const v1alpha1::Event& event, Time now, Outcome& out);

  // To be called at next_due() or later, with nothing else to do. What has waited too long is refused.
  void advance(Time now, Outcome& out);
  // Nothing: there is nothing to wait for.
  std::optional<Time> next_due() const;

  // The guard's connection is gone: its asks are not answered, and use nothing up.
  void forget_asks(const GuardId& guard);

  // Instead of the ask.
  void replay(const Decided& decided, Outcome& out);

 private:
  struct Found {
    std::uint32_t flow = kNil;                  // that may lead to it by right
    AlarmKind why = AlarmKind::no_predecessor;  // where there is none
    bool hopeless = false;                      // and none can come
    bool may_repeat = false;                    // and it may be a redelivery
  };

  Found find_predecessor(const Entrant& entrant);
  // Of an entrant that is a redelivery, or kNil.
  std::uint32_t find_repeated(const Entrant& entrant);
  std::string reason_of(const Entrant& entrant, AlarmKind why) const;
  std::optional<Claim> claim_of(const v1alpha1::Sender& sender) const;

  void decide(Entrant entrant, bool may_wait, Outcome& out);
  bool answer_again(const Entrant& entrant, Outcome& out);
  void allow_led(const Entrant& entrant, std::uint32_t flow, Outcome& out);
  void allow_entry(const Entrant& entrant, Outcome& out);
  void refuse(const Entrant& entrant, AlarmKind why, std::string text, Outcome& out);
  void pair(Entrant entrant, bool may_wait, Outcome& out);
  // An ask is decided, a report paired.
  void serve(std::uint32_t waiting, bool may_wait, Outcome& out);

  void apply_began(const Source& from, const v1alpha1::ExecutionBegan& began, Outcome& out);
  void apply_flow(const Source& from, const v1alpha1::FlowBegan& began, Outcome& out);
  void apply_exchange(const Source& from, const v1alpha1::Exchange& exchange, Outcome& out);
  void apply_ended(const Source& from, const v1alpha1::ExecutionEnded& ended, Outcome& out);
  bool find_edges(std::uint32_t function, const flow::v1alpha1::Operation& operation, const std::string& to_function);
  struct NewFlow {
    std::uint32_t execution;
    RequestId request;
    std::uint64_t id;
    bool open;
  };
  void add_flows(const NewFlow& flow, Outcome& out);
  // The execution that an event is about; kNil: the guard has begun none of that name.
  std::uint32_t execution_of(const Source& from, const ExecutionId& id) const;

  void move_to(Time now, Outcome& out);
  void say_missing(Outcome& out);
  void say_overloaded(const Source& from, std::string_view what, Outcome& out);
  void alarm(AlarmKind kind, const Source& from, const ExecutionId& execution, const RequestId& request,
             std::string text, Outcome& out);

  Ledger ledger_;
  WaitingRoom waiting_;
  Options options_;
  Time now_{};    // never goes back
  Time swept_{};  // when the ledger was last told the time
  bool overloaded_ = false;
  std::vector<std::uint32_t> edges_;  // of the flow at hand
};

}  // namespace sallyport::controller
