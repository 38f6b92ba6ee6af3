#pragma once
// The executions of the function that are open: each from its m_in to its m_out (SecLambda S34), with what they have
// sent so far, and where they stand in the function's flow graph. Shared by the workers of one guard and locked: it is
// asked once an exchange, up to three times where traces are kept or answers matter, and only if anybody is to know.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "policy-engine/api/flow.pb.h"
#include "policy-engine/flow/open_executions.h"
#include "policy-engine/flow/operation.h"
#include "policy-engine/request/head.h"
#include "proxy/guard/record.h"
#include "proxy/net/loop.h"

namespace sallyport::guard {

// The trace-id of a W3C traceparent, 32 lower-case hexadecimal digits. Nothing where there is none, more than one, or
// one that is malformed: then it says nothing.
std::optional<std::string> trace_id_of(const request::HeaderList& headers);

// How it is known which execution sent a request.
enum class Attribution : std::uint8_t {
  none,           // no execution was open
  only,           // one was
  trace_context,  // of several, one has the trace-id that the request bears
  set,            // of several, it cannot be told which
};
std::string_view to_string(Attribution attribution);  // empty for none

struct Moment {
  net::Deadline steady;  // for durations: it does not jump
  std::chrono::system_clock::time_point wall;
  static Moment now() { return {net::Clock::now(), std::chrono::system_clock::now()}; }
};

// What is told of an execution when it is over, and all of its flows have ended.
struct EndedExecution {
  ExecutionId id{};
  std::chrono::system_clock::time_point began;
  std::chrono::microseconds duration{0};
  flow::v1alpha1::ExecutionEnd end = flow::v1alpha1::EXECUTION_END_UNSPECIFIED;
  std::uint64_t flows = 0;     // that it has sent
  std::uint64_t left_out = 0;  // of those, that its trace does not hold, or not whole
  bool attributed = true;
  std::string incomplete;  // it ended where the flow graph has no end: what was expected; else empty
  std::optional<flow::v1alpha1::Operation> inbound;
  std::shared_ptr<flow::v1alpha1::Trace> trace;  // null where none is kept
  ExecutionId application_request{};
};

class ExecutionTable {
  struct Execution;

 public:
  struct Options {
    std::string function;
    bool traces = false;    // keep what each execution sends
    bool messages = false;  // executions begin with messages, and records tell which is whose
    bool member = false;    // of an application: its controller is told of every execution
  };
  // `on_end` is called on the thread that ends an execution or the last of its flows, never under the lock.
  using OnEnd = std::function<void(EndedExecution&&)>;
  ExecutionTable(Options options, OnEnd on_end)
      : options_(std::move(options)),
        on_end_(std::move(on_end)),
        tracking_(options_.traces || options_.messages || options_.member),
        traces_(options_.traces) {}
  ExecutionTable(const ExecutionTable&) = delete;
  ExecutionTable& operator=(const ExecutionTable&) = delete;

  // Any thread, as all that follows. Of the executions that begin from now on; null: they may send anything. Those that
  // are open keep theirs: no graph can be entered in its middle.
  void set_graph(std::shared_ptr<const flow::Graph> graph);
  // Whether executions that begin from now on are to be traced; those of the file of traces are in any case.
  void set_traces(bool traces) { traces_ = traces || options_.traces; }
  // Whether anybody needs to be told what is sent.
  bool tracking() const { return tracking_.load(std::memory_order_relaxed); }

  struct Begin {
    bool process = false;  // a whole process, which no limit on time ends
    // What a process does before its first message: complete when another execution begins. Nothing is told of one
    // that has sent nothing, which most are.
    bool start = false;
    std::optional<flow::v1alpha1::Operation> inbound = std::nullopt;
    std::optional<std::string> trace_id = std::nullopt;
    // Which it is called; nothing: random.
    std::optional<ExecutionId> id = std::nullopt;
    // Of the request to the application that it is part of, as a tag says; nothing: it is the first, and has its own.
    std::optional<ExecutionId> application_request = std::nullopt;
    std::string name = {};  // by which end_named() finds it; another of that name that is still open is cut
  };
  // Nothing when limits::kExecutionsOpenMax are open, or the machine has no
  // randomness: its m_in must be refused. What has been open for limits::kExecutionTimeout is ended by begin() and
  // send(): until one of them is called it makes no difference.
  std::optional<ExecutionId> begin(Begin begin, Moment now);
  // m_out. An execution that is not open any more is left alone.
  void end(const ExecutionId& id, flow::v1alpha1::ExecutionEnd how, net::Deadline now);
  void end_named(std::string_view name, flow::v1alpha1::ExecutionEnd how, net::Deadline now);
  void end_all(flow::v1alpha1::ExecutionEnd how, net::Deadline now);
  // Ends what has been open for limits::kExecutionTimeout: for when nobody calls begin() or send().
  void end_overdue(net::Deadline now);

