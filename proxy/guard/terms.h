#pragma once
// What the controller says of a function besides its policy and its flow graph: what it is asked and told, and how
// often requests may be sent. Immutable, and swapped with the policy; only what is counted and what is halted is shared
// with the terms before and after.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "controller/api/link.pb.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/flow/operation.h"
#include "policy-engine/flow/pattern.h"
#include "policy-engine/rate/gcra.h"

namespace sallyport::guard {

namespace link_api = controller::v1alpha1;

enum class EntryCheck : std::uint8_t { none, untagged, always };
// What comes of what the controller was asked and has not answered.
enum class OnControllerLoss : std::uint8_t { deny, allow_and_record };

// Of a limit, by its name: the controller lets no request through (STOP). Any thread.
class HaltSwitch {
 public:
  void halt(std::chrono::nanoseconds again_at);  // on net::Clock
  void resume();
  bool halted() const { return halted_; }
  std::chrono::nanoseconds again_at() const { return std::chrono::nanoseconds(again_at_); }
  // Counts the calls of halt(): what was leased before one is worth nothing behind it.
  std::uint64_t halts() const { return halts_; }

 private:
  std::atomic<bool> halted_ = false;
  std::atomic<std::int64_t> again_at_ = 0;
  std::atomic<std::uint64_t> halts_ = 0;
};

// One of Update.limits.
struct MemberLimit {
  std::string name;
  std::string endpoint;  // empty: any
  bool any_operation = true;
  std::vector<flow::Pattern> operations;
  rate::Rate rate;
  double per_second = 0;
  // Of this instance alone; null: the limit is shared with others, and requests are paid from leases.
  std::shared_ptr<rate::Gcra> bucket;
  std::shared_ptr<HaltSwitch> halt;

  // `operation` is null where the request has none that a pattern could match.
  bool has(const document::Endpoint* endpoint, const flow::Operation* operation) const;
};

struct Terms {
  std::uint64_t generation = 0;
  EntryCheck entry_check = EntryCheck::always;
  OnControllerLoss on_loss = OnControllerLoss::deny;
  std::chrono::seconds lifetime{0};  // without a controller; 0: no end
  std::vector<flow::Pattern> announced;
  std::vector<MemberLimit> limits;
  // The controller has been gone for longer than that. Where the mode enforces, the policy refuses everything.
  bool expired = false;

  bool announces(const flow::Operation& operation) const;
};

using HaltOf = std::function<std::shared_ptr<HaltSwitch>(const std::string& limit)>;

// ErrorKind::invalid: a word or a pattern that this version does not know, a limit that none could keep, or too much of
// something. `previous` may be null; a limit of this instance that it has, too, goes on from where it is.
Result<std::shared_ptr<Terms>> read_terms(const link_api::Update& update, const Terms* previous, const HaltOf& halt_of);

}  // namespace sallyport::guard
