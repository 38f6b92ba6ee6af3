#pragma once
// Who waits for a predecessor: asks, for a moment, and executions that were reported, for as long as another guard's
// events may take. Each waits either for a flow through a service to its function, or for one of the sender of its tag.

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "controller/state/pool.h"
#include "controller/state/types.h"

namespace sallyport::controller {

// Whom a message's tag names.
struct Claim {
  std::uint32_t function = 0;  // kNone of the graph: none that it has
  GuardId guard{};
  RequestId request{};
};

// Who wants to begin, or has begun.
struct Entrant {
  Source from;
  ExecutionId execution{};
  std::optional<Claim> claim;
  RequestId request{};      // of an ask, in the case that it is a request from outside; of a report, its own
  std::uint64_t ask = 0;    // the caller's number for it
  bool reported = false;    // it has begun, and nobody waits for an answer
  bool may_repeat = false;  // when it came it may have been a redelivery
};

struct Waiting {
  Entrant entrant;
  Time until{};
  Link by_time, by_place;
};

class WaitingRoom {
 public:
  using Queue = List<Waiting, &Waiting::by_place>;
  // What has begun comes first: an ask gets what is left. So a replay, in which asks do not wait, finds the same.
  struct Place {
    Queue reports, asks;
    bool empty() const { return reports.empty() && asks.empty(); }
  };

  explicit WaitingRoom(std::size_t functions, std::size_t each_max) : through_(functions), each_max_(each_max) {}

  // False: there is no room.
  bool put(const Entrant& entrant, Time until);
  Entrant take(std::uint32_t at);
  const Entrant& at(std::uint32_t at) const { return pool_[at].entrant; }

  // The first whose time is over, or kNil.
  std::uint32_t due(Time now) const;
  std::optional<Time> next_due() const;
  std::size_t size() const { return pool_.used(); }

  // Who is to be served next with a flow to `function` through a service; kNil: nobody.
  std::uint32_t first_through(std::uint32_t function) const;
  // The same with one of a sender.
  std::uint32_t first_direct(std::uint32_t function, const GuardId& guard, const RequestId& request) const;
  // The first ask of a guard, or kNil.
  std::uint32_t first_ask_of(const GuardId& guard) const;

 private:
  using ByTime = List<Waiting, &Waiting::by_time>;

  const Waiting* first(const ByTime& queue) const { return queue.empty() ? nullptr : &pool_[queue.head]; }

  Pool<Waiting> pool_;
  ByTime asks_, reports_;  // each waits equally long, so that the first is the first to be due
  std::size_t asks_count_ = 0, reports_count_ = 0;
  std::vector<Place> through_;                                // by function
  std::map<std::pair<GuardId, RequestId>, Place> by_sender_;  // few at any time
  std::size_t each_max_;
};

}  // namespace sallyport::controller
