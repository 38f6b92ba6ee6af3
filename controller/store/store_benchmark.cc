// How many events a second one core stores: `store_benchmark` prints it, with events as guards send them, in turns of
// as many batches as come while one is written. Where STORE_BENCHMARK_REDIS is a Redis's URL, that is measured.

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "controller/api/link.pb.h"
#include "controller/store/redis_store.h"
#include "controller/store/sqlite_store.h"

namespace {

using namespace sallyport::controller;

std::string events(std::uint64_t first, std::size_t count) {
  v1alpha1::Events out;
  for (std::size_t i = 0; i < count; ++i) {
    auto& event = *out.add_events();
    event.set_sequence(first + i);
    event.mutable_time()->set_seconds(1'790'000'000);
    auto& exchange = *event.mutable_exchange();
    exchange.set_kind(v1alpha1::EXCHANGE_KIND_OUTBOUND);
    exchange.set_decision(v1alpha1::DECISION_ALLOW);
    exchange.set_id(first * 7'919 + i);
    exchange.set_execution("0123456789abcdef");
    exchange.set_request_id("fedcba9876543210");
    exchange.mutable_operation()->set_method("PUT");
    exchange.mutable_operation()->set_host("photos.s3.us-east-1.amazonaws.com");
    exchange.mutable_operation()->set_path("/thumbnails/" + std::to_string(first + i) + ".jpg");
    exchange.set_endpoint("photos");
    exchange.set_credential("aws-main");
    exchange.set_node("store");
    exchange.set_attribution("only");
    exchange.set_status(200);
    exchange.set_bytes_up(48'211);
    exchange.set_duration_us(18'400);
    exchange.set_upstream("52.216.0.1:443");
  }
  return out.SerializeAsString();
}

sallyport::Result<std::unique_ptr<Store>> open(const std::string& folder) {
  const char* const redis = std::getenv("STORE_BENCHMARK_REDIS");
  if (redis == nullptr) return SqliteStore::open(folder);
  const auto url = parse_redis_url(redis);
  if (!url) return std::unexpected(url.error());
  return RedisStore::open(*url, 0, folder, {.on_lost = [] {}});
}

void stored(benchmark::State& state) {
  const std::string folder = std::filesystem::temp_directory_path() / ("store_benchmark." + std::to_string(getpid()));
  std::filesystem::remove_all(folder);
  auto store = open(folder);
  if (!store) return state.SkipWithError(store.error().text.c_str());
  const auto each = static_cast<std::size_t>(state.range(0));
  const auto batches = static_cast<std::size_t>(state.range(1));
  for (std::size_t i = 0; i < batches; ++i) {
    GuardId id{};
    id[0] = static_cast<unsigned char>(i);
    id[1] = static_cast<unsigned char>(i >> 8);
    if (!(*store)->put_guard({id, "shop", "resize", "pod", "t", {}, 0})) return state.SkipWithError("no guard");
  }
  std::uint64_t next = 1;
  for (auto _ : state) {
    std::vector<Store::Entry> turn;
    for (std::size_t i = 0; i < batches; ++i) {
      EventBatch batch;
      batch.guard[0] = static_cast<unsigned char>(i);
      batch.guard[1] = static_cast<unsigned char>(i >> 8);
      batch.application = "shop";
      batch.function = "resize";
      batch.first = next;
      batch.last = next + each - 1;
      batch.earliest = batch.latest = Time(std::chrono::milliseconds(1'790'000'000'000 + static_cast<long>(next)));
      batch.decisions = 2;
      state.PauseTiming();
      batch.events = events(next, each);
      state.ResumeTiming();
      turn.push_back({std::move(batch), std::nullopt});
    }
    next += each;
    if (auto written = (*store)->append(turn); !written) return state.SkipWithError(written.error().text.c_str());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(each * batches));
  store->reset();
  std::filesystem::remove_all(folder);
}
BENCHMARK(stored)
    ->ArgNames({"events", "batches"})
    ->Args({256, 16})
    ->Args({256, 1})
    ->Args({16, 64})
    ->Args({1, 256})
    ->Args({1, 1});

}  // namespace

BENCHMARK_MAIN();
