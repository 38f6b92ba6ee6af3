#pragma once
// The guard's metrics, in Prometheus' terms. Labels are bounded: function, endpoint (from the policy), decision,
// reason. Never a path, never a host.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "proxy/guard/membership.h"
#include "proxy/guard/record.h"

namespace sallyport::guard {

// What the workers and the membership count by themselves, read at each scrape.
struct Totals {
  std::uint64_t connections_accepted = 0;
  std::uint64_t connections_open = 0;
  std::uint64_t connections_evicted = 0;
  std::uint64_t tasks = 0;
  std::uint64_t upstream_connects = 0;
  std::uint64_t leaves_minted = 0;
  std::uint64_t executions_open = 0;
  std::uint64_t leases_granted = 0, leases_refused = 0, leases_unanswered = 0;
  std::uint64_t leased_requests = 0;
  std::optional<Membership::Figures> member = std::nullopt;  // nothing: there is no controller
};

// All calls from any thread.
class Metrics {
 public:
  Metrics(std::string function, std::function<Totals()> totals);
  ~Metrics();

  void count(const Record& record);
  void policy_loaded(bool accepted);
  // The Prometheus text format, version 0.0.4.
  std::string text();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::guard
