#include "proxy/net/acceptor.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/limits.h"

namespace sallyport::net {

struct ConnectionLimit::Counter {
  std::size_t open = 0;
  std::size_t max = 0;
  std::vector<std::weak_ptr<Event>> waiting;  // of who found it full

  void release() {
    --open;
    if (open >= max) return;
    for (const auto& waiter : std::exchange(waiting, {})) {
      if (const auto event = waiter.lock()) event->set();
    }
  }
};

ConnectionLimit::ConnectionLimit(std::size_t connections_max) : counter_(std::make_shared<Counter>()) {
  counter_->max = connections_max;
}

std::size_t ConnectionLimit::open() const { return counter_->open; }
bool ConnectionLimit::full() const { return counter_->open >= counter_->max; }

ConnectionLimit::Slot ConnectionLimit::take() {
  ++counter_->open;
  return Slot(counter_);
}

void ConnectionLimit::announce_room(const std::shared_ptr<Event>& event) {
  std::erase_if(counter_->waiting, [&](const auto& waiter) { return waiter.expired() || waiter.lock() == event; });
  counter_->waiting.push_back(event);
}

ConnectionLimit::Slot::~Slot() {
  if (counter_) counter_->release();
}

// Held by the acceptor and by its coroutine: whichever ends last.
struct Acceptor::State {
  State(Loop& loop, UniqueFd listening, ConnectionLimit connections, Handlers callbacks)
      : socket(loop, std::move(listening)),
        limit(std::move(connections)),
        handlers(std::move(callbacks)),
        wake(std::make_shared<Event>(loop)) {}

  Socket socket;
  ConnectionLimit limit;
  Handlers handlers;
  std::shared_ptr<Event> wake;  // set when a place is free, and by cancel()
  Deadline retry_at = Deadline::min();
  Deadline quiet_until = Deadline::min();

  // Asks for a place, and is woken when one becomes free.
  void ask_for_room() {
    wake->reset();
    limit.announce_room(wake);
    if (handlers.on_full) handlers.on_full();
  }

  void trouble(int error) {
    Loop& loop = socket.loop();
    retry_at = loop.in(limits::kAcceptRetryDelay);
    if (!handlers.on_trouble || loop.now() < quiet_until) return;
    quiet_until = loop.in(std::chrono::seconds(1));
    handlers.on_trouble(std::string("new connections wait: accept failed: ") + std::strerror(error));
  }
};

namespace {

bool lacks_resources(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }

// The listening socket itself is unusable; anything else is about the one connection that was to be accepted, and is
// gone with it (accept(2), "Error handling").
bool is_final(int error) { return error == EBADF || error == EINVAL || error == ENOTSOCK || error == EOPNOTSUPP; }

}  // namespace

Acceptor::Acceptor(Loop& loop, UniqueFd listening, ConnectionLimit limit, Handlers handlers)
    : state_(std::make_shared<State>(loop, std::move(listening), std::move(limit), std::move(handlers))) {
  loop.spawn(run(state_));
}

Acceptor::~Acceptor() { cancel(); }

void Acceptor::cancel() {
  state_->socket.cancel();
  state_->wake->set();
}

void Acceptor::finish() {
  if (state_->socket.cancelled()) return;
  while (accept_batch(*state_) == Batch::more) {
  }
  cancel();
}

Acceptor::Batch Acceptor::accept_batch(State& state) {
  for (std::size_t count = 0; count < limits::kAcceptsPerWakeMax; ++count) {
    if (state.limit.full() || state.socket.cancelled()) return Batch::pause;
    UniqueFd fd(::accept4(state.socket.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      state.handlers.on_connection(std::move(fd), state.limit.take());
      continue;
    }
    const int error = errno;
    if (error == EAGAIN) return Batch::pause;
    if (lacks_resources(error)) {
      state.trouble(error);
      return Batch::pause;
    }
    if (is_final(error)) {
      state.trouble(error);
      return Batch::never;
    }
  }
  return Batch::more;
}

Task<void> Acceptor::run(std::shared_ptr<State> state) {
  Loop& loop = state->socket.loop();
  while (!state->socket.cancelled()) {
    if (loop.now() < state->retry_at) {
      state->wake->reset();
      co_await state->wake->wait(state->retry_at);
      continue;
    }
    const Wait wait = co_await state->socket.wait_readable(kNoDeadline);  // a quiet listener is a healthy one
    if (wait == Wait::cancelled || state->socket.cancelled()) co_return;
    if (state->limit.full()) {
      state->ask_for_room();
      // A connection that ends, or cancel(), ends it.
      const Deadline again = state->handlers.on_full ? loop.in(limits::kAcceptRetryDelay) : kNoDeadline;
      if (state->limit.full()) co_await state->wake->wait(again);
      continue;
    }
    if (accept_batch(*state) == Batch::never) co_return;
  }
}

}  // namespace sallyport::net
