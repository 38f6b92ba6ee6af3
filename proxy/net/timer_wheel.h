#pragma once
// The deadlines of one loop: a hierarchical timing wheel, so that arming and dropping a deadline cost a few
// instructions however many there are. Ticks are 2^24 ns (16.8 ms); a deadline is never early and at most one tick
// late. Internal to the loop.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "proxy/net/waiter.h"

namespace sallyport::net::detail {

class TimerWheel {
 public:
  explicit TimerWheel(Deadline now) : current_(tick_of(now)) {}

  // Links the waiter under its deadline. It may unlink itself at any time. kNoDeadline is not linked.
  void insert(Waiter& waiter);

  // Moves every waiter whose deadline has passed to `expired`.
  void advance(Deadline now, TimerLink& expired);

  // When advance() has something to do next, if ever. May be earlier than any deadline: far deadlines are sorted into
  // finer slots as they come near, and slots of dropped deadlines are visited once.
  std::optional<Deadline> next() const;

 private:
  static constexpr int kTickShift = 24;
  static constexpr int kSlotBits = 6;
  static constexpr std::uint64_t kSlots = 1U << kSlotBits;
  static constexpr int kLevels = 4;  // 64^4 ticks: three days; what is later is looked at again then

  struct Level {
    std::uint64_t used = 0;  // one bit per slot
    std::array<TimerLink, kSlots> slots;
  };

  static std::uint64_t tick_of(Deadline time) {
    return static_cast<std::uint64_t>(time.time_since_epoch().count()) >> kTickShift;
  }
  std::optional<std::uint64_t> next_tick() const;
  void visit(std::uint64_t tick, TimerLink& expired);

  std::uint64_t current_;
  std::array<Level, kLevels> levels_;
};

}  // namespace sallyport::net::detail
