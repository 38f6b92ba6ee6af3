#pragma once
// The controller's time: of day at the start, and from then on by a clock that does not jump, so that nobody who sets
// the machine's time makes flows too old or limits free. Nor does it go back over a restart.

#include <algorithm>
#include <chrono>

#include "controller/store/store.h"

namespace sallyport::controller {

class Clock {
 public:
  Clock()
      : began_(std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now())),
        steady_(std::chrono::steady_clock::now()) {}
  // At the start, before other threads use it: it is not earlier than this. Were it, what has been stored would not
  // grow old until then.
  void go_on_from(Time last) { began_ = std::max(began_, last); }
  // Any thread.
  Time now() const {
    return began_ + std::chrono::floor<std::chrono::milliseconds>(std::chrono::steady_clock::now() - steady_);
  }

 private:
  Time began_;
  const std::chrono::steady_clock::time_point steady_;
};

}  // namespace sallyport::controller
