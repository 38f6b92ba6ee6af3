#include "proxy/net/timer_wheel.h"

#include <bit>

namespace sallyport::net::detail {

void TimerWheel::insert(Waiter& waiter) {
  if (waiter.deadline == kNoDeadline) return;
  // A deadline belongs to the tick that begins after it, so that it has surely passed when the tick has come.
  std::uint64_t tick = std::max(tick_of(waiter.deadline) + 1, current_ + 1);
  std::uint64_t distance = tick - current_;
  int level = 0;
  while (level + 1 < kLevels && distance >> (kSlotBits * (level + 1)) != 0) ++level;
  const std::uint64_t horizon = std::uint64_t{1} << (kSlotBits * kLevels);
  if (distance >= horizon) tick = current_ + horizon - 1;
  const std::uint64_t slot = (tick >> (kSlotBits * level)) & (kSlots - 1);
  levels_[static_cast<std::size_t>(level)].slots[slot].push_back(waiter);
  levels_[static_cast<std::size_t>(level)].used |= std::uint64_t{1} << slot;
}

void TimerWheel::advance(Deadline now, TimerLink& expired) {
  const std::uint64_t target = tick_of(now);
  while (const auto tick = next_tick()) {
    if (*tick > target) break;
    current_ = *tick;
    visit(*tick, expired);
  }
  current_ = std::max(current_, target);
}

std::optional<Deadline> TimerWheel::next() const {
  const auto tick = next_tick();
  if (!tick) return std::nullopt;
  return Deadline(Clock::duration(static_cast<Clock::rep>(*tick << kTickShift)));
}

// A slot of level L covers 64^L ticks and is due at the first of them. The slots in use lie within the 64 that follow
// the current one, so that rotating the bits to start there gives the nearest.
std::optional<std::uint64_t> TimerWheel::next_tick() const {
  std::optional<std::uint64_t> nearest;
  for (int level = 0; level < kLevels; ++level) {
    const std::uint64_t used = levels_[static_cast<std::size_t>(level)].used;
    if (used == 0) continue;
    const std::uint64_t first = (current_ >> (kSlotBits * level)) + 1;
    const int distance = std::countr_zero(std::rotr(used, static_cast<int>(first & (kSlots - 1))));
    const std::uint64_t tick = (first + static_cast<std::uint64_t>(distance)) << (kSlotBits * level);
    if (!nearest || tick < *nearest) nearest = tick;
  }
  return nearest;
}

void TimerWheel::visit(std::uint64_t tick, TimerLink& expired) {
  for (int level = 0; level < kLevels; ++level) {
    const std::uint64_t unit_mask = (std::uint64_t{1} << (kSlotBits * level)) - 1;
    if ((tick & unit_mask) != 0) break;
    Level& wheel = levels_[static_cast<std::size_t>(level)];
    const std::uint64_t slot = (tick >> (kSlotBits * level)) & (kSlots - 1);
    if ((wheel.used >> slot & 1) == 0) continue;
    wheel.used &= ~(std::uint64_t{1} << slot);
    TimerLink due;
    due.splice_back(wheel.slots[slot]);
    while (due.linked()) {
      Waiter& waiter = Waiter::of(due.next());
      if (tick_of(waiter.deadline) < tick) {
        expired.push_back(waiter);
      } else {
        waiter.timer().unlink();
        insert(waiter);
      }
    }
  }
}

}  // namespace sallyport::net::detail
