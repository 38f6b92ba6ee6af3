// Any bytes as a flow graph: load_graph ends with a graph or with an error at a place in the file; a graph survives
// being written, also over itself; its executions keep their promises for any requests.

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "policy-engine/flow/graph_document.h"
#include "policy-engine/flow/pattern.h"
#include "tests/fuzz/diagnostics.h"
#include "tests/fuzz/require.h"

namespace {

using namespace sallyport;
using flow::Execution;
using flow::GraphLoad;
using fuzz::require;
using google::protobuf::util::MessageDifferencer;

void check_written(const GraphLoad& load, std::string_view text) {
  const std::string written = flow::write_graph(load.document);
  const GraphLoad again = flow::load_graph(written, "written.yaml");
  require(again.graph != nullptr, "a graph that was written is good");
  require(flow::write_graph(again.document) == written, "a graph is written in one way");
  const auto over = flow::write_graph_over(text, load.document);
  require(over.has_value(), "a graph can be written over itself");
  const GraphLoad same = flow::load_graph(*over, "over.yaml");
  require(MessageDifferencer::Equals(same.document, load.document), "written over itself it is the same");
  const auto twice = flow::write_graph_over(*over, load.document);
  require(twice.has_value() && *twice == *over, "what was written over stays as it is");
}

// Of all requests of the graph: one that each pattern stands for, where its placeholders make it easy.
std::vector<std::string> requests_of(const flow::v1alpha1::FlowGraph& document) {
  std::vector<std::string> out;
  for (const auto& node : document.spec().nodes()) {
    if (node.has_request()) out.push_back(node.request());
    for (const auto& step : node.group()) out.push_back(step.request());
    for (const auto& step : node.set()) out.push_back(step.request());
    for (const auto& step : node.loop().steps()) out.push_back(step.request());
    out.insert(out.end(), node.redirects().begin(), node.redirects().end());
  }
  return out;
}

void check_execution(const GraphLoad& load, std::string_view text) {
  Execution execution(load.graph);
  std::vector<flow::Ticket> tickets;
  const std::vector<std::string> requests = requests_of(load.document);
  for (std::size_t i = 0; i < requests.size() * 3 && i < 200; ++i) {
    const auto random = static_cast<unsigned char>(text[(i * 131) % text.size()]);
    const auto pattern = flow::parse_pattern(requests[(i / 2 + random % 2) % requests.size()], "");
    require(pattern.has_value(), "the patterns of a good graph can be read");
    std::string path;
    for (const flow::Piece& piece : pattern->path) path += piece.literal.empty() ? "7" : piece.literal;
    const std::string host = pattern->host.empty() ? "" : pattern->host[0].literal;
    const flow::Operation operation{pattern->method, host, path, "", ""};
    const std::string before = execution.expected();
    const bool could = execution.could(operation);
    flow::Ticket ticket;
    const bool allowed = execution.request(operation, ticket);
    require(could == allowed, "what could come may come");
    require(!before.empty(), "something is expected");
    if (!allowed) {
      require(execution.expected() == before, "a refused request changes nothing");
      continue;
    }
    require(before != "the end" && before != "nothing", "what came was expected");
    require(!execution.nodes().empty(), "an execution stands in a node");
    tickets.push_back(ticket);
    execution.answered(tickets[random % tickets.size()], static_cast<flow::Answer>(random % 3));
  }
  Execution copy = execution;
  require(copy.complete() == execution.complete() && copy.expected() == execution.expected(), "a copy is the same");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const GraphLoad load = flow::load_graph(text, "fuzz.yaml");
  fuzz::check_diagnostics(load.diagnostics, load.graph != nullptr, text);
  if (load.graph == nullptr) return 0;
  check_written(load, text);
  check_execution(load, text);
  return 0;
}
