#pragma once
// For tests: runs one coroutine on a loop until it ends, and gives its result.

#include <optional>

#include "proxy/net/loop.h"

namespace sallyport::net {

template <class T>
Task<> keep_result(Loop& loop, Task<T> task, std::optional<T>& result) {
  result.emplace(co_await std::move(task));
  loop.stop();
}

template <class T>
T run_task(Loop& loop, Task<T> task) {
  std::optional<T> result;
  loop.spawn(keep_result(loop, std::move(task), result));
  loop.run();  // returns at once if the task has ended already
  return std::move(*result);
}

inline Task<> stop_later(Loop& loop, Clock::duration after) {
  co_await loop.sleep_until(loop.in(after));
  loop.stop();
}

inline void run_for(Loop& loop, Clock::duration duration) {
  loop.spawn(stop_later(loop, duration));
  loop.run();
}

}  // namespace sallyport::net