  // How a flow ended.
  struct Outcome {
    flow::v1alpha1::FlowEnd end = flow::v1alpha1::FLOW_END_FAILED;
    int status = 0;
    std::optional<flow::v1alpha1::Operation> redirect;
    std::uint64_t bytes_up = 0, bytes_down = 0;
  };

  // One exchange: it belongs to an execution until it has ended.
  class Flow {
   public:
    Flow() = default;
    Flow(Flow&& other) noexcept;
    Flow& operator=(Flow&& other) noexcept;
    ~Flow() {
      if (table_ != nullptr) end({}, net::Clock::now());
    }
    Attribution attribution() const { return attribution_; }
    const ExecutionId& execution() const { return id_; }  // where attribution() is not none
    // Of the request to the application; meaningful where the flow is known to be of that execution.
    const ExecutionId& application_request() const { return application_request_; }
    // The status of the final response, 0: there will be none. Before the function can see it, as it may send the
    // request again or follow a redirect from then on. Once; without it there was none.
    void answered(int status);
    void end(Outcome outcome, net::Deadline now);  // once; without it the flow has failed

   private:
    friend class ExecutionTable;
    ExecutionTable* table_ = nullptr;
    std::shared_ptr<Execution> of_;
    int index_ = -1;  // in the trace; -1: not held there
    Attribution attribution_ = Attribution::none;
    ExecutionId id_{}, application_request_{};
    flow::OpenExecutions::Id request_ = 0;  // whose answer the graph waits for; 0: it does not
  };
  struct Request {
    const flow::Operation& operation;
    const request::HeaderList& headers;
    net::Deadline began;  // its head was complete
    bool follow = false;  // it will be sent if the flow graph allows it
  };
  // What the flow graph says of a request that it was asked about.
  struct Step {
    std::string refusal;  // why it refuses the request, for people; empty: it does not
    std::string node;     // at which it allows it
  };
  // One that cannot be attributed is noted with the execution that began first, and every execution that is open is
  // known from then on not to be told apart. One that the graph refuses changes nothing there.
  Flow send(const Request& request, net::Deadline now, Step& step);

  std::size_t open() const;

 private:
  template <class Match>
  void end_first(Match&& match, flow::v1alpha1::ExecutionEnd how, net::Deadline now);
  using List = std::list<std::shared_ptr<Execution>>;
  std::shared_ptr<Execution> choose(const request::HeaderList& headers, Attribution& how);
  void follow(const flow::Operation& operation, Flow& flow, Step& step);
  bool take_room(Execution& execution, std::size_t size);
  void note(Execution& execution, const flow::Operation& operation, net::Deadline began, Flow& flow);
  void redirect(Execution& execution, flow::v1alpha1::Flow& noted, flow::v1alpha1::Operation&& to);
  void close(List::iterator which, flow::v1alpha1::ExecutionEnd how, net::Deadline now, List& over);
  void expire(net::Deadline now, List& over);
  void end_flow(Flow& flow, Outcome&& outcome, net::Deadline now);
  void tell(Execution& execution);

  const Options options_;
  const OnEnd on_end_;
  std::atomic<bool> tracking_;
  std::atomic<bool> traces_;
  mutable std::mutex mutex_;
  std::shared_ptr<const flow::Graph> graph_;  // of those that begin
  flow::OpenExecutions standing_;             // of all that began with a graph
  std::size_t without_graph_ = 0;             // that are open
  std::uint64_t last_number_ = 0;             // of executions and requests
  List open_;                                 // in the order in which they began
  std::size_t bytes_held_ = 0;                // of all traces, about
};

}  // namespace sallyport::guard
