#pragma once
// What a connection's window is wider than the one that each begins with, out of what all connections of a thread may
// have together: a peer may send all of it at any time, so that it is memory that has been promised.

#include <cstdint>
#include <utility>

#include "base/limits.h"

namespace sallyport::http2 {

class WindowShare {
 public:
  WindowShare() = default;
  WindowShare(const WindowShare&) = delete;
  WindowShare& operator=(const WindowShare&) = delete;
  ~WindowShare() { promised() -= held_; }

  // Once, and for good: what a peer was promised can't be taken back. False if too much is promised already.
  bool take(std::int64_t bytes) {
    if (promised() + bytes > limits::kH2WindowsPerWorkerMax) return false;
    promised() += bytes;
    held_ = bytes;
    return true;
  }
  bool held() const { return held_ > 0; }

 private:
  static std::int64_t& promised() {
    thread_local std::int64_t bytes = 0;
    return bytes;
  }
  std::int64_t held_ = 0;
};

}  // namespace sallyport::http2
