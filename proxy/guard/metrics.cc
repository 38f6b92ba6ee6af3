#include "proxy/guard/metrics.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/metrics_text.h"

namespace sallyport::guard {
namespace {

using std::chrono::microseconds;

struct Bound {
  microseconds limit;
  std::string_view seconds;
};

constexpr std::array<Bound, 17> kBounds = {{{microseconds(100), "0.0001"},
                                            {microseconds(250), "0.00025"},
                                            {microseconds(500), "0.0005"},
                                            {microseconds(1'000), "0.001"},
                                            {microseconds(2'500), "0.0025"},
                                            {microseconds(5'000), "0.005"},
                                            {microseconds(10'000), "0.01"},
                                            {microseconds(25'000), "0.025"},
                                            {microseconds(50'000), "0.05"},
                                            {microseconds(100'000), "0.1"},
                                            {microseconds(250'000), "0.25"},
                                            {microseconds(500'000), "0.5"},
                                            {microseconds(1'000'000), "1"},
                                            {microseconds(2'500'000), "2.5"},
                                            {microseconds(5'000'000), "5"},
                                            {microseconds(10'000'000), "10"},
                                            {microseconds(30'000'000), "30"}}};

struct Histogram {
  std::array<std::uint64_t, kBounds.size() + 1> counts{};  // each bucket without those below it; the last has no bound
  std::uint64_t count = 0;
  microseconds sum{0};

  void observe(microseconds duration) {
    const auto* bound =
        std::find_if(kBounds.begin(), kBounds.end(), [&](const Bound& b) { return duration <= b.limit; });
    ++counts[static_cast<std::size_t>(bound - kBounds.begin())];
    ++count;
    sum += duration;
  }
};

// How often something ended in one way. There are few ways, and most often it is the first.
struct Tally {
  struct Entry {
    Outcome outcome;
    Reason reason;
    std::uint64_t count;
  };
  std::vector<Entry> entries;

  void add(Outcome outcome, Reason reason) {
    for (Entry& entry : entries) {
      if (entry.outcome == outcome && entry.reason == reason) {
        ++entry.count;
        return;
      }
    }
    entries.push_back({outcome, reason, 1});
  }
};

std::string_view to_string(AskEnd end) {
  switch (end) {
    case AskEnd::allowed:
      return "allowed";
    case AskEnd::refused:
      return "refused";
    case AskEnd::unanswered_denied:
      return "unanswered-denied";
    case AskEnd::unanswered_allowed:
      return "unanswered-allowed";
  }
  return "";
}

struct OfEndpoint {
  Tally exchanges, connections;
  Histogram duration, first_byte;
};

// Every sample has the label `function`.
class Text : public MetricsText {
 public:
  explicit Text(std::string_view function) : MetricsText({{"function", function}}) {}

  using MetricsText::sample;
  // Without `endpoint`: of all.
  void sample(const Histogram& histogram, std::optional<std::string_view> endpoint) {
    std::vector<Label> labels;
    if (endpoint) labels.emplace_back("endpoint", *endpoint);
    const auto sum = static_cast<std::uint64_t>(histogram.sum.count());
    const std::string fraction = std::to_string(sum % 1'000'000);
    std::uint64_t so_far = 0;
    labels.emplace_back("le", "");
    for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
      so_far += histogram.counts[i];
      labels.back().second = i < kBounds.size() ? kBounds[i].seconds : "+Inf";
      sample("_bucket", std::to_string(so_far), labels);
    }
    labels.pop_back();
    sample("_sum", std::to_string(sum / 1'000'000) + "." + std::string(6 - fraction.size(), '0') + fraction, labels);
    sample("_count", std::to_string(histogram.count), labels);
  }
};

}  // namespace

struct Metrics::Impl {
  Impl(std::string f, std::function<Totals()> t) : function(std::move(f)), totals(std::move(t)) {}

  void tallies(Text& text, Tally OfEndpoint::* kind) const;
  void histograms(Text& text, Histogram OfEndpoint::* kind) const;
  void inbound_and_executions(Text& text, std::uint64_t open) const;
  void membership(Text& text, const Totals& now) const;

  const std::string function;
  const std::function<Totals()> totals;
  std::mutex mutex;  // the rest is the recorder's; a scrape looks in now and then
  std::map<std::string, OfEndpoint> endpoints;
  Tally inbound;
  Histogram inbound_duration;
  std::map<std::pair<std::string_view, Reason>, std::uint64_t> executions;  // by their end, and what was wrong with it
  std::array<std::uint64_t, 4> asks{};                                      // by AskEnd
  Histogram ask_duration;
  std::uint64_t names_refused = 0;
  std::uint64_t bytes_up = 0, bytes_down = 0;
  std::uint64_t loads_accepted = 0, loads_refused = 0;
};

void Metrics::Impl::tallies(Text& text, Tally OfEndpoint::* kind) const {
  for (const auto& [endpoint, counted] : endpoints) {
    for (const Tally::Entry& entry : (counted.*kind).entries) {
      text.sample(
          entry.count,
          {{"decision", to_string(entry.outcome)}, {"endpoint", endpoint}, {"reason", to_string(entry.reason)}});
    }
  }
}

void Metrics::Impl::histograms(Text& text, Histogram OfEndpoint::* kind) const {
  for (const auto& [endpoint, counted] : endpoints) {
    if ((counted.*kind).count > 0) text.sample(counted.*kind, endpoint);
  }
}

// What there is of it only where the guard stands before the function, or executions are tracked for traces.
void Metrics::Impl::inbound_and_executions(Text& text, std::uint64_t open) const {
  if (!inbound.entries.empty()) {
    text.family("sallyport_inbound_exchanges_total", "counter", "Messages to the function by decision and reason.");
    for (const Tally::Entry& entry : inbound.entries) {
      text.sample(entry.count, {{"decision", to_string(entry.outcome)}, {"reason", to_string(entry.reason)}});
    }
  }
  if (inbound_duration.count > 0) {
    text.family("sallyport_inbound_duration_seconds", "histogram",
                "Time of messages that the function got, from their heads to the end of its answers.");
    text.sample(inbound_duration, {});
  }
  text.family("sallyport_executions_total", "counter", "Executions of the function by how they ended.");
  for (const auto& [how, count] : executions) {
    text.sample(count, {{"end", how.first}, {"reason", to_string(how.second)}});
  }
  text.family("sallyport_executions_open", "gauge", "Executions of the function that are open now.");
  text.sample(open);
}

// What there is of it only with a controller (docs/membership.md).
void Metrics::Impl::membership(Text& text, const Totals& now) const {
  if (!now.member) return;
  const Membership::Figures& member = *now.member;
  const auto one = [&](std::string_view name, std::string_view type, std::string_view help, std::uint64_t value) {
    text.family(name, type, help);
    text.sample(value);
  };
  one("sallyport_link_connected", "gauge", "Whether the controller can be asked.", member.connected ? 1 : 0);
  one("sallyport_link_reconnects_total", "counter", "Times that the connection to the controller was made again.",
      std::max<std::uint64_t>(member.link.registrations, 1) - 1);
  text.family("sallyport_update_generation", "gauge", "Generation of what the controller has given.");
  text.sample(member.generation, {{"which", "in-force"}});
  text.sample(member.offered_generation, {{"which", "offered"}});
  one("sallyport_updates_refused_total", "counter", "Updates of the controller that could not be used.",
      member.updates_refused);
  one("sallyport_spool_events", "gauge", "Events that the controller has not taken yet.", member.link.events_waiting);
  one("sallyport_spool_bytes", "gauge", "Memory of the events that the controller has not taken yet.",
      member.link.bytes_waiting);
  one("sallyport_events_acknowledged_total", "counter", "Events that the controller has stored.",
      member.link.events_acknowledged);
  text.family("sallyport_events_dropped_total", "counter", "Events for which the spool had no room.");
  text.sample(member.link.denials_lost, {{"of", "denial"}});
  text.sample(member.link.events_lost - member.link.denials_lost, {{"of", "other"}});
  text.family("sallyport_entry_asks_total", "counter",
              "Questions whether an execution may begin, by what came of them.");
  for (std::size_t i = 0; i < asks.size(); ++i) {
    text.sample(asks[i], {{"outcome", to_string(static_cast<AskEnd>(i))}});
  }
  text.family("sallyport_entry_ask_duration_seconds", "histogram",
              "Time until the answer, or until none was waited for.");
  text.sample(ask_duration, {});
  text.family("sallyport_leases_total", "counter", "Leases of rate limits that were asked for, by what came of them.");
  text.sample(now.leases_granted, {{"outcome", "granted"}});
  text.sample(now.leases_refused, {{"outcome", "refused"}});
  text.sample(now.leases_unanswered, {{"outcome", "unanswered"}});
  one("sallyport_leased_requests_total", "counter", "Requests that were granted in leases.", now.leased_requests);
  if (!member.certificate_end) return;
  one("sallyport_certificate_end_timestamp_seconds", "gauge", "Until when the controller's certificate is good.",
      static_cast<std::uint64_t>(std::max<std::int64_t>(member.certificate_end->time_since_epoch().count(), 0)));
}

Metrics::Metrics(std::string function, std::function<Totals()> totals)
    : impl_(std::make_unique<Impl>(std::move(function), std::move(totals))) {}

Metrics::~Metrics() = default;

void Metrics::count(const Record& record) {
  const std::lock_guard lock(impl_->mutex);
  if (record.asked) {
    ++impl_->asks[static_cast<std::size_t>(record.asked->end)];
    impl_->ask_duration.observe(record.asked->took);
  }
  if (record.kind == RecordKind::execution) {
    ++impl_->executions[{record.end, record.reason}];
    return;
  }
  if (record.kind == RecordKind::inbound) {
    impl_->inbound.add(record.outcome, record.reason);
    if (!record.upstream.empty()) impl_->inbound_duration.observe(record.duration);
    return;
  }
  if (record.kind == RecordKind::dns) {
    ++impl_->names_refused;
    return;
  }
  OfEndpoint& endpoint = impl_->endpoints[record.endpoint];
  impl_->bytes_up += record.bytes_up;
  impl_->bytes_down += record.bytes_down;
  if (record.kind == RecordKind::connection) {
    endpoint.connections.add(record.outcome, record.reason);
    return;
  }
  endpoint.exchanges.add(record.outcome, record.reason);
  if (record.upstream.empty()) return;
  endpoint.duration.observe(record.duration);
  if (record.first_byte) endpoint.first_byte.observe(*record.first_byte);
}

void Metrics::policy_loaded(bool accepted) {
  const std::lock_guard lock(impl_->mutex);
  ++(accepted ? impl_->loads_accepted : impl_->loads_refused);
}

std::string Metrics::text() {
  const Totals totals = impl_->totals();
  const std::lock_guard lock(impl_->mutex);
  Text text(impl_->function);
  text.family("sallyport_exchanges_total", "counter", "HTTP exchanges by decision and reason.");
  impl_->tallies(text, &OfEndpoint::exchanges);
  text.family("sallyport_connections_without_exchange_total", "counter",
              "Connections that carried no HTTP exchange, by decision and reason.");
  impl_->tallies(text, &OfEndpoint::connections);
  text.family("sallyport_names_refused_total", "counter", "Names that were not resolved.");
  text.sample(impl_->names_refused);
  text.family("sallyport_body_bytes_total", "counter", "Bytes of bodies and tunnels; up is from the function.");
  text.sample(impl_->bytes_down, {{"direction", "down"}});
  text.sample(impl_->bytes_up, {{"direction", "up"}});
  text.family("sallyport_policy_loads_total", "counter", "Policy documents loaded, by result.");
  text.sample(impl_->loads_accepted, {{"result", "accepted"}});
  text.sample(impl_->loads_refused, {{"result", "refused"}});
  text.family("sallyport_connections_total", "counter", "Connections accepted from the function.");
  text.sample(totals.connections_accepted);
  text.family("sallyport_upstream_connects_total", "counter",
              "Connections made to upstream servers; exchanges beyond these reused one.");
  text.sample(totals.upstream_connects);
  text.family("sallyport_leaf_certificates_total", "counter", "Leaf certificates minted.");
  text.sample(totals.leaves_minted);
  text.family("sallyport_connections_evicted_total", "counter",
              "Silent connections that were closed because all places were taken.");
  text.sample(totals.connections_evicted);
  text.family("sallyport_connections_open", "gauge", "Connections of the function that are open now.");
  text.sample(totals.connections_open);
  text.family("sallyport_tasks", "gauge",
              "Coroutines that the workers have started and that have not ended; a few are always there.");
  text.sample(totals.tasks);
  text.family("sallyport_exchange_duration_seconds", "histogram",
              "Time of relayed exchanges, from the request's head to the end of the response.");
  impl_->histograms(text, &OfEndpoint::duration);
  text.family("sallyport_upstream_first_byte_seconds", "histogram", "Time until the upstream's response head.");
  impl_->histograms(text, &OfEndpoint::first_byte);
  impl_->inbound_and_executions(text, totals.executions_open);
  impl_->membership(text, totals);
  return text.take();
}

}  // namespace sallyport::guard
