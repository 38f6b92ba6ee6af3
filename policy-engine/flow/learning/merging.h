#pragma once
// A reviewed graph, widened as far as new executions need it.

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy-engine/flow/learn.h"
#include "policy-engine/flow/learning/alignment.h"
#include "policy-engine/flow/learning/executions.h"
#include "policy-engine/flow/learning/node_names.h"
#include "policy-engine/flow/learning/url_grouping.h"

namespace sallyport::flow::learning {

// The patterns of all that a graph says of requests.
Result<std::vector<Pattern>> patterns_of(const v1alpha1::FlowGraph& graph);

class Merging {
 public:
  Merging(const v1alpha1::FlowGraph& reviewed, const Executions& executions, const Grouping& grouping,
          const LearnOptions& options);

  // Of all the executions, in an order that does not depend on theirs.
  Result<Learned> merge();

 private:
  struct Same {  // executions that sent the same symbols
    std::uint64_t executions = 0;
    std::vector<std::uint32_t> retries;                    // by place, the most
    std::vector<std::vector<std::vector<Symbol>>> chains;  // by place, of redirects
  };

  std::map<std::vector<Symbol>, Same> gather() const;
  void read_graph();
  AlignNode align_node(const v1alpha1::Node& node) const;
  Symbol symbol_of(const std::string& request, const std::string& action) const;
  void apply(const std::vector<Symbol>& symbols, const Same& same, const std::vector<Visit>& visits);
  std::uint32_t add_node(Symbol symbol);
  void widen(v1alpha1::Node& node, const AlignNode& known, const std::vector<Symbol>& symbols, const Visit& visit);
  void widen_loop(v1alpha1::Node& node, const AlignNode& known, const std::vector<Symbol>& symbols, const Visit& visit);
  void take_answers(v1alpha1::Node& node, const Same& same, const Visit& visit);
  void connect(std::uint32_t from, const std::string& to);
  template <class Owner>
  void raise(Owner& owner, const Times& now, std::uint32_t least, std::uint32_t most, const std::string& node,
             std::uint32_t default_least);
  void note(const std::string& node, std::string text) { out_.notes.push_back({node, std::move(text)}); }

  const Executions& executions_;
  const Grouping& grouping_;
  const LearnOptions& options_;
  Learned out_;
  UniqueNames names_;
  std::map<std::pair<std::string, std::string>, Symbol> symbols_;  // by pattern and action
  std::vector<AlignNode> nodes_;
  std::vector<std::vector<std::uint32_t>> edges_;
  bool changed_ = true;
};

}  // namespace sallyport::flow::learning
