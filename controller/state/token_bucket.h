#pragma once
// How often something may happen: a bucket that holds `burst` tokens and gets `per_second` new ones each second. Time
// is told; one that goes back stands still.
//
// A guard's own limit is policy-engine/rate/gcra.h, which takes one at a time, from any thread, at a rate that stays.
// This one is for what the controller leases: many are taken at once, there may be debts, and another rate leaves it
// what it holds.

#include <algorithm>
#include <chrono>
#include <cmath>

#include "controller/state/types.h"

namespace sallyport::controller {

class TokenBucket {
 public:
  // Full. Both must be finite and not below 0.
  TokenBucket(double per_second, double burst, Time now)
      : per_second_(per_second), burst_(burst), tokens_(burst), at_(now) {}

  // Below 0 where more has happened than may.
  double available(Time now) {
    if (now > at_) {
      const double seconds = std::chrono::duration<double>(now - at_).count();
      tokens_ = std::min(burst_, tokens_ + seconds * per_second_);
      at_ = now;
    }
    return tokens_;
  }

  // False, and nothing is taken: there are not so many.
  bool take(double count, Time now) {
    if (available(now) < count) return false;
    tokens_ -= count;
    return true;
  }

  // What has happened already. The debt is `debt_max` at most, so that it is over some time.
  void charge(double count, double debt_max, Time now) { tokens_ = std::max(available(now) - count, -debt_max); }

  // Until so many are there: rounded up; kNever where there will never be.
  std::chrono::milliseconds until(double count, Time now) {
    const double lacking = count - available(now);
    if (lacking <= 0) return std::chrono::milliseconds(0);
    if (count > burst_ || per_second_ <= 0) return kNever;
    const double wait = std::ceil(lacking / per_second_ * 1'000);
    return wait < static_cast<double>(kNever.count())
               ? std::chrono::milliseconds(static_cast<std::chrono::milliseconds::rep>(wait))
               : kNever;
  }
  static constexpr std::chrono::milliseconds kNever = std::chrono::hours(24 * 365);

  // Another rate from now on, with the tokens that it has.
  void change(double per_second, double burst, Time now) {
    tokens_ = std::min(available(now), burst);
    per_second_ = per_second;
    burst_ = burst;
  }
  bool full(Time now) { return available(now) >= burst_; }
  double burst() const { return burst_; }
  double per_second() const { return per_second_; }

 private:
  double per_second_, burst_, tokens_;
  Time at_;
};

}  // namespace sallyport::controller
