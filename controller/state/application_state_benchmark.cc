// How many asks and events a second one core takes, and what an execution costs in memory, with a million of them
// tracked: `controller_state_benchmark` prints it.

#include <benchmark/benchmark.h>
#include <malloc.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "controller/state/application_state.h"
#include "policy-engine/flow/application_graph_document.h"

namespace {

using namespace sallyport;
using controller::ApplicationState;
using controller::ExecutionId;
using controller::GuardId;
using controller::Outcome;
using controller::RequestId;
using controller::Source;
using controller::Time;

constexpr const char* kGraph = R"(
apiVersion: sallyport.dev/v1alpha1
kind: ApplicationGraph
metadata: {name: bench}
spec:
  functions:
  - {name: front, entry: true}
  - name: middle
    after: [{function: front, through: 'PUT orders.s3.us-east-1.amazonaws.com/{uuid}/*', within: 24h}]
  - name: back
    after: [{function: middle}]
)";

// Random identifiers that cost nothing to make.
std::uint64_t next(std::uint64_t& state) {
  state += 0x9E37'79B9'7F4A'7C15U;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9U;
  z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EBU;
  return z ^ (z >> 31);
}
template <class Id>
Id draw(std::uint64_t& state) {
  Id id{};
  for (std::size_t i = 0; i < 16; i += 8) {
    const std::uint64_t bits = next(state);
    std::memcpy(id.data() + i, &bits, sizeof bits);
  }
  return id;
}
void put(std::string* out, const std::array<unsigned char, 16>& id) {
  out->assign(reinterpret_cast<const char*>(id.data()), id.size());
}

struct Running {
  ExecutionId id;
  RequestId request;
};

