#pragma once
// What the controller spends on certificates for the guards of one function, in time of the CPU. One guard asks seldom,
// and its bucket sees to that; but a guard that is none may come as a new one each time, with the credential of its
// function. A scale-out, a policy for other hosts or another CA, for all guards of a function at once, is within the
// burst. Any thread.

#include <time.h>

#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "base/limits.h"
#include "controller/state/token_bucket.h"

namespace sallyport::controller {

class SigningBudget {
 public:
  struct Rates {
    double per_second = limits::kFunctionSigningPerSecond, burst = limits::kFunctionSigningBurst;
  };
  // Of this thread.
  using Cpu = std::chrono::duration<double>;
  static Cpu spent_so_far() {
    timespec spent{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return std::chrono::seconds(spent.tv_sec) + std::chrono::nanoseconds(spent.tv_nsec);
  }

  explicit SigningBudget(Rates rates) : rates_(rates) {}

  // Whether another may be made for the function, which is one that the application has.
  bool has_some(const std::string& function, Time now) {
    const std::lock_guard lock(mutex_);
    return bucket(function, now).available(now) > 0;
  }
  // Threads that have asked at the same time may spend more than there was; it is owed.
  void charge(const std::string& function, Cpu spent, Time now) {
    const std::lock_guard lock(mutex_);
    bucket(function, now).charge(spent.count(), rates_.burst, now);
  }

 private:
  TokenBucket& bucket(const std::string& function, Time now) {
    return buckets_.try_emplace(function, rates_.per_second, rates_.burst, now).first->second;
  }

  const Rates rates_;
  std::mutex mutex_;
  std::map<std::string, TokenBucket> buckets_;
};

}  // namespace sallyport::controller
