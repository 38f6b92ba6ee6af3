#include "controller/registry/guard_table.h"

#include <algorithm>
#include <cstring>

#include "base/random.h"

namespace sallyport::controller {

// An id is random.
std::size_t GuardTable::Hash::operator()(const GuardId& id) const {
  std::size_t out = 0;
  std::memcpy(&out, id.data(), sizeof out);
  return out;
}

void GuardTable::load(std::vector<GuardRow> rows, Time now) {
  for (GuardRow& row : rows) {
    by_function_[{row.application, row.function}].guards.push_back(row.id);
    const GuardId id = row.id;
    guards_[id] = {.row = std::move(row), .seen = now, .running = false};
  }
}

// The guard that has come back: by the id that it shows, if that is its own.
Guard* GuardTable::known(const Arrival& arrival) {
  if (!arrival.shown) return nullptr;
  Guard* const guard = find(*arrival.shown);
  if (guard == nullptr) return nullptr;
  const GuardRow& row = guard->row;
  const bool same = row.application == arrival.application && row.function == arrival.function &&
                    row.instance == arrival.instance && row.subject == arrival.subject;
  return same ? guard : nullptr;
}

Result<void> GuardTable::take_place(Guard& guard, std::size_t instances_max) {
  Function& function = by_function_[{guard.row.application, guard.row.function}];
  if (function.running >= instances_max) {
    return fail(ErrorSource::controller, ErrorKind::limit,
                std::to_string(function.running) + " instances of " + guard.row.function + " are running, and " +
                    std::to_string(instances_max) + " may");
  }
  ++function.running;
  guard.running = true;
  return {};
}

void GuardTable::leave_place(Guard& guard) {
  if (!guard.running) return;
  guard.running = false;
  --by_function_[{guard.row.application, guard.row.function}].running;
}

Result<GuardTable::Admitted> GuardTable::admit(const Arrival& arrival, LinkId link, Time now,
                                               std::size_t instances_max) {
  if (Guard* const guard = known(arrival)) {
    if (!guard->running) {
      if (auto placed = take_place(*guard, instances_max); !placed) return std::unexpected(placed.error());
    }
    const LinkId replaced = guard->link;
    by_link_.erase(replaced);
    by_link_[link] = guard->row.id;
    guard->link = link;
    guard->seen = now;
    return Admitted{guard, false, replaced};
  }
  Guard fresh;
  if (!random_bytes(fresh.row.id)) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "the machine has no randomness");
  }
  fresh.row.application = arrival.application;
  fresh.row.function = arrival.function;
  fresh.row.instance = arrival.instance;
  fresh.row.subject = arrival.subject;
  fresh.row.registered = fresh.seen = now;
  fresh.link = link;
  if (auto placed = take_place(fresh, instances_max); !placed) return std::unexpected(placed.error());
  const GuardId id = fresh.row.id;
  by_link_[link] = id;
  by_function_[{arrival.application, arrival.function}].guards.push_back(id);
  return Admitted{&(guards_[id] = std::move(fresh)), true, {}};
}

Guard* GuardTable::find(const GuardId& id) {
  const auto found = guards_.find(id);
  return found == guards_.end() ? nullptr : &found->second;
}

Guard* GuardTable::find(LinkId link) {
  const auto found = by_link_.find(link);
  return found == by_link_.end() ? nullptr : find(found->second);
}

void GuardTable::disconnect(LinkId link, bool goodbye) {
  if (Guard* const guard = find(link)) {
    guard->link = {};
    if (goodbye) leave_place(*guard);
  }
  by_link_.erase(link);
}

std::vector<Guard> GuardTable::lose(Time before) {
  std::vector<Guard> out;
  for (auto& [id, guard] : guards_) {
    if (!guard.running || guard.seen >= before) continue;
    leave_place(guard);
    by_link_.erase(guard.link);
    guard.link = {};
    out.push_back(guard);
  }
  return out;
}

std::vector<GuardId> GuardTable::forget(Time before, std::size_t most) {
  std::vector<GuardId> out;
  for (const auto& [key, function] : by_function_) {
    std::vector<std::pair<Time, GuardId>> gone;
    for (const GuardId& id : function.guards) {
      const Guard& guard = guards_.at(id);
      if (!guard.running) gone.emplace_back(guard.seen, id);
    }
    const std::size_t known = function.guards.size(), excess = known - std::min(known, most);
    if (excess > 0) std::ranges::sort(gone);
    for (std::size_t i = 0; i < gone.size(); ++i) {
      if (i < excess || gone[i].first < before) out.push_back(gone[i].second);
    }
  }
  for (const GuardId& id : out) remove(id);
  return out;
}

void GuardTable::remove(const GuardId& id) {
  const auto found = guards_.find(id);
  if (found == guards_.end()) return;
  const Guard& guard = found->second;
  const auto function = by_function_.find(FunctionKey(guard.row.application, guard.row.function));
  std::erase(function->second.guards, id);
  if (function->second.guards.empty()) by_function_.erase(function);
  by_link_.erase(guard.link);
  guards_.erase(found);
}

bool GuardTable::connected(std::string_view application) const {
  return std::ranges::any_of(guards_, [&](const auto& each) {
    return each.second.row.application == application && each.second.link != LinkId{};
  });
}

std::vector<GuardId> GuardTable::forget_application(std::string_view application) {
  std::vector<GuardId> out;
  for (const auto& [id, guard] : guards_) {
    if (guard.row.application == application) out.push_back(id);
  }
  for (const GuardId& id : out) remove(id);
  return out;
}

std::size_t GuardTable::running(std::string_view application, std::string_view function) const {
  const auto found = by_function_.find(FunctionKey(application, function));
  return found == by_function_.end() ? 0 : found->second.running;
}

std::vector<const Guard*> GuardTable::all() const {
  std::vector<const Guard*> out;
  for (const auto& [id, guard] : guards_) out.push_back(&guard);
  std::ranges::sort(out, {}, [](const Guard* guard) {
    return std::tie(guard->row.application, guard->row.function, guard->row.instance, guard->row.id);
  });
  return out;
}

}  // namespace sallyport::controller
