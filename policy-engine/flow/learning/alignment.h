#pragma once
// The cheapest way of an execution through a graph that may be widened: by a higher counter, an edge, or a new node.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "policy-engine/api/flow.pb.h"
#include "policy-engine/flow/graph_compiler.h"
#include "policy-engine/flow/learning/sequences.h"
#include "policy-engine/flow/learning/url_grouping.h"

namespace sallyport::flow::learning {

// A node as alignment sees it. Numbers of nodes are those of the document.
struct AlignNode {
  StepKind kind = StepKind::request;
  std::vector<Symbol> symbols;
  std::vector<Times> times;  // of each step
  Times passes;              // of a loop: the total
  std::size_t position = 0;  // in a topological order; edges that are added lead forward in it
};

// What one visit of a node takes of an execution.
struct Visit {
  std::uint32_t node = 0;  // kNewNode: there is none for it
  std::size_t begin = 0, end = 0;
};
inline constexpr std::uint32_t kNewNode = UINT32_MAX;

class Alignment {
 public:
  // `edges` by node; the entry's are those of the number behind the last node.
  Alignment(const std::vector<AlignNode>& nodes, const std::vector<std::vector<std::uint32_t>>& edges)
      : nodes_(nodes), edges_(edges) {}

  // Empty for no symbols. ErrorKind::limit: too long for so large a graph.
  Result<std::vector<Visit>> align(const std::vector<Symbol>& symbols) const;

 private:
  struct State {
    double cost = 0;
    std::size_t from = 0;  // its index among the states
    Visit visit;
    std::size_t position = 0;  // behind which the next node must stand
  };
  std::vector<std::size_t> ends_of(const AlignNode& node, const std::vector<Symbol>& symbols, std::size_t begin) const;
  double cost_of(const AlignNode& node, const std::vector<Symbol>& symbols, std::size_t begin, std::size_t end) const;
  double cost_of_edge(const State& from, std::uint32_t to) const;

  const std::vector<AlignNode>& nodes_;
  const std::vector<std::vector<std::uint32_t>>& edges_;
};

// How often each step of the node comes in the visit, in all; of a group, in one pass at most, and the passes.
struct Counted {
  std::uint32_t passes = 0;
  std::vector<std::uint32_t> least, most;
};
Counted counted(const AlignNode& node, const std::vector<Symbol>& symbols, std::size_t begin, std::size_t end);

}  // namespace sallyport::flow::learning
