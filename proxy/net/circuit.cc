#include "proxy/net/circuit.h"

#include <algorithm>
#include <utility>

namespace sallyport::net {

std::optional<std::string> Circuits::closed_to(const std::string& destination, Deadline now) {
  const auto found = states_.find(destination);
  if (found == states_.end()) return std::nullopt;
  State& state = found->second;
  if (state.failures < limits::kCircuitFailures) return std::nullopt;
  if (now >= state.until && now >= state.trying_until) {
    state.trying_until = now + limits::kResolveTimeout + 3 * limits::kConnectTimeout;
    return std::nullopt;
  }
  return "not tried, as it failed " + std::to_string(state.failures) + " times in a row, lastly: " + state.why;
}

void Circuits::succeeded(const std::string& destination) { states_.erase(destination); }

void Circuits::undecided(const std::string& destination) {
  if (const auto found = states_.find(destination); found != states_.end())
    found->second.trying_until = Deadline::min();
}

void Circuits::failed(const std::string& destination, std::string why, Deadline now) {
  if (states_.size() >= limits::kCircuitsMax && !states_.contains(destination)) {
    forget_old(now);
    if (states_.size() >= limits::kCircuitsMax) return;
  }
  State& state = states_[destination];
  state.trying_until = Deadline::min();
  state.why = std::move(why);
  ++state.failures;
  if (state.failures < limits::kCircuitFailures) {
    state.until = now + limits::kCircuitWaitMax;  // until then a next failure is one in a row
    return;
  }
  // Those that were under way together are one failure for the wait.
  if (state.failures > limits::kCircuitFailures && now < state.until) return;
  const Clock::duration longer = state.failures == limits::kCircuitFailures ? limits::kCircuitWaitMin : state.wait * 2;
  state.wait = std::min<Clock::duration>(longer, limits::kCircuitWaitMax);
  state.until = now + state.wait;
}

void Circuits::forget_old(Deadline now) {
  std::erase_if(states_,
                [&](const auto& entry) { return entry.second.until < now && entry.second.trying_until < now; });
}

}  // namespace sallyport::net
