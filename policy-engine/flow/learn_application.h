#pragma once
// Traces of the functions of an application → its application graph. Deterministic: the same traces in any order give
// the same bytes.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "policy-engine/api/application_graph.pb.h"
#include "policy-engine/api/flow.pb.h"
#include "policy-engine/flow/learn.h"

namespace sallyport::flow {

struct LearnApplicationOptions {
  std::string application;
  // Functions that messages from outside begin, all of them. Empty: those are whose executions nothing comes before.
  std::vector<std::string> entries;
  // A function, and a request that leads to it, as graphs write it: what a person knows where times do not tell.
  std::vector<std::pair<std::string, std::string>> after;
  std::uint32_t lcp_threshold = LearnOptions().lcp_threshold;
  bool exact_counts = false;
  // Of each flow that nobody waits for, as services deliver at least once, and try again after an error.
  std::uint32_t redeliveries = 2;
};

struct LearnedApplication {
  v1alpha1::ApplicationGraph graph;
  std::vector<LearnNote> notes;  // whose node is a function
};

// An edge is explicit where a function's message is what another has sent at that time, by method, host and path; and
// implicit where a flow comes before each execution that nothing else explains (learning/causes.h). Of safe methods
// nothing comes, nor of flows that are refused or fail. The times of all traces are compared, so the clocks of several
// machines must agree better than messages are fast.
class ApplicationLearner {
 public:
  explicit ApplicationLearner(LearnApplicationOptions options);
  ~ApplicationLearner();

  // The trace is as read_traces gives it. ErrorKind::invalid: of two images of a function, or at no time.
  // ErrorKind::limit.
  Result<void> add(v1alpha1::Trace&& trace);
  // ErrorKind::invalid: it cannot be told what leads to a function, with its name and what could; an option names a
  // function or a request that is in no trace. The graph accepts every trace that it was learned from, as the
  // controller would; if not, that is an error and no graph is returned.
  Result<LearnedApplication> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sallyport::flow
