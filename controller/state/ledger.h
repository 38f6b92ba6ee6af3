#pragma once
// What the guards of an application have told: executions, and the flows by which they lead to others. It keeps books
// and decides nothing (application_state.h does).
//
// A flow is entered once for each edge of the graph that it leads over. It is *fresh* while executions may come of it
// by right, then *spent* while redeliveries of those may, and *idle* when nothing may; it is kept while its exchange is
// under way, so that the end of that is not taken for another flow.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "controller/state/id_index.h"
#include "controller/state/pool.h"
#include "controller/state/types.h"
#include "policy-engine/flow/application_graph.h"

namespace sallyport::controller {

struct Flow {
  std::uint64_t id = 0;  // of its exchange
  Time since{};          // it began, or it was spent
  std::uint32_t execution = kNil, sender = kNil, edge = 0;
  std::uint32_t used = 0;  // executions that it has led to
  Link of_edge, of_execution, of_sender;
  enum class State : std::uint8_t { fresh, spent, idle } state = State::fresh;
  bool open = false;       // its exchange is under way
  bool succeeded = false;  // its exchange is over, and the service has taken it
};

struct Execution {
  ExecutionId id{};
  std::uint32_t sender = kNil;
  enum class State : std::uint8_t { open, ended, quiet, lingering } state = State::open;
  bool asked = false;  // it was allowed by an answer
  bool told = false;   // its guard has said that it has begun
  Time since{};        // it began, or it ended
  Link queue;
  List<Flow, &Flow::of_execution> flows;
  std::uint32_t live = 0, open_flows = 0;  // of its flows: not idle; under way
};

// What a tag names: a guard, and the request to the application that executions of it are part of.
struct Sender {
  GuardId guard{};
  RequestId request{};
  std::uint32_t function = 0;
  std::uint32_t users = 0;  // executions and flows
  std::uint64_t edges = 0;  // a bit for each edge, by its number's last six bits, that direct flows have led over
  List<Flow, &Flow::of_sender> fresh, spent;  // direct flows, the oldest first
};

// A flow that has led to fewer executions than it must.
struct Missing {
  Source from;
  ExecutionId execution{};
  RequestId request{};
  std::uint32_t edge = 0, used = 0;
};

class Ledger {
 public:
  struct Bounds {
    std::size_t executions_max, flows_max;
  };

  Ledger(std::shared_ptr<const flow::ApplicationGraph> graph, Bounds bounds, std::uint64_t seed);

  const flow::ApplicationGraph& graph() const { return *graph_; }
  // Nothing that happened longer ago than this matters any more.
  std::chrono::milliseconds memory() const;
  const Execution& execution(std::uint32_t at) const { return executions_[at]; }
  Execution& execution(std::uint32_t at) { return executions_[at]; }
  const Flow& flow(std::uint32_t at) const { return flows_[at]; }
  const Sender& sender(std::uint32_t at) const { return senders_[at]; }
  const flow::ApplicationEdge& edge_of(const Flow& flow) const { return graph_->edges()[flow.edge]; }
  std::size_t executions() const { return executions_.used(); }
  std::size_t flows() const { return flows_.used(); }

  std::uint32_t find_execution(const ExecutionId& id) const;
  std::uint32_t find_sender(const GuardId& guard, const RequestId& request) const;

  // For another execution, perhaps in the place of one that has ended.
  bool has_room() const { return executions_.used() < bounds_.executions_max || !quiet_.empty() || !ended_.empty(); }
  // kNil: there is no room, or the guard is one of another function. It must not be there already.
  std::uint32_t begin(const Source& from, const ExecutionId& id, const RequestId& request, Time now);
  void end(std::uint32_t execution, Time now);

  // A flow of `execution` that has begun (`open`), or is over already. kNil: there is no room.
  std::uint32_t add_flow(std::uint32_t execution, const RequestId& request, std::uint64_t id, std::uint32_t edge,
                         bool open, Time now);
  // The exchange is over. False: no flow of that name was under way.
  bool close_flows(std::uint32_t execution, std::uint64_t id, bool succeeded, Time now);
  // The flow of that name to `function`, directly or through a service; or kNil.
  std::uint32_t find_flow(std::uint32_t execution, std::uint64_t id, std::uint32_t function, bool direct) const;

  // The oldest flow that may by right lead to an execution now; kNil: there is none.
  std::uint32_t find_direct(std::uint32_t sender, std::uint32_t edge, Time now) const;
  std::uint32_t find_through(std::uint32_t function, Time now);
  // Whether what comes now may be a redelivery.
  bool may_repeat_direct(std::uint32_t sender, std::uint32_t edge, Time now) const;
  bool may_repeat_through(std::uint32_t function, Time now) const;
  // The oldest flow of which something that came up to limits::kReportGrace ago may be a redelivery, or kNil.
  std::uint32_t find_repeat_direct(std::uint32_t sender, std::uint32_t edge, Time now) const;
  std::uint32_t find_repeat_through(std::uint32_t function, Time now);
  // It has led to an execution.
  void use(std::uint32_t flow, Time now);
  // Whether a flow has led, or could have led, over one of the edges to `function` lately.
  bool had_flow(std::uint32_t function, Time now) const;

  // Forgets what is too old.
  void advance(Time now);
  // What has been found since the last time.
  std::vector<Missing> take_missing() { return std::exchange(missing_, {}); }
  bool has_missing() const { return !missing_.empty(); }

 private:
  using Queue = List<Execution, &Execution::queue>;
  using FlowQueue = List<Flow, &Flow::of_edge>;
  struct EdgeQueues {
    FlowQueue fresh, spent;    // the oldest first
    std::optional<Time> last;  // flow
    // Executions that flows have led to that failed later. Perhaps others have led to them that began by then, and are
    // not missing any.
    std::uint32_t excused = 0;
    Time excused_until{};
  };

  std::uint64_t hash_of_sender(const GuardId& guard, const RequestId& request) const;
  std::uint32_t sender_for(const Source& from, const RequestId& request);
  void leave_sender(std::uint32_t sender);
  bool make_room();
  void leave_lists(Flow& flow, std::uint32_t at);
  void make_idle(std::uint32_t flow);
  void make_spent(std::uint32_t flow, Time now);
  void free_if_done(std::uint32_t flow);
  void free_flow(std::uint32_t flow);
  void settle(std::uint32_t execution);
  void unqueue(std::uint32_t execution);
  void drop_open_flows(std::uint32_t execution);
  void forget_execution(std::uint32_t execution);
  Queue* queue_of(Execution::State state);
  bool is_fresh(const Flow& flow, Time now) const;
  bool may_repeat(const Flow& flow, Time now) const;
  bool may_have_repeated(const Flow& flow, Time now) const;
  std::uint32_t oldest_to(std::uint32_t function, FlowQueue EdgeQueues::* queue, Time now);
  void expire_flows(std::uint32_t edge, Time now);
  void excuse(const Flow& flow, Time now);
  std::uint32_t take_excused(const Flow& flow, std::uint32_t count);
  EdgeQueues& excuses_of(const Flow& flow);
  void note_missing(const Flow& flow);

  std::shared_ptr<const flow::ApplicationGraph> graph_;
  Bounds bounds_;
  std::uint64_t seed_;
  Pool<Execution> executions_;
  Pool<Flow> flows_;
  Pool<Sender> senders_;
  IdIndex by_id_, by_sender_;
  Queue open_, ended_, quiet_;  // quiet: ended, and nothing can come of it; the first to go where there is no room
  std::vector<EdgeQueues> edges_;
  std::vector<Missing> missing_;
};

}  // namespace sallyport::controller
