#pragma once
// What one run of the generator has seen, and how it is printed.

#include <chrono>
#include <cstdint>
#include <vector>

namespace sallyport::load {

using Clock = std::chrono::steady_clock;

struct Figures {
  std::vector<double> latencies_us;  // one for each answer
  std::uint64_t bytes = 0;           // of bodies
  std::size_t resumed = 0;           // connections that took up a TLS session
  double seconds = 0;
};

inline double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// One line of JSON on stdout.
void print(Figures figures);

}  // namespace sallyport::load
