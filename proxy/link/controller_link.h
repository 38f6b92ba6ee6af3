#pragma once
// The guard's seam to its controller: over the network (RemoteLink) or in the same process. Everything may be called
// from any thread; nothing but `ask` and `lease` waits, and these wait as coroutines.

#include <cstdint>
#include <functional>
#include <string>

#include "base/error.h"
#include "controller/api/link.pb.h"
#include "proxy/net/loop.h"

namespace sallyport::link {

namespace api = controller::v1alpha1;

enum class LinkState : std::uint8_t {
  connecting,  // it has never been connected
  connected,   // registered: what is asked is answered
  lost,        // it was, and is being connected again
  refused,     // the controller does not believe this guard; it is tried again, seldom
};

struct LinkStatus {
  LinkState state = LinkState::connecting;
  net::Deadline since{};
  std::string text = {};  // why it is not connected, for a person
};

// Of the guard, in numbers since the start.
struct LinkFigures {
  std::uint64_t registrations = 0;  // connections that came to be
  std::uint64_t events_taken = 0;   // of this guard id, by the controller
  std::uint64_t events_acknowledged = 0;
  std::uint64_t events_waiting = 0;  // sent or not
  std::uint64_t bytes_waiting = 0;   // of memory that they take
  std::uint64_t events_lost = 0;
  std::uint64_t denials_lost = 0;  // of them
  std::uint64_t unknown = 0;       // Envelopes that this version does not know
};

// Called on the link's thread, which may not be kept waiting. Each may be empty.
struct LinkHandlers {
  std::function<void(const api::Registered&)> on_registered = {};
  // Answered by update_taken(), now or later.
  std::function<void(api::Update&&)> on_update = {};
  std::function<void(const api::Halt&)> on_halt = {};
  std::function<void(const api::Renewed&)> on_renewed = {};
  std::function<void(const LinkStatus&)> on_state = {};
};

class ControllerLink {
 public:
  ControllerLink() = default;
  ControllerLink(const ControllerLink&) = delete;
  ControllerLink& operator=(const ControllerLink&) = delete;
  virtual ~ControllerLink() = default;

  // For a coroutine on `loop`; the number is the link's to give. Fails with ErrorSource::controller: `unavailable`, at
  // once, while there is no connection or when it is lost meanwhile; `timeout`; `limit` with too many asks under way;
  // `invalid` where a string is not UTF-8. What a failure comes to is for who asks (on_controller_loss). What was
  // reported before is sent before.
  virtual net::Task<Result<api::EntryAnswer>> ask(net::Loop& loop, api::EntryAsk ask, net::Deadline deadline) = 0;
  virtual net::Task<Result<api::Lease>> lease(net::Loop& loop, api::LeaseAsk ask, net::Deadline deadline) = 0;

  // Kept until the controller has taken it, in a spool of limits::kSpoolEventsMax; where that is full exchanges that
  // were allowed go first, and what goes is counted and told (message Lost). The sequence is the link's to give. The
  // trace of an event that is too large for a message is left out, and '?' is put for bytes that are not UTF-8.
  virtual void report(api::Event event) = 0;
  // Blocks until everything that was reported has been taken; false if that took too long. Not on the link's thread.
  virtual bool flush(std::chrono::milliseconds at_most) = 0;

  // To an Update: why it is not in force, or nothing.
  virtual void update_taken(std::uint64_t generation, std::string refusal) = 0;
  // Answered by on_renewed. False without a connection.
  virtual bool renew(std::string certificate_request) = 0;
  // What Beat tells.
  virtual void set_executions_open(std::uint64_t count) = 0;

  virtual LinkStatus status() const = 0;
  virtual LinkFigures figures() const = 0;
};

}  // namespace sallyport::link
