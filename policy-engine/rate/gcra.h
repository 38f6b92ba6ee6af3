#pragma once
// A limit on how often something may happen: the Generic Cell Rate Algorithm (ITU-T I.371), which is a bucket of
// `burst` that gets `rate` new ones a second, kept as one point in time. Time comes in as an argument.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace sallyport::rate {

struct Rate {
  std::chrono::nanoseconds interval{};  // between two, when they come evenly
  std::uint32_t burst = 1;              // that may come at once
  bool operator==(const Rate&) const = default;
};

// Any thread; no lock.
class Gcra {
 public:
  explicit Gcra(const Rate& rate) : rate_(rate) {}
  const Rate& rate() const { return rate_; }

  // Takes one at `now`, and returns 0; or takes none, and returns how long it is until there is one. `now` is of any
  // clock that does not go back.
  std::chrono::nanoseconds take(std::chrono::nanoseconds now) {
    const std::int64_t interval = rate_.interval.count(), ahead_max = interval * (std::int64_t{rate_.burst} - 1);
    std::int64_t due = due_.load(std::memory_order_relaxed);
    while (true) {
      const std::int64_t from = std::max(due, now.count());
      if (from - now.count() > ahead_max) return std::chrono::nanoseconds(from - now.count() - ahead_max);
      if (due_.compare_exchange_weak(due, from + interval, std::memory_order_relaxed)) return {};
    }
  }

  // Puts back what was taken and not used.
  void put_back() { due_.fetch_sub(rate_.interval.count(), std::memory_order_relaxed); }

 private:
  const Rate rate_;
  std::atomic<std::int64_t> due_ = INT64_MIN / 2;  // when the bucket will be full again; in the past: it is
};

}  // namespace sallyport::rate
