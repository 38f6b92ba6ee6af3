#pragma once
// Destinations that could not be connected to again and again are left alone for a while, and whoever asks for one is
// told so at once: a function that retries, or many at one time, would else wait for the same time-out each.

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/limits.h"
#include "proxy/net/waiter.h"

namespace sallyport::net {

// Of one worker, on its thread. Only failures to connect count: what a server answers, or what is wrong with its
// certificate, costs nobody time.
class Circuits {
 public:
  // Why the destination is not tried now; nothing if it may be. Then succeeded() or failed() must follow. Of a
  // destination whose time is over only one caller is let through until it has come to an end.
  std::optional<std::string> closed_to(const std::string& destination, Deadline now);
  void succeeded(const std::string& destination);
  // The attempt came to nothing without saying anything about the destination: it was given up, or not allowed.
  void undecided(const std::string& destination);
  // After limits::kCircuitFailures in a row it is left alone for limits::kCircuitWaitMin, then for twice as long each
  // time, limits::kCircuitWaitMax at most. What is not asked for again is forgotten; past limits::kCircuitsMax nothing
  // new is remembered.
  void failed(const std::string& destination, std::string why, Deadline now);
  void clear() { states_.clear(); }
  std::size_t size() const { return states_.size(); }

 private:
  struct State {
    unsigned failures = 0;  // in a row
    Clock::duration wait{};
    Deadline until = Deadline::min();         // left alone; then it is somebody's turn to try
    Deadline trying_until = Deadline::min();  // a bound for an attempt of which nothing is heard again
    std::string why;
  };
  void forget_old(Deadline now);

  std::unordered_map<std::string, State> states_;
};

}  // namespace sallyport::net
