#pragma once
// The application graph, compiled: which function may follow which, directly or through a service (SecLambda S36, S42).
// Immutable; everybody shares one.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/api/application_graph.pb.h"
#include "policy-engine/flow/graph_compiler.h"
#include "policy-engine/flow/graph_symbols.h"
#include "policy-engine/flow/operation.h"
#include "policy-engine/flow/pattern.h"

namespace sallyport::flow {

struct ApplicationEdge {
  std::uint32_t from = 0, to = 0;  // functions
  std::optional<Pattern> through;  // what leads to it through a service; none: `from` sends to `to` itself
  Times leads_to;                  // executions of one flow
  std::uint32_t redeliveries = 0;
  std::chrono::milliseconds redelivery_window{}, within{};

  bool direct() const { return !through.has_value(); }
};

class ApplicationGraph {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  // The document is taken to be good: what is wrong with one is for load_application_graph() to say.
  explicit ApplicationGraph(const v1alpha1::ApplicationGraph& document);

  const std::string& application() const { return application_; }

  // Functions have numbers, in the order of the document.
  std::uint32_t function_count() const { return static_cast<std::uint32_t>(functions_.size()); }
  const std::string& name_of(std::uint32_t function) const { return functions_[function].name; }
  // kNone: there is no such function.
  std::uint32_t function_of(std::string_view name) const;
  bool is_entry(std::uint32_t function) const { return functions_[function].entry; }
  // 0: as many as there are.
  std::uint32_t instances_max(std::uint32_t function) const { return functions_[function].instances_max; }

  std::span<const ApplicationEdge> edges() const { return edges_; }
  // By which `from` sends to `to` itself; kNone: it may not.
  std::uint32_t direct_edge(std::uint32_t from, std::uint32_t to) const;
  // Those that lead to the function through a service.
  std::span<const std::uint32_t> edges_through_services(std::uint32_t to) const { return functions_[to].after; }
  // Those over which this flow of `from` leads through a service, one for each function at most: of several patterns
  // for one the most specific counts alone, so that no flow counts twice. Overwrites `out`.
  void find_edges(std::uint32_t from, const Operation& operation, std::vector<std::uint32_t>& out) const;

 private:
  struct Function {
    std::string name;
    bool entry = false;
    std::uint32_t instances_max = 0;
    std::vector<std::uint32_t> after;                // edges
    std::vector<std::uint32_t> direct;               // edges by which it sends, by the function that they lead to
    SymbolIndex patterns;                            // of what it sends
    std::vector<std::vector<std::uint32_t>> behind;  // by symbol: edges
  };

  void add_edge(std::uint32_t to, const v1alpha1::Predecessor& source);

  std::string application_;
  std::vector<Function> functions_;
  std::vector<ApplicationEdge> edges_;
  StringIndex names_;
};

// "500ms", "90s", "10m", "24h"; limits::kApplicationTimeMax at most, and not nothing. ErrorKind::invalid with what to
// write instead.
Result<std::chrono::milliseconds> parse_time_span(std::string_view text);

}  // namespace sallyport::flow
