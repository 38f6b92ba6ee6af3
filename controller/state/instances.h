#pragma once
// Which instances of an application's functions run, and how many more may. Pure: time is told.

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controller/state/types.h"
#include "policy-engine/flow/application_graph.h"

namespace sallyport::controller {

class Instances {
 public:
  explicit Instances(std::shared_ptr<const flow::ApplicationGraph> graph);

  struct Registration {
    std::optional<GuardId> guard;  // none: it is refused
    bool fresh = false;            // the guard has this id for the first time: it is stored before it is told
    std::string refusal;           // for a person
  };
  // A guard has connected whose credential has been believed. `claimed`: the id of an earlier connection, which it
  // keeps as the same instance of the same function, else it gets `random`. Another process of an instance that is
  // alive takes its place, and is an alarm; so is an instance beyond `instancesMax`, which is refused.
  Registration enter(std::uint32_t function, std::string_view instance, const std::optional<GuardId>& claimed,
                     const GuardId& random, Time now, Outcome& out);
  // As it was stored, after a restart. It counts as running until it is lost.
  void restore(std::uint32_t function, std::string_view instance, const GuardId& guard, Time now);

  void beat(const GuardId& guard, Time now);
  // Its connection has ended. One that says goodbye frees its place at once; another may come back.
  void leave(const GuardId& guard, bool goodbye);
  // To be called once a second or so: whoever was silent for limits::kBeatsMissedMax beats is lost, which is an alarm.
  void advance(Time now, Outcome& out);

  std::uint32_t running(std::uint32_t function) const { return running_[function]; }
  std::optional<std::uint32_t> function_of(const GuardId& guard) const;
  std::size_t known() const { return instances_.size(); }

 private:
  using Name = std::pair<std::uint32_t, std::string>;  // function, instance
  struct Instance {
    GuardId guard{};
    Time heard{};
    bool running = false;  // it has a place
    bool connected = false;
  };

  bool has_place(std::uint32_t function) const;
  bool make_room();
  void free_place(const Name& name, Instance& instance);

  std::shared_ptr<const flow::ApplicationGraph> graph_;
  std::map<Name, Instance> instances_;
  std::map<GuardId, Name> by_guard_;
  std::vector<std::uint32_t> running_;  // by function
};

}  // namespace sallyport::controller
