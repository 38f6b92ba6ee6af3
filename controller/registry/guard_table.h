#pragma once
// The guards of a controller: which process guards which instance of which function of which application. An id names
// a guard and proves nothing: it is kept across reconnects for the same instance of the same function under the same
// credential, and whoever shows another's id without that gets a new one.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/limits.h"
#include "controller/link/links.h"
#include "controller/store/store.h"

namespace sallyport::controller {

struct Guard {
  GuardRow row;
  LinkId link{};                 // LinkId{}: it is not connected
  Time seen{};                   // it was heard of last
  std::uint64_t generation = 0;  // of the Update that it has in force
  std::string refusal = {};      // why it has not taken the newest one
  std::uint64_t executions_open = 0;
  bool running = true;  // it has a place among its function's instances
};

// Not thread-safe: its owner has a lock.
class GuardTable {
 public:
  // What a guard says of itself, once its credential has been believed.
  struct Arrival {
    std::string application, function, instance, subject;
    std::optional<GuardId> shown;  // the id that it says it has
  };
  struct Admitted {
    Guard* guard = nullptr;  // valid until it is removed
    bool fresh = false;      // it has a new id, and must be stored
    LinkId replaced{};       // an older connection of it, which is to be closed
  };

  // At the start: those that are stored. They run from when they come back.
  void load(std::vector<GuardRow> rows, Time now);
  // ErrorKind::limit: `instances_max` of the function are running already; ErrorKind::unavailable: the machine has no
  // randomness. An instance that comes back before it is lost has its place still.
  Result<Admitted> admit(const Arrival& arrival, LinkId link, Time now, std::size_t instances_max);

  Guard* find(const GuardId& id);
  Guard* find(LinkId link);
  // Its connection has ended. It counts as running until it is lost; or, with `goodbye`, from now on not.
  void disconnect(LinkId link, bool goodbye = false);
  // Those that were not heard of since `before` do not run any more. They keep their ids, so that what they have told
  // is not taken twice when they come back.
  std::vector<Guard> lose(Time before);
  // Those that do not run, and were not heard of since `before`, are taken out; and where more than `most` of a
  // function are known, those of them that were not heard of for longest.
  std::vector<GuardId> forget(Time before, std::size_t most = limits::kGuardsRememberedMax);
  bool connected(std::string_view application) const;
  std::vector<GuardId> forget_application(std::string_view application);
  std::size_t running(std::string_view application, std::string_view function) const;
  // In the order of applications, functions and instances.
  std::vector<const Guard*> all() const;

 private:
  struct Hash {
    std::size_t operator()(const GuardId& id) const;
  };
  using FunctionKey = std::pair<std::string, std::string>;  // application, function

  Guard* known(const Arrival& arrival);
  Result<void> take_place(Guard& guard, std::size_t instances_max);
  void leave_place(Guard& guard);
  void remove(const GuardId& id);

  std::unordered_map<GuardId, Guard, Hash> guards_;
  std::unordered_map<LinkId, GuardId> by_link_;
  struct Function {
    std::vector<GuardId> guards;
    std::size_t running = 0;
  };
  std::map<FunctionKey, Function, std::less<>> by_function_;
};

}  // namespace sallyport::controller
