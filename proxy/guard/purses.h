#pragma once
// Pays for requests by the controller's limits: from buckets of this instance, and from leases where a limit is shared
// with others. One worker's; it asks for the next lease while it still has some of the last.

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/reason.h"
#include "proxy/guard/terms.h"
#include "proxy/link/controller_link.h"
#include "proxy/net/loop.h"

namespace sallyport::guard {

// Why a request may not be sent now.
struct Unpaid {
  Reason reason = Reason::rate_limited;  // or controller_lost
  std::string text;
  std::chrono::milliseconds retry_after{0};
};
struct Payment {
  std::optional<Unpaid> refused;
  std::string note;  // it may be sent without having been paid for, as the controller is lost: that is recorded
};

class Purses {
 public:
  // Read by any thread.
  struct Counters {
    std::atomic<std::uint64_t> granted{0}, refused{0}, unanswered{0};  // leases that were asked for
    std::atomic<std::uint64_t> requests{0};                            // that were granted in them
  };

  Purses(net::Loop& loop, link::ControllerLink& link) : loop_(loop), link_(link) {}
  Purses(const Purses&) = delete;
  Purses& operator=(const Purses&) = delete;

  // One of each limit that the request counts for, or of none. Waits for a lease for limits::kLeaseWaitMax at most.
  // `operation` outlives the call; null where the request has none.
  net::Task<Payment> pay(std::shared_ptr<const Terms> terms, const document::Endpoint* endpoint,
                         const flow::Operation* operation);
  const Counters& counters() const { return counters_; }

 private:
  struct Lease {
    std::uint32_t left = 0;
    net::Deadline until;
  };
  // Of one limit.
  struct Purse {
    explicit Purse(net::Loop& loop) : answered(loop) {}
    std::deque<Lease> leases;  // the oldest first
    std::uint32_t wanted = 1;  // next time
    net::Deadline retry_at = net::Deadline::min();
    std::optional<std::string> failure;  // of the last ask
    bool asking = false;
    std::size_t waiting = 0;
    std::uint64_t halts = 0;  // that it knows of
    net::Event answered;
  };
  class Waiter;

  net::Task<Payment> draw(std::shared_ptr<const Terms> terms, const MemberLimit& limit);
  static net::Task<void> refill(Purses& self, std::shared_ptr<Purse> purse, std::string limit, std::uint32_t wanted,
                                std::uint32_t wanted_max);
  std::shared_ptr<Purse> purse_of(const std::string& limit, const Terms& terms);
  void settle(Purse& purse, const MemberLimit& limit) const;
  bool take(const std::shared_ptr<Purse>& purse, const MemberLimit& limit);
  void ask(const std::shared_ptr<Purse>& purse, const MemberLimit& limit);
  void put_back(const MemberLimit& limit);
  Payment unanswered(const Terms& terms, const MemberLimit& limit, const std::string& why) const;

  net::Loop& loop_;
  link::ControllerLink& link_;
  Counters counters_;
  std::uint64_t generation_ = 0;  // of the terms whose limits have purses
  std::map<std::string, std::shared_ptr<Purse>, std::less<>> purses_;
};

}  // namespace sallyport::guard
