// How long a step takes, in small and in large graphs: `flow_benchmark` prints it.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "policy-engine/flow/graph_compiler.h"

namespace {

using namespace sallyport;
using flow::Execution;
using flow::Operation;
using flow::v1alpha1::FlowGraph;

// A chain of nodes, of every fourth of which the next may be left out; the requests of an execution through all of it.
struct Chain {
  FlowGraph document;
  std::vector<std::string> hosts, paths;

  explicit Chain(std::int64_t nodes) {
    document.mutable_metadata()->set_name("bench");
    auto& spec = *document.mutable_spec();
    spec.add_entry("n0");
    for (std::int64_t i = 0; i < nodes; ++i) {
      const std::string n = std::to_string(i);
      auto& node = *spec.add_nodes();
      node.set_name("n" + n);
      hosts.push_back("api" + std::to_string(i % 50) + ".example.com");
      const bool open = i % 3 == 1, placeholder = i % 3 == 2;
      const std::string base = "/v1/tenants/orders" + n;
      node.set_request("GET " + hosts.back() + base + (open ? "/*" : placeholder ? "/{uuid}/lines" : "/list"));
      paths.push_back(base + (open          ? "/some/object/key.jpg"
                              : placeholder ? "/f81d4fae-7dec-11d0-a765-00a0c91e6bf6/lines"
                                            : "/list"));
      node.set_times("2");
      node.set_retries(i % 5 == 0 ? 2 : 0);
      if (i + 1 == nodes) node.add_next("exit");
      for (std::int64_t next = i + 1; next < nodes && next <= i + (i % 4 == 0 ? 2 : 1); ++next) {
        node.add_next("n" + std::to_string(next));
      }
    }
  }
};

void step(benchmark::State& state) {
  const Chain chain(state.range(0));
  const auto graph = flow::GraphCompiler(chain.document).compile({});
  Execution fresh(graph), execution(graph);
  std::size_t i = 0;
  flow::Ticket ticket;
  for (auto _ : state) {
    if (i == chain.paths.size()) {
      state.PauseTiming();
      execution = fresh;
      i = 0;
      state.ResumeTiming();
    }
    const Operation operation{"GET", chain.hosts[i], chain.paths[i], "", ""};
    if (!execution.request(operation, ticket)) state.SkipWithError("refused");
    execution.answered(ticket, flow::Answer::fine);
    ++i;
  }
}
BENCHMARK(step)->Arg(100)->Arg(1'000)->Arg(4'000);

void refused_step(benchmark::State& state) {
  const Chain chain(state.range(0));
  Execution execution(flow::GraphCompiler(chain.document).compile({}));
  flow::Ticket ticket;
  const Operation operation{"GET", chain.hosts[50], chain.paths[50], "", ""};
  for (auto _ : state) {
    if (execution.request(operation, ticket)) state.SkipWithError("allowed");
  }
}
BENCHMARK(refused_step)->Arg(100)->Arg(1'000)->Arg(4'000);

// Any of many nodes may come next, all of them on one host, with prefixes and placeholders of which some hold others.
void one_of_many_prefixes(benchmark::State& state) {
  FlowGraph document;
  document.mutable_metadata()->set_name("bench");
  std::vector<std::string> paths;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    const std::string n = std::to_string(i);
    auto& node = *document.mutable_spec()->add_nodes();
    node.set_name("n" + n);
    const std::string base = "/bucket/task" + n + "-";
    node.set_request("PUT s3.example.com" + base + (i % 2 == 0 ? "*" : "{int}/part-{hex}"));
    paths.push_back(base + (i % 2 == 0 ? "result/7" : "7/part-00ff"));
    node.add_next("exit");
    document.mutable_spec()->add_entry(node.name());
  }
  const auto graph = flow::GraphCompiler(document).compile({});
  const Execution execution(graph);
  std::size_t i = 0;
  for (auto _ : state) {
    if (!execution.could({"PUT", "s3.example.com", paths[i], "", ""})) state.SkipWithError("refused");
    i = (i + 7) % paths.size();
  }
}
BENCHMARK(one_of_many_prefixes)->Arg(100)->Arg(1'000)->Arg(4'000);

void new_execution(benchmark::State& state) {
  const auto graph = flow::GraphCompiler(Chain(state.range(0)).document).compile({});
  for (auto _ : state) benchmark::DoNotOptimize(Execution(graph));
}
BENCHMARK(new_execution)->Arg(1'000);

void compile(benchmark::State& state) {
  const Chain chain(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(flow::GraphCompiler(chain.document).compile({}));
}
BENCHMARK(compile)->Arg(4'000)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