class Bench {
 public:
  Bench()
      : state_(flow::load_application_graph(kGraph, "bench").graph,
               {.executions_max = 4'000'000, .flows_max = 8'000'000, .waiting_max = 65'536, .seed = 12345}) {
    for (std::uint32_t i = 0; i < 3'000; ++i) guards_.push_back({draw<GuardId>(random_), i % 3});
    auto& operation = *flow_.mutable_flow_began()->mutable_operation();
    operation.set_method("PUT");
    operation.set_host("orders.s3.us-east-1.amazonaws.com");
    operation.set_path("/f81d4fae-7dec-11d0-a765-00a0c91e6bf6/2026/order.json");
    auto& exchange = *exchange_.mutable_exchange();
    exchange.set_kind(controller::v1alpha1::EXCHANGE_KIND_OUTBOUND);
    exchange.set_decision(controller::v1alpha1::DECISION_ALLOW);
    exchange.set_status(200);
    *exchange.mutable_operation() = operation;
  }

  const Source& guard(std::uint32_t function) { return guards_[next(random_) % 1'000 * 3 + function]; }
  Running ask(const Source& from) {
    Running running{draw<ExecutionId>(random_), draw<RequestId>(random_)};
    put(ask_.mutable_execution(), running.id);
    out_.clear();
    state_.ask(1, from, ask_, running.request, now_, out_);
    if (out_.answers.size() != 1 || !out_.answers[0].allowed)
      ++refused_;
    else
      running.request = out_.answers[0].request;
    return running;
  }
  std::uint64_t begin_flow(const Source& from, const Running& running) {
    auto& began = *flow_.mutable_flow_began();
    put(began.mutable_execution(), running.id);
    put(began.mutable_request_id(), running.request);
    began.set_id(++flows_);
    state_.apply(from, flow_, now_, out_);
    return flows_;
  }
  void end_flow(const Source& from, const Running& running, std::uint64_t id) {
    auto& exchange = *exchange_.mutable_exchange();
    put(exchange.mutable_execution(), running.id);
    put(exchange.mutable_request_id(), running.request);
    exchange.set_id(id);
    state_.apply(from, exchange_, now_, out_);
  }
  void told(const Source& from, const Running& running) {
    auto& began = *began_.mutable_execution_began();
    put(began.mutable_execution(), running.id);
    put(began.mutable_request_id(), running.request);
    began.set_asked(true);
    state_.apply(from, began_, now_, out_);
  }
  void ended(const Source& from, const Running& running) {
    put(ended_.mutable_execution_ended()->mutable_execution(), running.id);
    state_.apply(from, ended_, now_, out_);
  }

  ApplicationState state_;
  std::vector<Source> guards_;
  std::uint64_t random_ = 7, flows_ = 0, refused_ = 0;
  Time now_{std::chrono::hours(480'000)};
  Outcome out_;
  controller::v1alpha1::EntryAsk ask_;
  controller::v1alpha1::Event flow_, exchange_, began_, ended_;
};

std::size_t memory() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Executions of which each has been told, and has a flow that may still lead to something.
void fill(Bench& bench, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const Source& front = bench.guard(0);
    const Running running = bench.ask(front);
    bench.told(front, running);
    bench.end_flow(front, running, bench.begin_flow(front, running));
    if (i % 1'000 == 0) bench.now_ += std::chrono::milliseconds(1);
  }
}

void memory_of_an_execution(benchmark::State& state) {
  for (auto _ : state) {
    const std::size_t before = memory();
    auto bench = std::make_unique<Bench>();
    fill(*bench, state.range(0));
    state.counters["bytes_each"] =
        static_cast<double>(memory() - before) / static_cast<double>(bench->state_.executions());
    state.counters["MiB"] = static_cast<double>(memory() - before) / (1 << 20);
  }
}

// A message from outside, and one that a flow has led to: half of the asks each.
void asks(benchmark::State& state) {
  Bench bench;
  fill(bench, state.range(0));
  std::int64_t count = 0;
  for (auto _ : state) {
    const Source& front = bench.guard(0);
    const Running running = bench.ask(front);
    state.PauseTiming();
    bench.begin_flow(front, running);
    state.ResumeTiming();
    bench.ask(bench.guard(1));
    count += 2;
    if (count % 1'000 == 0) bench.now_ += std::chrono::milliseconds(1);
  }
  state.SetItemsProcessed(count);
  state.counters["refused"] = static_cast<double>(bench.refused_);
}

// The same without pauses in the measurement: an ask, and all that is told of its execution.
void executions(benchmark::State& state) {
  Bench bench;
  fill(bench, state.range(0));
  std::int64_t count = 0;
  for (auto _ : state) {
    const Source& front = bench.guard(0);
    const Running running = bench.ask(front);
    bench.told(front, running);
    const std::uint64_t id = bench.begin_flow(front, running);
    bench.end_flow(front, running, id);
    bench.ended(front, running);
    const Source& middle = bench.guard(1);
    const Running led = bench.ask(middle);
    bench.told(middle, led);
    bench.ended(middle, led);
    count += 8;
    if (count % 1'000 == 0) bench.now_ += std::chrono::milliseconds(1);
  }
  state.SetItemsProcessed(count);
  state.counters["refused"] = static_cast<double>(bench.refused_);
}

// Events alone: what one execution with a flow tells.
void events(benchmark::State& state) {
  Bench bench;
  fill(bench, state.range(0));
  std::int64_t count = 0;
  for (auto _ : state) {
    const Source& front = bench.guard(0);
    const Running running{draw<ExecutionId>(bench.random_), draw<RequestId>(bench.random_)};
    bench.told(front, running);
    bench.end_flow(front, running, bench.begin_flow(front, running));
    bench.ended(front, running);
    count += 4;
    if (count % 1'000 == 0) bench.now_ += std::chrono::milliseconds(1);
  }
  state.SetItemsProcessed(count);
}

BENCHMARK(memory_of_an_execution)->Arg(1'000'000)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(asks)->Arg(1'000)->Arg(1'000'000);
BENCHMARK(events)->Arg(1'000)->Arg(1'000'000);
BENCHMARK(executions)->Arg(1'000)->Arg(1'000'000);

}  // namespace

BENCHMARK_MAIN();
