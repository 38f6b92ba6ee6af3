#pragma once
// What a suspended coroutine leaves behind while it waits: a node that lives in the coroutine's frame and is linked
// into the lists of whatever may wake it. Internal to the loop.

#include <chrono>
#include <coroutine>
#include <cstdint>

namespace sallyport::net {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;  // every wait has one; kNoDeadline only where a comment says why
inline constexpr Deadline kNoDeadline = Deadline::max();

enum class Wait : std::uint8_t { ready, timeout, cancelled };

}  // namespace sallyport::net

namespace sallyport::net::detail {

// A node of a circular list; alone when it points to itself. It leaves its list when it is destroyed: a destroyed frame
// takes its waiters out, and a destroyed list head leaves no pointer to itself behind.
template <class Tag>
class Link {
 public:
  Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() { unlink(); }

  bool linked() const { return next_ != this; }
  Link* next() const { return next_; }
  void unlink() {
    previous_->next_ = next_;
    next_->previous_ = previous_;
    previous_ = next_ = this;
  }
  // Moves `node` to the end of the list that this head stands for.
  void push_back(Link& node) {
    node.unlink();
    node.previous_ = previous_;
    node.next_ = this;
    previous_->next_ = &node;
    previous_ = &node;
  }
  // Moves every node of `other` to the end, in order.
  void splice_back(Link& other) {
    if (!other.linked()) return;
    other.next_->previous_ = previous_;
    previous_->next_ = other.next_;
    other.previous_->next_ = this;
    previous_ = other.previous_;
    other.previous_ = other.next_ = &other;
  }

 private:
  Link* previous_ = this;
  Link* next_ = this;
};

struct InQueue;   // of a socket's direction, of an event, or of the loop's ready coroutines
struct InTimers;  // of the loop's deadlines
using QueueLink = Link<InQueue>;
using TimerLink = Link<InTimers>;

struct Waiter : QueueLink, TimerLink {
  std::coroutine_handle<> coroutine;
  Deadline deadline = kNoDeadline;
  Wait outcome = Wait::ready;

  QueueLink& queue() { return *this; }
  TimerLink& timer() { return *this; }
  static Waiter& of(QueueLink* link) { return *static_cast<Waiter*>(link); }
  static Waiter& of(TimerLink* link) { return *static_cast<Waiter*>(link); }
};

}  // namespace sallyport::net::detail
