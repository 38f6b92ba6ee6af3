#include "policy-engine/flow/learning/acceptance.h"

#include <span>
#include <string>
#include <unordered_set>
#include <vector>

namespace sallyport::flow::learning {

namespace {

class Replay {
 public:
  Replay(const std::shared_ptr<const Graph>& graph, const Executions& executions, const Grouping& grouping,
         std::span<const Sighting> sightings)
      : execution_(graph), executions_(executions), grouping_(grouping), sightings_(sightings) {}

  // Each request at its time, with its retries and redirects right behind it; the answer before the first request that
  // waited for it.
  Result<void> run(std::span<const Exchange> exchanges) {
    std::vector<Ticket> tickets(exchanges.size());
    std::vector<std::vector<std::size_t>> ending(exchanges.size() + 1);
    for (std::size_t i = 0; i < exchanges.size(); ++i) ending[exchanges[i].reach].push_back(i);
    for (std::size_t i = 0; i < exchanges.size(); ++i) {
      for (const std::size_t done : ending[i]) end(exchanges[done], tickets[done]);
      if (auto sent = send(exchanges[i], tickets[i]); !sent) return sent;
    }
    for (const std::size_t done : ending.back()) end(exchanges[done], tickets[done]);
    if (execution_.complete()) return {};
    return fail(ErrorSource::internal, ErrorKind::invalid, "its end; expected was " + execution_.expected());
  }

 private:
  void end(const Exchange& exchange, const Ticket& ticket) {
    execution_.answered(ticket, exchange.failed ? Answer::retryable : Answer::fine);
  }

  Result<void> request(OperationId id, Ticket& ticket) {
    const Symbol symbol = grouping_.symbol_of[id];
    if (execution_.request(sightings_[symbol], ticket)) return {};
    const Operation& operation = executions_.operations()[grouping_.example[symbol]];
    return fail(ErrorSource::internal, ErrorKind::invalid,
                to_string(operation) + "; expected was " + execution_.expected());
  }

  Result<void> send(const Exchange& exchange, Ticket& ticket) {
    if (auto sent = request(exchange.operation, ticket); !sent) return sent;
    for (std::uint16_t i = 0; i < exchange.retries; ++i) {
      execution_.answered(ticket, Answer::retryable);
      if (auto sent = request(exchange.operation, ticket); !sent) return sent;
    }
    for (const OperationId redirect : executions_.chain(exchange.redirects)) {
      execution_.answered(ticket, Answer::redirecting);
      if (auto sent = request(redirect, ticket); !sent) return sent;
    }
    return {};
  }

  Execution execution_;
  const Executions& executions_;
  const Grouping& grouping_;
  const std::span<const Sighting> sightings_;  // by symbol of the grouping
};

// What decides of an execution, as bytes.
std::string key_of(std::span<const Exchange> exchanges, const Executions& executions, const Grouping& grouping) {
  std::string out;
  const auto add = [&](std::uint64_t value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (const Exchange& exchange : exchanges) {
    add(std::uint64_t{grouping.symbol_of[exchange.operation]} << 32 | exchange.reach);
    add(std::uint64_t{exchange.retries} << 1 | (exchange.failed ? 1 : 0));
    for (const OperationId redirect : executions.chain(exchange.redirects)) add(grouping.symbol_of[redirect]);
  }
  return out;
}

}  // namespace

Result<void> check_accepted(const std::shared_ptr<const Graph>& graph, const Executions& executions,
                            const Grouping& grouping) {
  std::vector<Sighting> sightings;
  for (const OperationId example : grouping.example)
    sightings.push_back(graph->sight(executions.operations()[example]));
  std::unordered_set<std::string> seen;
  for (ExecutionId id = 0; id < executions.size(); ++id) {
    if (!seen.insert(key_of(executions[id], executions, grouping)).second) continue;
    if (auto run = Replay(graph, executions, grouping, sightings).run(executions[id]); !run) {
      return fail(ErrorSource::internal, ErrorKind::invalid,
                  "the graph that was learned would refuse execution " + std::to_string(id + 1) +
                      " of those that it was learned from, at " + run.error().text);
    }
  }
  return {};
}

}  // namespace sallyport::flow::learning
