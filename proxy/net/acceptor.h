#pragma once
// The accept loop of one listening socket.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "proxy/net/loop.h"

namespace sallyport::net {

// Counts open connections, of one worker or of one service. Acceptors share one and wait while it is full: the kernel's
// backlog holds the rest. A copy counts the same connections. One thread.
class ConnectionLimit {
 public:
  // A place for one connection; given back when it goes. Move-only.
  class Slot;

  explicit ConnectionLimit(std::size_t connections_max);
  std::size_t open() const;
  bool full() const;
  Slot take();  // counts even when full(): the caller has looked
  // Sets the event, once, when a connection has ended and there is room. A second call for the same event changes
  // nothing.
  void announce_room(const std::shared_ptr<Event>& event);

 private:
  struct Counter;
  std::shared_ptr<Counter> counter_;
};

class ConnectionLimit::Slot {
 public:
  Slot() = default;
  Slot(Slot&& other) noexcept = default;
  Slot& operator=(Slot&& other) noexcept {
    std::swap(counter_, other.counter_);
    return *this;
  }
  ~Slot();
  explicit operator bool() const { return counter_ != nullptr; }

 private:
  friend class ConnectionLimit;
  explicit Slot(std::shared_ptr<Counter> counter) : counter_(std::move(counter)) {}
  std::shared_ptr<Counter> counter_;
};

using ConnectionSlot = ConnectionLimit::Slot;

// Accepts until it is destroyed or cancelled, limits::kAcceptsPerWakeMax connections a wake; the new descriptors are
// non-blocking and close-on-exec. While the limit is full, a connection that waits makes it ask for room. When the
// machine has no descriptor or memory for one more (EMFILE, ENFILE, ENOBUFS, ENOMEM), it pauses for
// limits::kAcceptRetryDelay: the connection waits in the backlog, none is dropped by us.
class Acceptor {
 public:
  struct Handlers {
    // A new connection. The slot is held as long as the connection lives.
    std::function<void(UniqueFd, ConnectionSlot)> on_connection;
    // What has stopped accepting for a while, in words; once a second at most. May be empty.
    std::function<void(const std::string&)> on_trouble;
    // The limit is full and a connection waits: may end one that is worth less, now or a little later. Asked again when
    // a place has become free, and after limits::kAcceptRetryDelay. May be empty: then it waits.
    std::function<void()> on_full;
  };

  // `listening` is a listening socket.
  Acceptor(Loop& loop, UniqueFd listening, ConnectionLimit limit, Handlers handlers);
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;
  ~Acceptor();  // cancels

  // No connection is handed out afterwards. The socket is closed when this object has gone and the loop has run once
  // more; until then the kernel goes on accepting.
  void cancel();
  // Hands out what the kernel has accepted already, as far as there is room, and then cancels: nobody who has connected
  // is reset. Not from within a handler.
  void finish();

 private:
  struct State;
  static Task<void> run(std::shared_ptr<State> state);
  enum class Batch : std::uint8_t { more, pause, never };  // whether there may be more to accept, now or ever
  static Batch accept_batch(State& state);
  std::shared_ptr<State> state_;
};

}  // namespace sallyport::net
