#pragma once
// What is wrong with a flow graph's document, each mistake at its place and with what to do about it.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy-engine/api/flow.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"
#include "policy-engine/flow/graph_compiler.h"

namespace sallyport::flow {

class GraphChecker {
 public:
  // `written`: the reader of the YAML has said what is missing already.
  GraphChecker(const v1alpha1::FlowGraph& document, const document::Places& places, document::Diagnostics& diagnostics,
               bool written)
      : document_(document), places_(places), diagnostics_(diagnostics), written_(written) {}

  void check();

 private:
  using Names = google::protobuf::RepeatedPtrField<std::string>;
  using Message = google::protobuf::Message;

  struct Known {  // a pattern, where it stands first
    Pattern pattern;
    document::Place place;
    std::string node;
  };

  void check_header();
  void check_spec();
  void check_names();
  void check_node(const v1alpha1::Node& node);
  void check_kind(const v1alpha1::Node& node);
  void check_steps(const v1alpha1::Node& node, const google::protobuf::RepeatedPtrField<v1alpha1::Step>& steps,
                   int field);
  void check_loop(const v1alpha1::Node& node);
  void check_loop_counts(const v1alpha1::Node& node);
  void check_loop_ways(const v1alpha1::Node& node, const std::map<std::string, int>& names);
  bool check_step_names(const v1alpha1::Node& node, const Message& message, int field, const Names& list,
                        const std::map<std::string, int>& names);
  void check_pattern(const Message& message, int field, int index, const std::string& text, const std::string& action,
                     const std::string& node);
  void check_action(const Message& message, int field, const std::string& action);
  void check_times(const Message& message, int field, bool given, const std::string& text, std::uint32_t least);
  // Fills the indices of the nodes that `list` names.
  void check_edges(const Message& message, int field, const Names& list, const std::string& from,
                   std::vector<std::size_t>& out);
  void check_cycles();
  void report_cycle(const std::vector<std::size_t>& way);  // from a node to one that leads to it
  void check_ways();
  void check_hidden();
  void check_hosts();

  document::Place name_place(std::size_t node) const;

  const v1alpha1::FlowGraph& document_;
  const document::Places& places_;
  document::Diagnostics& diagnostics_;
  bool written_;
  std::map<std::string, std::size_t, std::less<>> names_;  // of nodes, to the first of the name
  std::vector<std::vector<std::size_t>> next_;             // of nodes, and behind them of the entry
  std::vector<bool> may_end_;
  std::size_t edges_ = 0;
  bool dangling_ = false;  // some edge leads nowhere, so that it is not known what is reached
  std::map<std::pair<std::string, std::string>, Known> patterns_;
};

}  // namespace sallyport::flow
