#pragma once
// What was inferred → the document, and the notes for the person who reviews it.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "policy-engine/flow/learn.h"
#include "policy-engine/flow/learning/counters.h"
#include "policy-engine/flow/learning/executions.h"
#include "policy-engine/flow/learning/inference.h"
#include "policy-engine/flow/learning/sequences.h"
#include "policy-engine/flow/learning/url_grouping.h"

namespace sallyport::flow::learning {

// What followed from answers, by symbol.
struct Aftermath {
  std::uint32_t retries = 0;                     // at most of one request, of any symbol
  std::map<Symbol, std::set<Symbol>> redirects;  // where to
  std::map<Symbol, std::size_t> chains;          // the longest
};
Aftermath aftermath_of(const Executions& executions, const Grouping& grouping);

// The allowance of every node.
std::uint32_t retries_of(const Aftermath& aftermath, const LearnOptions& options);

// By symbol, whether it is what a function polls: GET or HEAD, and where it comes several times in a row it is one and
// the same request.
std::vector<bool> polls_of(const Executions& executions, const Grouping& grouping);

class DocumentWriter {
 public:
  DocumentWriter(const Executions& executions, const Grouping& grouping, const Sequences& sequences,
                 const LearnOptions& options)
      : executions_(executions),
        grouping_(grouping),
        sequences_(sequences),
        options_(options),
        aftermath_(aftermath_of(executions, grouping)),
        polls_(polls_of(executions, grouping)) {}

  Learned write(const StepGraph& graph);
  // One node, without its name and its edges.
  v1alpha1::Node node(const StepNode& step, const std::string& name);
  std::vector<LearnNote> take_notes() { return std::move(notes_); }

 private:
  void note(const std::string& node, std::string text) { notes_.push_back({node, std::move(text)}); }
  void note_about_graph(const StepGraph& graph);
  void note_about_node(const StepNode& step, const std::string& name);
  void add_loop(v1alpha1::Node& node, const StepNode& step);
  void close_order(LoopOrder& order, const std::string& name);
  void add_redirects(v1alpha1::Node& node, const Body& body);
  std::string times(const Histogram& counts, const Range& range, std::uint32_t least, const std::string& name);

  const Executions& executions_;
  const Grouping& grouping_;
  const Sequences& sequences_;
  const LearnOptions& options_;
  const Aftermath aftermath_;
  const std::vector<bool> polls_;
  std::vector<LearnNote> notes_;
};

}  // namespace sallyport::flow::learning
