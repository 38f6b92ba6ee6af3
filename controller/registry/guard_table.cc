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
    by_function_[{row.application, row.function}].push_back(row.id);
    const GuardId id = row.id;
    guards_[id] = {std::move(row), 0, now, 0, {}, 0};
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

Result<GuardTable::Admitted> GuardTable::admit(const Arrival& arrival, LinkId link, Time now,
                                               std::size_t instances_max) {
  if (Guard* const guard = known(arrival)) {
    const LinkId replaced = guard->link;
    by_link_.erase(replaced);
    by_link_[link] = guard->row.id;
    guard->link = link;
    guard->seen = now;
    return Admitted{guard, false, replaced};
  }
  if (const std::size_t running_now = running(arrival.application, arrival.function); running_now >= instances_max) {
    return fail(ErrorSource::controller, ErrorKind::limit,
                std::to_string(running_now) + " instances of " + arrival.function + " are running, and " +
                    std::to_string(instances_max) + " may");
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
  const GuardId id = fresh.row.id;
  by_link_[link] = id;
  by_function_[{arrival.application, arrival.function}].push_back(id);
  return Admitted{&(guards_[id] = std::move(fresh)), true, 0};
}

Guard* GuardTable::find(const GuardId& id) {
  const auto found = guards_.find(id);
  return found == guards_.end() ? nullptr : &found->second;
}

Guard* GuardTable::find(LinkId link) {
  const auto found = by_link_.find(link);
  return found == by_link_.end() ? nullptr : find(found->second);
}

void GuardTable::disconnect(LinkId link) {
  if (Guard* const guard = find(link)) guard->link = 0;
  by_link_.erase(link);
}

std::vector<Guard> GuardTable::lose(Time before) {
  std::vector<Guard> out;
  for (const auto& [id, guard] : guards_) {
    if (guard.seen < before) out.push_back(guard);
  }
  for (const Guard& guard : out) remove(guard.row.id);
  return out;
}

void GuardTable::remove(const GuardId& id) {
  const auto found = guards_.find(id);
  if (found == guards_.end()) return;
  const Guard& guard = found->second;
  const auto of_function = by_function_.find(FunctionKey(guard.row.application, guard.row.function));
  std::erase(of_function->second, id);
  if (of_function->second.empty()) by_function_.erase(of_function);
  by_link_.erase(guard.link);
  guards_.erase(found);
}

std::size_t GuardTable::running(std::string_view application, std::string_view function) const {
  const auto found = by_function_.find(FunctionKey(application, function));
  return found == by_function_.end() ? 0 : found->second.size();
}

std::vector<const Guard*> GuardTable::all() const {
  std::vector<const Guard*> out;
  for (const auto& [id, guard] : guards_) out.push_back(&guard);
  std::ranges::sort(out, {}, [](const Guard* guard) {
    return std::tie(guard->row.application, guard->row.function, guard->row.instance, guard->row.id);
  });
  return out;
}

std::vector<LinkId> GuardTable::links_of(std::string_view application, std::string_view function) const {
  std::vector<LinkId> out;
  const auto found = by_function_.find(FunctionKey(application, function));
  if (found == by_function_.end()) return out;
  for (const GuardId& id : found->second) {
    if (const LinkId link = guards_.at(id).link; link != 0) out.push_back(link);
  }
  return out;
}

}  // namespace sallyport::controller
