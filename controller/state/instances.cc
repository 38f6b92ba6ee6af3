#include "controller/state/instances.h"

#include <algorithm>

#include "base/limits.h"

namespace sallyport::controller {

namespace {

constexpr std::size_t kNameBytesMax = 253;
constexpr auto kSilenceMax = limits::kBeatInterval * limits::kBeatsMissedMax;

}  // namespace

Instances::Instances(std::shared_ptr<const flow::ApplicationGraph> graph)
    : graph_(std::move(graph)), running_(graph_->function_count()) {}

bool Instances::has_place(std::uint32_t function) const {
  const std::uint32_t most = graph_->instances_max(function);
  return most == 0 || running_[function] < most;
}

// Where as many are known as may be, those that run no more are forgotten first, and cannot come back under their id.
bool Instances::make_room() {
  if (instances_.size() < limits::kInstancesTrackedMax) return true;
  const auto gone = std::ranges::find_if(instances_, [](const auto& entry) { return !entry.second.running; });
  if (gone == instances_.end()) return false;
  by_guard_.erase(gone->second.guard);
  instances_.erase(gone);
  return true;
}

Instances::Registration Instances::enter(std::uint32_t function, std::string_view instance,
                                         const std::optional<GuardId>& claimed, const GuardId& random, Time now,
                                         Outcome& out) {
  if (function >= graph_->function_count() || instance.empty() || instance.size() > kNameBytesMax) {
    return {{}, false, "the application has no such function, or the instance no good name"};
  }
  const Name name(function, instance);
  const auto found = instances_.find(name);
  const bool runs = found != instances_.end() && found->second.running;
  if (!runs && !has_place(function)) {
    const std::string text =
        std::to_string(running_[function]) + " instances of " + graph_->name_of(function) + " run, and no more may";
    out.alarms.push_back({AlarmKind::too_many_instances, graph_->name_of(function), {}, {}, {}, text});
    return {{}, false, text};
  }
  if (found == instances_.end() && !make_room()) return {{}, false, "the controller knows too many instances"};

  Instance& entry = instances_[name];
  const bool same = found != instances_.end() && claimed && *claimed == entry.guard;
  if (!same) {
    if (entry.connected && entry.heard + kSilenceMax > now) {
      out.alarms.push_back({AlarmKind::doubled_instance,
                            graph_->name_of(function),
                            entry.guard,
                            {},
                            {},
                            "another process says that it is instance " + std::string(instance)});
    }
    by_guard_.erase(entry.guard);
    entry.guard = random;
    by_guard_[random] = name;
  }
  if (!std::exchange(entry.running, true)) ++running_[function];
  entry.connected = true;
  entry.heard = now;
  return {entry.guard, !same, {}};
}

void Instances::restore(std::uint32_t function, std::string_view instance, const GuardId& guard, Time now) {
  if (function >= graph_->function_count() || !make_room()) return;
  const Name name(function, instance);
  Instance& entry = instances_[name];
  by_guard_.erase(entry.guard);
  entry.guard = guard;
  entry.heard = now;
  if (!std::exchange(entry.running, true)) ++running_[function];
  by_guard_[guard] = name;
}

void Instances::beat(const GuardId& guard, Time now) {
  const auto found = by_guard_.find(guard);
  if (found != by_guard_.end()) instances_[found->second].heard = std::max(instances_[found->second].heard, now);
}

void Instances::leave(const GuardId& guard, bool goodbye) {
  const auto found = by_guard_.find(guard);
  if (found == by_guard_.end()) return;
  Instance& instance = instances_[found->second];
  instance.connected = false;
  if (goodbye) free_place(found->second, instance);
}

void Instances::free_place(const Name& name, Instance& instance) {
  if (std::exchange(instance.running, false)) --running_[name.first];
}

void Instances::advance(Time now, Outcome& out) {
  for (auto at = instances_.begin(); at != instances_.end();) {
    auto& [name, instance] = *at;
    if (instance.running && instance.heard + kSilenceMax <= now) {
      free_place(name, instance);
      instance.connected = false;
      out.alarms.push_back({AlarmKind::lost_instance,
                            graph_->name_of(name.first),
                            instance.guard,
                            {},
                            {},
                            "instance " + name.second + " is silent"});
    }
    if (instance.running || instance.heard + limits::kInstanceMemory > now) {
      ++at;
      continue;
    }
    by_guard_.erase(instance.guard);
    at = instances_.erase(at);
  }
}

std::optional<std::uint32_t> Instances::function_of(const GuardId& guard) const {
  const auto found = by_guard_.find(guard);
  return found == by_guard_.end() ? std::nullopt : std::optional(found->second.first);
}

}  // namespace sallyport::controller
