#pragma once
// A compiled flow graph, immutable and shared between workers, and the state of one execution in it: a set of
// configurations of the graph's NFA (SecLambda S38, S44), advanced at each request. Nothing here does I/O, looks at the
// clock, or allocates on a step.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/flow/operation.h"

namespace sallyport::flow::v1alpha1 {
class FlowGraph;
}

namespace sallyport::flow {

class Compiled;  // graph_compiler.h

// What was allowed, to be handed back with the answer.
struct Ticket {
  std::uint32_t node = 0;     // the one that the request was allowed at: of several, the first
  std::uint32_t slot = 0;     // where what may follow its answer is kept
  std::uint32_t request = 0;  // which of the execution's requests it was; 0: nothing may follow, whatever the answer
};

enum class Answer : std::uint8_t {
  fine,         // anything else
  retryable,    // 408, 425, 429, 500 to 599, or no response
  redirecting,  // 301, 302, 303, 307, 308
};
Answer answer_of(int status);  // 0: no response

// An operation as a graph sees it.
struct Sighting {
  std::uint32_t symbol = 0;     // of the most specific pattern that it matches
  std::uint64_t operation = 0;  // its OperationHash
};

class Graph {
 public:
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  const std::string& function() const;
  const std::string& image_digest() const;  // empty: of any
  std::size_t node_count() const;
  std::string_view node_name(std::uint32_t node) const;
  int node_line(std::uint32_t node) const;     // in the document; 0 when it had no lines
  bool has(const Operation& operation) const;  // some node stands for it
  // For requests that come again and again: the look is most of a step.
  Sighting sight(const Operation& operation) const;

 private:
  friend class Execution;
  friend class GraphCompiler;
  Graph();
  std::unique_ptr<const Compiled> compiled_;
};

// Where one execution stands. Copyable; moves and copies of it are the only things that allocate.
class Execution {
 public:
  explicit Execution(std::shared_ptr<const Graph> graph);
  ~Execution();
  Execution(const Execution&);
  Execution(Execution&&) noexcept;
  Execution& operator=(const Execution&);
  Execution& operator=(Execution&&) noexcept;

  // Whether request() would allow it. Changes nothing.
  bool could(const Operation& operation) const;
  // Advances and returns true, or leaves everything as it was and returns false: the request is out of order, too
  // often, or not in the graph. Fails closed: past limits::kFlowConfigurationsMax configurations the rest is forgotten,
  // which can only make it refuse more.
  bool request(const Operation& operation, Ticket& ticket);
  bool request(const Sighting& sighting, Ticket& ticket);  // of this graph
  // The answer to an allowed request, or its absence: what a retry or a redirect may follow. Answers of parallel
  // requests may come in any order.
  void answered(const Ticket& ticket, Answer answer);
  // Whether the execution may end here: some configuration has an edge to the exit, and its lower counters are reached.
  bool complete() const;

  // Whether both stand in one graph at the same places with the same counters, and await the same answers: what comes
  // next will be allowed to both or to none.
  bool operator==(const Execution& other) const;

  // "PUT s3.us-east-1.amazonaws.com/thumbnails/*, or the end": for a person, at most limits::kFlowExpectedMax of them.
  std::string expected() const;
  // The names of the nodes in which it stands: "load", "store"; empty at the entry.
  std::vector<std::string_view> nodes() const;

 private:
  struct State;

  std::vector<std::uint32_t> candidates() const;
  bool could_come(std::uint32_t symbol) const;

  std::shared_ptr<const Graph> graph_;
  std::unique_ptr<State> state_;
};

}  // namespace sallyport::flow
