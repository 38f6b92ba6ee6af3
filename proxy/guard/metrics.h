#pragma once
// The guard's metrics, in Prometheus' terms. Labels are bounded: function, endpoint (from the policy), decision,
// reason. Never a path, never a host.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "proxy/guard/record.h"

namespace sallyport::guard {

// How the guard stands with its controller.
struct LinkTotals {
  bool connected = false;
  std::uint64_t generation = 0;  // of the policy in force; 0: there is none
  std::uint64_t events_taken = 0, events_waiting = 0, events_lost = 0;
};

// What the workers count by themselves, and what the link does, read at each scrape.
struct Totals {
  std::uint64_t connections_accepted = 0;
  std::uint64_t connections_open = 0;
  std::uint64_t connections_evicted = 0;
  std::uint64_t tasks = 0;
  std::uint64_t upstream_connects = 0;
  std::uint64_t leaves_minted = 0;
  std::uint64_t executions_open = 0;
  std::optional<LinkTotals> link = {};  // of a guard that has a controller
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
