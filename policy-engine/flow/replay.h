#pragma once
// A trace against a flow graph: what the guard would have said to each of its requests.

#include <cstdint>
#include <memory>
#include <string>

#include "policy-engine/api/flow.pb.h"
#include "policy-engine/flow/graph.h"

namespace sallyport::flow {

struct Replay {
  enum class Outcome : std::uint8_t {
    allowed,
    refused,     // at `flow`
    incomplete,  // it ended where the graph has no way to the exit
    left_out,    // it says nothing about the graph: `why`
  };
  Outcome outcome = Outcome::allowed;
  int flow = -1;         // in the trace, from 0
  std::string request;   // that was refused
  std::string expected;  // in its place
  std::string at;        // the nodes in which the execution stood: "load, store"; "the entry"
  std::string why;
};

// Requests begin and answers end when the trace says so: of an answer and a request at one time the answer comes first.
// Requests that the guard had refused were never sent, and are passed over. That an execution is incomplete is said
// only of one that came to its end.
Replay replay(const std::shared_ptr<const Graph>& graph, const v1alpha1::Trace& trace);

}  // namespace sallyport::flow
