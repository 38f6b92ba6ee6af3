// Lets the guard's time pass faster, so that tests of time-outs need not wait them out: preloaded into it, with the
// factor in FAST_CLOCK. It is the monotonic clock that is changed, and the loop's wait with it.

#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <ctime>
#include <string_view>

namespace {

using EpollWait = int (*)(int, epoll_event*, int, int);

constexpr long long kSecond = 1'000'000'000;

long long nanoseconds(const timespec& time) { return time.tv_sec * kSecond + time.tv_nsec; }

struct Pace {
  int factor = 1;
  long long start = 0;
};

// The command that is guarded has this library too, and its own time stays as it is.
Pace read_pace() {
  Pace pace;
  timespec now{};
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  pace.start = nanoseconds(now);
  const char* text = ::getenv("FAST_CLOCK");
  if (text == nullptr || !std::string_view(program_invocation_short_name).starts_with("sallyport")) return pace;
  const std::string_view digits(text);
  std::from_chars(digits.data(), digits.data() + digits.size(), pace.factor);
  return pace;
}

const Pace& pace() {
  static const Pace made = read_pace();
  return made;
}

[[gnu::constructor]] void begin() { pace(); }

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const int result = static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
  if (result != 0 || clock != CLOCK_MONOTONIC) return result;
  const long long passed = pace().start + (nanoseconds(*time) - pace().start) * pace().factor;
  *time = {.tv_sec = passed / kSecond, .tv_nsec = passed % kSecond};
  return result;
}

int epoll_wait(int descriptor, epoll_event* events, int events_max, int timeout_ms) {
  static const auto next = reinterpret_cast<EpollWait>(::dlsym(RTLD_NEXT, "epoll_wait"));
  if (timeout_ms > 0) timeout_ms = std::max(timeout_ms / pace().factor, 1);
  return next(descriptor, events, events_max, timeout_ms);
}

}  // extern "C"
