#pragma once
// A flow graph whose document is good → the tables that Execution walks. What is wrong with a document is for
// graph_document.h to say; here it is taken to be right.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy-engine/api/flow.pb.h"
#include "policy-engine/flow/graph.h"
#include "policy-engine/flow/graph_symbols.h"
#include "policy-engine/flow/operation_hash.h"
#include "policy-engine/flow/pattern.h"

namespace sallyport::flow {

// A counter: how often at least, how often at most.
struct Times {
  std::uint32_t least = 1;
  std::uint32_t most = 1;
  bool operator==(const Times&) const = default;
};

// "3" is 1 to 3 (0 to 3 for a step of a loop, which need not come at all: `least`), "2..5" is 2 to 5.
// ErrorKind::invalid with what to write instead.
Result<Times> parse_times(std::string_view text, std::uint32_t least = 1);
// "3", "2..5".
std::string to_string(const Times& times);

// In the place of a node's name.
inline constexpr std::string_view kExit = "exit";

// A retry's allowance is kept in one byte for each request under way.
inline constexpr std::uint32_t kFlowRetriesMax = 254;

enum class NodeKind : std::uint8_t { entry, request, group, set, loop };

struct CompiledStep {
  std::uint32_t symbol = 0;
  Times times;
  bool start = false, end = false;  // of a loop: may come first, may come last
  std::vector<std::uint32_t> next;  // of a loop
};

struct CompiledNode {
  std::string name;
  int line = 0;
  NodeKind kind = NodeKind::request;
  Times times;  // passes; of a request, requests
  Times total;  // of a loop
  std::vector<CompiledStep> steps;
  std::uint32_t retries = 0;
  std::uint32_t redirects = 0;                  // how many may follow each other
  std::vector<std::uint32_t> redirect_symbols;  // sorted
  std::vector<std::uint32_t> next;              // sorted
  bool may_end = false;
};

class Compiled {
 public:
  std::string function, image_digest;
  std::vector<CompiledNode> nodes;  // behind those of the document, the entry
  std::uint32_t entry = 0;
  std::vector<Pattern> symbols;
  std::vector<std::uint32_t> ranks;               // of symbols: the most specific has 0
  std::vector<std::vector<std::uint32_t>> first;  // by symbol: the nodes that may begin with it, sorted
  SymbolIndex index;
  OperationHash hash;
  std::size_t counters = 0;  // that a configuration has: of the largest set or loop
  std::size_t slots = 0;     // for requests that may be sent again or redirected
};

class GraphCompiler {
 public:
  explicit GraphCompiler(const v1alpha1::FlowGraph& document) : document_(document) {}

  // `lines` are the nodes' places in the document, or empty.
  std::shared_ptr<const Graph> compile(const std::vector<int>& lines);

 private:
  std::uint32_t symbol_of(std::string_view request, std::string_view action);
  void add_step(CompiledNode& node, std::string_view request, std::string_view action, Times times);
  CompiledNode node_of(const v1alpha1::Node& source);
  void add_loop(CompiledNode& node, const v1alpha1::Loop& loop);
  void add_redirects(CompiledNode& node, const v1alpha1::Node& source);
  void connect(CompiledNode& node, const google::protobuf::RepeatedPtrField<std::string>& next) const;
  void index_symbols();
  void index_first_nodes();
  void size_executions();

  const v1alpha1::FlowGraph& document_;
  std::unique_ptr<Compiled> out_;
  StringIndex symbols_;  // by pattern and action
  StringIndex names_;    // of nodes
};

// May the execution be within step `step` of `node` when it enters, with nothing before it?
bool may_begin(const CompiledNode& node, std::uint32_t step);

}  // namespace sallyport::flow
