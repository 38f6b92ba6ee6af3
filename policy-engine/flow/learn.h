#pragma once
// Traces of one function → its flow graph. Deterministic: the same traces in any order give the same bytes.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy-engine/api/flow.pb.h"

namespace sallyport::flow {

struct LearnOptions {
  std::string function;             // the traces of this one; empty: there must be only one
  std::uint32_t lcp_threshold = 3;  // t_lcp of the paper: more different URLs than these become a pattern
  bool exact_counts = false;        // upper counters are what was seen, without headroom for what varies
  // Retries that every node is allowed at least, seen or not: they are too rare to be seen at each, nothing but a
  // failure of the server opens one, and clients make them (AWS's SDKs two).
  std::uint32_t retries = 2;
};

// What a person should know before trusting the graph.
struct LearnNote {
  std::string node;  // empty: the graph as a whole
  std::string text;  // "seen in 1 of 200 executions"
};

struct Learned {
  v1alpha1::FlowGraph graph;
  std::vector<LearnNote> notes;
  std::uint64_t executions = 0;  // that it was learned from
  std::uint64_t left_out = 0;    // incomplete, or not attributed
};

// ErrorKind::invalid: no usable trace, several functions, several image digests. Every trace that it was learned from
// is accepted by the graph; if not, that is an internal error and no graph is returned.
Result<Learned> learn(std::vector<v1alpha1::Trace> traces, const LearnOptions& options);

// The same for more traces than memory holds: each is forgotten but for what is learned of it.
class Learner {
 public:
  explicit Learner(LearnOptions options);
  ~Learner();
  Learner(Learner&&) noexcept;

  // The trace is as read_traces gives it. ErrorKind::invalid and ErrorKind::limit as learn(); it is not learned from
  // then. Its times are put right in place.
  Result<void> add(v1alpha1::Trace&& trace);
  Result<Learned> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// New traces into a graph that a person has reviewed: nodes, names, comments and patterns of `reviewed` stay; counters
// rise, edges and nodes are added, each with a note.
Result<Learned> merge(const v1alpha1::FlowGraph& reviewed, std::vector<v1alpha1::Trace> traces,
                      const LearnOptions& options);

}  // namespace sallyport::flow
