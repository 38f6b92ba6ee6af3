#include "proxy/guard/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace sallyport::guard {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

const Histogram::BucketBoundaries kSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                              0.25,  0.5,    1,     2.5,  5,     10,   30};

Family<Counter>& counters(prometheus::Registry& registry, const char* name, const char* help,
                          const std::string& function) {
  return prometheus::BuildCounter().Name(name).Help(help).Labels({{"function", function}}).Register(registry);
}

double seconds_of(std::chrono::microseconds duration) { return static_cast<double>(duration.count()) / 1e6; }

// A counter that follows a total kept elsewhere.
void follow(Counter& counter, std::uint64_t total) { counter.Increment(static_cast<double>(total) - counter.Value()); }

}  // namespace

struct Metrics::Impl {
  Impl(const std::string& function, std::function<WorkerTotals()> read_totals)
      : exchanges(counters(registry, "sallyport_exchanges_total", "HTTP exchanges by decision and reason.", function)),
        connections(counters(registry, "sallyport_connections_without_exchange_total",
                             "Connections that carried no HTTP exchange, by decision and reason.", function)),
        names(counters(registry, "sallyport_names_refused_total", "Names that were not resolved.", function).Add({})),
        bytes(counters(registry, "sallyport_body_bytes_total", "Bytes of bodies and tunnels; up is from the function.",
                       function)),
        duration(prometheus::BuildHistogram()
                     .Name("sallyport_exchange_duration_seconds")
                     .Help("Time of relayed exchanges, from the request's head to the end of the response.")
                     .Labels({{"function", function}})
                     .Register(registry)),
        first_byte(prometheus::BuildHistogram()
                       .Name("sallyport_upstream_first_byte_seconds")
                       .Help("Time until the upstream's response head.")
                       .Labels({{"function", function}})
                       .Register(registry)),
        loads(counters(registry, "sallyport_policy_loads_total", "Policy documents loaded, by result.", function)),
        accepted(counters(registry, "sallyport_connections_total", "Connections accepted from the function.", function)
                     .Add({})),
        upstream_connects(counters(registry, "sallyport_upstream_connects_total",
                                   "Connections made to upstream servers; exchanges beyond these reused one.", function)
                              .Add({})),
        leaves(counters(registry, "sallyport_leaf_certificates_total", "Leaf certificates minted.", function).Add({})),
        open(prometheus::BuildGauge()
                 .Name("sallyport_connections_open")
                 .Help("Connections of the function that are open now.")
                 .Labels({{"function", function}})
                 .Register(registry)
                 .Add({})),
        evicted(counters(registry, "sallyport_connections_evicted_total",
                         "Silent connections that were closed because all places were taken.", function)
                    .Add({})),
        tasks(prometheus::BuildGauge()
                  .Name("sallyport_tasks")
                  .Help("Coroutines that the workers have started and that have not ended; a few are always there.")
                  .Labels({{"function", function}})
                  .Register(registry)
                  .Add({})),
        totals(std::move(read_totals)) {}

  prometheus::Registry registry;
  Family<Counter>& exchanges;
  Family<Counter>& connections;
  Counter& names;
  Family<Counter>& bytes;
  Family<Histogram>& duration;
  Family<Histogram>& first_byte;
  Family<Counter>& loads;
  Counter& accepted;
  Counter& upstream_connects;
  Counter& leaves;
  Gauge& open;
  Counter& evicted;
  Gauge& tasks;
  std::function<WorkerTotals()> totals;
};

Metrics::Metrics(std::string function, std::function<WorkerTotals()> totals)
    : impl_(std::make_unique<Impl>(function, std::move(totals))) {}

Metrics::~Metrics() = default;

void Metrics::count(const Record& record) {
  prometheus::Labels labels{{"endpoint", record.endpoint},
                            {"decision", std::string(to_string(record.outcome))},
                            {"reason", std::string(to_string(record.reason))}};
  switch (record.kind) {
    case RecordKind::exchange:
      impl_->exchanges.Add(labels).Increment();
      break;
    case RecordKind::connection:
      impl_->connections.Add(labels).Increment();
      break;
    case RecordKind::dns:
      impl_->names.Increment();
      return;
  }
  impl_->bytes.Add({{"direction", "up"}}).Increment(static_cast<double>(record.bytes_up));
  impl_->bytes.Add({{"direction", "down"}}).Increment(static_cast<double>(record.bytes_down));
  if (record.kind != RecordKind::exchange || record.upstream.empty()) return;
  impl_->duration.Add({{"endpoint", record.endpoint}}, kSeconds).Observe(seconds_of(record.duration));
  if (record.first_byte) {
    impl_->first_byte.Add({{"endpoint", record.endpoint}}, kSeconds).Observe(seconds_of(*record.first_byte));
  }
}

void Metrics::policy_loaded(bool accepted) {
  impl_->loads.Add({{"result", accepted ? "accepted" : "refused"}}).Increment();
}

std::string Metrics::text() {
  WorkerTotals totals = impl_->totals();
  follow(impl_->accepted, totals.connections_accepted);
  follow(impl_->upstream_connects, totals.upstream_connects);
  follow(impl_->leaves, totals.leaves_minted);
  impl_->open.Set(static_cast<double>(totals.connections_open));
  follow(impl_->evicted, totals.connections_evicted);
  impl_->tasks.Set(static_cast<double>(totals.tasks));
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace sallyport::guard
