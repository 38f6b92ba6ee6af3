// How long a decision takes, with few and with very many endpoints: `policy_benchmark` prints it.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>

#include "policy-engine/document/load.h"

namespace {

using namespace sallyport;
using document::Destination;
using document::Snapshot;

std::shared_ptr<const Snapshot> policy_of(std::int64_t endpoints) {
  std::string yaml =
      "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: bench}\nspec:\n  endpoints:\n";
  for (std::int64_t i = 0; i < endpoints; ++i) {
    const std::string n = std::to_string(i);
    const std::string host = i % 4 == 0 ? "'*.w" + n + ".example.com'" : "api" + n + ".example.com";
    yaml += "  - {name: e" + n + ", host: " + host +
            ", rules: [{methods: [POST], path: {exact: /v1/charges}}, {methods: [GET], path: {prefix: /v1}}," +
            (i % 64 == 1 ? " {methods: [GET], path: {regex: '/v[0-9]+/x'}}" : "") + "]}\n";
  }
  auto result = document::load_policy(yaml, "bench", nullptr);
  for (const auto& diagnostic : result.diagnostics) fprintf(stderr, "%s\n", diagnostic.to_string().c_str());
  return result.snapshot;
}

void decide(benchmark::State& state, const Destination& destination, std::string_view path, bool allowed) {
  const auto snapshot = policy_of(state.range(0));
  for (auto _ : state) {
    const auto decision = snapshot->decide_request(destination, "GET", path);
    if (decision.allowed != allowed) state.SkipWithError("decided otherwise");
    benchmark::DoNotOptimize(decision);
  }
}

void exact_host(benchmark::State& state) {
  decide(state, {request::Scheme::https, "api1.example.com", 443}, "/v1/customers/7", true);
}
void wildcard_host(benchmark::State& state) {
  decide(state, {request::Scheme::https, "a.b.w0.example.com", 443}, "/v1/customers/7", true);
}
void unknown_host(benchmark::State& state) {
  decide(state, {request::Scheme::https, "api1.example.org", 443}, "/v1/customers/7", false);
}
void unknown_host_of_many_labels(benchmark::State& state) {
  std::string host;
  for (int i = 0; i < 120; ++i) host += "a.";
  host += "org";
  decide(state, {request::Scheme::https, host, 443}, "/", false);
}
void regex(benchmark::State& state) {
  decide(state, {request::Scheme::https, "api1.example.com", 443}, "/v22/x", true);
}
void connection(benchmark::State& state) {
  const auto snapshot = policy_of(state.range(0));
  const Destination destination{request::Scheme::https, "api1.example.com", 443};
  for (auto _ : state) benchmark::DoNotOptimize(snapshot->decide_connection(destination));
}

BENCHMARK(exact_host)->Arg(4)->Arg(4096);
BENCHMARK(wildcard_host)->Arg(4)->Arg(4096);
BENCHMARK(unknown_host)->Arg(4)->Arg(4096);
BENCHMARK(unknown_host_of_many_labels)->Arg(4)->Arg(4096);
BENCHMARK(regex)->Arg(4)->Arg(4096);
BENCHMARK(connection)->Arg(4)->Arg(4096);

void load(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(policy_of(state.range(0)));
}
BENCHMARK(load)->Arg(4)->Arg(4096)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
