#include "controller/state/waiting_room.h"

#include <algorithm>

namespace sallyport::controller {

bool WaitingRoom::put(const Entrant& entrant, Time until) {
  // Asks are counted for themselves, so that they never cost a report its place.
  std::size_t& count = entrant.reported ? reports_count_ : asks_count_;
  if (count >= each_max_) return false;
  ++count;
  const std::uint32_t at = pool_.take();
  pool_[at].entrant = entrant;
  pool_[at].until = until;
  (entrant.reported ? reports_ : asks_).push_back(pool_, at);
  Place& place =
      entrant.claim ? by_sender_[{entrant.claim->guard, entrant.claim->request}] : through_[entrant.from.function];
  (entrant.reported ? place.reports : place.asks).push_back(pool_, at);
  return true;
}

Entrant WaitingRoom::take(std::uint32_t at) {
  const Entrant entrant = pool_[at].entrant;
  --(entrant.reported ? reports_count_ : asks_count_);
  (entrant.reported ? reports_ : asks_).remove(pool_, at);
  if (!entrant.claim) {
    Place& place = through_[entrant.from.function];
    (entrant.reported ? place.reports : place.asks).remove(pool_, at);
  } else if (const auto found = by_sender_.find({entrant.claim->guard, entrant.claim->request});
             found != by_sender_.end()) {
    (entrant.reported ? found->second.reports : found->second.asks).remove(pool_, at);
    if (found->second.empty()) by_sender_.erase(found);
  }
  pool_.give_back(at);
  return entrant;
}

std::uint32_t WaitingRoom::due(Time now) const {
  if (const Waiting* const ask = first(asks_); ask != nullptr && ask->until <= now) return asks_.head;
  if (const Waiting* const report = first(reports_); report != nullptr && report->until <= now) return reports_.head;
  return kNil;
}

std::optional<Time> WaitingRoom::next_due() const {
  std::optional<Time> out;
  for (const Waiting* const waiting : {first(asks_), first(reports_)}) {
    if (waiting != nullptr) out = out ? std::min(*out, waiting->until) : waiting->until;
  }
  return out;
}

std::uint32_t WaitingRoom::first_through(std::uint32_t function) const {
  const Place& place = through_[function];
  return place.reports.empty() ? place.asks.head : place.reports.head;
}

std::uint32_t WaitingRoom::first_direct(std::uint32_t function, const GuardId& guard, const RequestId& request) const {
  const auto found = by_sender_.find({guard, request});
  if (found == by_sender_.end()) return kNil;
  for (const Queue& queue : {found->second.reports, found->second.asks}) {
    for (std::uint32_t at = queue.head; at != kNil; at = pool_[at].by_place.next) {
      if (pool_[at].entrant.from.function == function) return at;
    }
  }
  return kNil;
}

std::uint32_t WaitingRoom::first_ask_of(const GuardId& guard) const {
  for (std::uint32_t at = asks_.head; at != kNil; at = pool_[at].by_time.next) {
    if (pool_[at].entrant.from.guard == guard) return at;
  }
  return kNil;
}

}  // namespace sallyport::controller
