#include "proxy/guard/purses.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "base/limits.h"

namespace sallyport::guard {
namespace {

using std::chrono::milliseconds;

milliseconds up_to(std::chrono::nanoseconds duration) {
  return std::max(std::chrono::ceil<milliseconds>(duration), milliseconds(1));
}

Payment limited(const MemberLimit& limit, std::string_view why, milliseconds retry_after) {
  return {Unpaid{Reason::rate_limited, "The limit '" + limit.name + "' " + std::string(why), retry_after}, {}};
}

std::string rate_text(const MemberLimit& limit) {
  std::string text = std::to_string(limit.per_second);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return "lets " + text + "/s through, and " + std::to_string(limit.rate.burst) + " at once.";
}

}  // namespace

// A request that waits for an answer, however it ends.
class Purses::Waiter {
 public:
  explicit Waiter(std::shared_ptr<Purse> purse) : purse_(std::move(purse)) { ++purse_->waiting; }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  ~Waiter() { --purse_->waiting; }

 private:
  std::shared_ptr<Purse> purse_;
};

net::Task<Payment> Purses::pay(std::shared_ptr<const Terms> terms, const document::Endpoint* endpoint,
                               const flow::Operation* operation) {
  Payment total;
  std::vector<const MemberLimit*> paid;
  for (const MemberLimit& limit : terms->limits) {
    if (!limit.has(endpoint, operation)) continue;
    Payment payment;
    if (limit.bucket) {
      const std::chrono::nanoseconds wait = limit.bucket->take(loop_.now().time_since_epoch());
      if (limit.halt->halted()) {
        if (wait.count() == 0) limit.bucket->put_back();
        payment = limited(limit, "is halted by the controller.",
                          up_to(limit.halt->again_at() - loop_.now().time_since_epoch()));
      } else if (wait.count() > 0) {
        payment = limited(limit, rate_text(limit), up_to(wait));
      }
    } else {
      payment = co_await draw(terms, limit);
    }
    if (payment.refused) {
      for (const MemberLimit* one : paid) put_back(*one);
      co_return payment;
    }
    // What was let through unpaid is not put back.
    if (payment.note.empty()) {
      paid.push_back(&limit);
    } else {
      total.note = std::move(payment.note);
    }
  }
  co_return total;
}

// The controller has not answered. What that comes to is the function's to have said; but never past a halt.
Payment Purses::unanswered(const Terms& terms, const MemberLimit& limit, const std::string& why) const {
  if (terms.on_loss == OnControllerLoss::allow_and_record && !limit.halt->halted()) {
    return {std::nullopt,
            "let through without a lease of the limit '" + limit.name + "', as onControllerLoss says: " + why};
  }
  return {Unpaid{Reason::controller_lost, "The limit '" + limit.name + "' is shared with others, and " + why + ".",
                 milliseconds(0)},
          {}};
}

net::Task<Payment> Purses::draw(std::shared_ptr<const Terms> terms, const MemberLimit& limit) {
  const std::shared_ptr<Purse> purse = purse_of(limit.name, *terms);
  const net::Deadline until = loop_.in(limits::kLeaseWaitMax);
  while (true) {
    settle(*purse, limit);
    if (take(purse, limit)) co_return Payment{};
    if (purse->retry_at > loop_.now()) {
      const std::string why = limit.halt->halted() ? "is halted by the controller." : rate_text(limit);
      co_return limited(limit, why, up_to(purse->retry_at - loop_.now()));
    }
    if (purse->waiting >= limits::kLeaseWaitersMax) {
      co_return limited(limit, "is waited for by as many requests as may.", std::chrono::seconds(1));
    }
    if (!purse->asking) ask(purse, limit);
    const Waiter waiter(purse);
    const net::Wait answered = co_await purse->answered.wait(until);
    if (answered != net::Wait::ready) co_return unanswered(*terms, limit, "the controller has not answered in time");
    if (purse->failure) co_return unanswered(*terms, limit, *purse->failure);
  }
}

// Drops what has lapsed, and all that was leased before a halt.
void Purses::settle(Purse& purse, const MemberLimit& limit) const {
  const std::uint64_t halts = limit.halt->halts();
  if (std::exchange(purse.halts, halts) != halts) {
    purse.leases.clear();
    purse.retry_at = limit.halt->halted() ? net::Deadline(limit.halt->again_at()) : net::Deadline::min();
  } else if (purse.retry_at.time_since_epoch() == limit.halt->again_at() && !limit.halt->halted()) {
    purse.retry_at = net::Deadline::min();
  }
  while (!purse.leases.empty() && purse.leases.front().until <= loop_.now()) {
    if (purse.leases.front().left > 0) purse.wanted = std::max(purse.wanted / 2, 1U);  // more than is used
    purse.leases.pop_front();
  }
}

bool Purses::take(const std::shared_ptr<Purse>& purse, const MemberLimit& limit) {
  while (!purse->leases.empty() && purse->leases.front().left == 0) purse->leases.pop_front();
  if (purse->leases.empty()) return false;
  --purse->leases.front().left;
  std::uint32_t left = 0;
  for (const Lease& lease : purse->leases) left += lease.left;
  // The next lease is here, as a rule, before the last one is used up.
  const bool low = left <= purse->wanted / 4;
  if (low && !purse->asking && purse->retry_at <= loop_.now()) {
    purse->wanted *= 2;
    ask(purse, limit);
  }
  return true;
}

void Purses::ask(const std::shared_ptr<Purse>& purse, const MemberLimit& limit) {
  const std::uint32_t most = std::min(limit.rate.burst, limits::kLeaseMax);
  purse->wanted = std::clamp(std::max(purse->wanted, static_cast<std::uint32_t>(purse->waiting)), 1U, most);
  purse->asking = true;
  purse->failure.reset();
  purse->answered.reset();
  loop_.spawn(refill(*this, purse, limit.name, purse->wanted, most));
}

net::Task<void> Purses::refill(Purses& self, std::shared_ptr<Purse> purse, std::string limit, std::uint32_t wanted,
                               std::uint32_t wanted_max) {
  link_api::LeaseAsk ask;
  ask.set_limit(std::move(limit));
  ask.set_wanted(wanted);
  // Its time counts from here, as the answer may be late.
  const net::Deadline asked = self.loop_.now();
  const net::Deadline deadline = self.loop_.in(limits::kLeaseAskTimeout);
  const Result<link_api::Lease> lease = co_await self.link_.lease(self.loop_, std::move(ask), deadline);
  purse->asking = false;
  purse->retry_at = net::Deadline::min();
  if (!lease) {
    ++self.counters_.unanswered;
    purse->failure = lease.error().text;
  } else if (lease->granted() > 0) {
    const std::uint32_t granted = std::min(lease->granted(), wanted_max);
    ++self.counters_.granted;
    self.counters_.requests += granted;
    purse->leases.push_back({granted, asked + milliseconds(lease->lifetime_ms())});
  } else {
    ++self.counters_.refused;
    purse->retry_at = self.loop_.now() + milliseconds(std::max(lease->retry_after_ms(), 1U));
  }
  purse->answered.set();
}

void Purses::put_back(const MemberLimit& limit) {
  if (limit.bucket) return limit.bucket->put_back();
  const auto found = purses_.find(limit.name);
  if (found != purses_.end() && !found->second->leases.empty()) ++found->second->leases.back().left;
}

// Those of limits that there are no more go with the terms.
std::shared_ptr<Purses::Purse> Purses::purse_of(const std::string& limit, const Terms& terms) {
  if (generation_ != terms.generation) {
    generation_ = terms.generation;
    std::erase_if(purses_, [&](const auto& one) {
      return std::ranges::find(terms.limits, one.first, &MemberLimit::name) == terms.limits.end();
    });
  }
  std::shared_ptr<Purse>& purse = purses_[limit];
  if (!purse) purse = std::make_shared<Purse>(loop_);
  return purse;
}

}  // namespace sallyport::guard
