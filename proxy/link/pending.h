#pragma once
// Asks that wait for the controller's answer: coroutines on loops of their own, and what the link's thread knows of
// them.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "proxy/net/loop.h"

namespace sallyport::link {

// How many asks are under way. It is shared with those who ask, as they may end later than the link.
using AskCount = std::shared_ptr<std::atomic<std::size_t>>;

// One that asks. Its coroutine waits for `answered` and then finds the result.
template <class Answer>
class WaitingAsk {
 public:
  explicit WaitingAsk(net::Loop& loop) : answered(loop), loop_(loop) {}

  net::Event answered;
  std::optional<Result<Answer>> result;

  // The link's thread: leaves the result, and wakes who asks if it still waits.
  static void wake(const std::shared_ptr<WaitingAsk>& waiting, Result<Answer> result) {
    const std::lock_guard lock(waiting->mutex_);
    if (waiting->withdrawn_) return;
    waiting->result.emplace(std::move(result));
    waiting->loop_.post([waiting] { waiting->answered.set(); });
  }
  void withdraw() {
    const std::lock_guard lock(mutex_);
    withdrawn_ = true;
  }
  bool withdrawn() const {
    const std::lock_guard lock(mutex_);
    return withdrawn_;
  }

 private:
  net::Loop& loop_;
  mutable std::mutex mutex_;
  bool withdrawn_ = false;  // nobody waits any more, and the loop may be gone
};

// Of an ask that ends, whatever ends it.
template <class Answer>
class Withdrawal {
 public:
  Withdrawal(AskCount count, std::shared_ptr<WaitingAsk<Answer>> waiting)
      : count_(std::move(count)), waiting_(std::move(waiting)) {
    ++*count_;
  }
  Withdrawal(const Withdrawal&) = delete;
  Withdrawal& operator=(const Withdrawal&) = delete;
  ~Withdrawal() {
    --*count_;
    waiting_->withdraw();
  }

 private:
  AskCount count_;
  std::shared_ptr<WaitingAsk<Answer>> waiting_;
};

// Those that have been sent, by their numbers. The link's thread.
template <class Answer>
class PendingAsks {
 public:
  // `live_max`: no more than that are not withdrawn. As many again may be, so that looking for them costs each ask
  // little.
  explicit PendingAsks(std::size_t live_max) : live_max_(live_max) {}

  void add(std::uint64_t number, std::shared_ptr<WaitingAsk<Answer>> waiting) {
    if (asks_.size() >= 2 * live_max_) forget_withdrawn();
    asks_.emplace(number, std::move(waiting));
  }
  void answer(std::uint64_t number, Result<Answer> result) {
    const auto found = asks_.find(number);
    if (found == asks_.end()) return;  // who asked has given up
    WaitingAsk<Answer>::wake(found->second, std::move(result));
    asks_.erase(found);
  }
  // All of them: the connection is lost.
  void give_up(const Error& why) {
    for (const auto& [number, waiting] : asks_) WaitingAsk<Answer>::wake(waiting, std::unexpected(why));
    asks_.clear();
  }
  void forget_withdrawn() {
    std::erase_if(asks_, [](const auto& entry) { return entry.second->withdrawn(); });
  }
  std::size_t size() const { return asks_.size(); }

 private:
  std::size_t live_max_;
  std::unordered_map<std::uint64_t, std::shared_ptr<WaitingAsk<Answer>>> asks_;
};

}  // namespace sallyport::link
