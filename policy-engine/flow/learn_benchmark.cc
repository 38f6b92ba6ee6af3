// How long learning takes: `flow_learn_benchmark` prints it. 100,000 executions of 50 flows should take less than 10 s.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <random>
#include <string>

#include "policy-engine/flow/learn.h"
#include "policy-engine/flow/trace_builder.h"
#include "policy-engine/flow/trace_file.h"

namespace {

using namespace sallyport;

// Of ten kinds of requests, of which half have an identifier of their own; some steps are left out, some repeated.
flow::v1alpha1::Trace execution(std::mt19937& random) {
  flow::TraceBuilder builder;
  const std::string id = std::to_string(random());
  for (std::size_t step = 0; step < 10; ++step) {
    if (step % 4 == 3 && random() % 2 == 0) continue;
    const std::string path = "/v1/step-" + std::string(1, static_cast<char>('a' + step));
    const std::size_t times = step % 3 == 0 ? 1 + random() % 12 : 5;
    for (std::size_t i = 0; i < times; ++i) {
      builder.get("api.example.com", step % 2 == 0 ? path : path + "/" + id + "-" + std::to_string(i));
      if (random() % 200 == 0) builder.status(503).get("api.example.com", step % 2 == 0 ? path : path + "/x");
    }
  }
  return builder.done();
}

std::string file_of(std::int64_t executions, flow::TraceForm form) {
  std::mt19937 random(1);
  std::string out;
  for (std::int64_t i = 0; i < executions; ++i) append_trace(out, execution(random), form, out.empty());
  return out;
}

void learn_from(benchmark::State& state, flow::TraceForm form) {
  const std::string bytes = file_of(state.range(0), form);
  std::size_t nodes = 0;
  std::int64_t flows = 0;
  for (auto _ : state) {
    flow::Learner learner({});
    bool cut = false;
    flows = 0;
    const auto read = flow::read_traces(
        bytes, "bench",
        [&](flow::v1alpha1::Trace&& trace) {
          flows += trace.flows_size();
          return learner.add(std::move(trace));
        },
        cut);
    const auto learned = learner.finish();
    if (!read || !learned) {
      state.SkipWithError((read ? learned.error() : read.error()).text.c_str());
      return;
    }
    nodes = static_cast<std::size_t>(learned->graph.spec().nodes_size());
  }
  state.counters["nodes"] = static_cast<double>(nodes);
  state.counters["flows"] = static_cast<double>(flows);
  state.counters["file_MiB"] = static_cast<double>(bytes.size()) / (1 << 20);
}

void learn_from_messages(benchmark::State& state) { learn_from(state, flow::TraceForm::binary); }
BENCHMARK(learn_from_messages)->Arg(1'000)->Arg(10'000)->Arg(100'000)->Unit(benchmark::kMillisecond);

void learn_from_json(benchmark::State& state) { learn_from(state, flow::TraceForm::json_lines); }
BENCHMARK(learn_from_json)->Arg(1'000)->Arg(10'000)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
