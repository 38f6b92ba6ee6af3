#pragma once
// One application while it runs: the state of its executions and of its limits, its events on their way to the journal.
// All of an application is under one lock, so that the journal has things in the order in which they happened here, and
// can be replayed to the same state.

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "controller/core/alarm_book.h"
#include "controller/core/application_settings.h"
#include "controller/core/member.h"
#include "controller/state/application_state.h"
#include "controller/state/rate_table.h"
#include "controller/state/token_bucket.h"
#include "controller/store/journal_writer.h"

namespace sallyport::controller {

// Any thread.
class Tracker {
 public:
  // What may be stored of events and decided asks: bytes a second, and at once.
  struct Budgets {
    double guard_per_second = limits::kGuardBytesPerSecond, guard_burst = limits::kGuardBytesBurst;
    double function_per_second = limits::kFunctionBytesPerSecond, function_burst = limits::kFunctionBytesBurst;
  };
  Tracker(std::string application, JournalWriter& journal, AlarmBook& alarms, const Budgets& budgets);

  // A limit that guards of a function, or all of the application's, must keep or need no more.
  struct Halted {
    std::string function;  // empty: all
    v1alpha1::Halt halt;
  };

  // Another application graph, or none: the state is built up again from the journal, and nobody is served meanwhile.
  // Fails, and leaves everything as it was, if the journal can't be written or read.
  Result<void> set_graph(std::shared_ptr<const flow::ApplicationGraph> graph, Store& store, Time now);
  // At the start, before replay().
  void begin(std::shared_ptr<const flow::ApplicationGraph> graph);
  void set_limits(std::span<const ApplicationSettings::Limit> limits, Time now);
  // What is halted for a guard that has just connected.
  std::vector<v1alpha1::Halt> halts_of(const Member& member, Time now);
  // Of the journal, in its order, before anybody is served. Its alarms have been raised before.
  Result<void> replay(const Store::Entry& entry);

  // Answered over the link, once what was decided is stored.
  void ask(const std::shared_ptr<Member>& member, LinkId link, const v1alpha1::EntryAsk& ask, Time now);
  enum class Taken : std::uint8_t {
    yes,        // acknowledged when they are stored
    later,      // too much waits to be stored, or is kept of the function: the guard should come again
    too_much,   // it sends on without waiting until it is told that what it has sent is taken
    malformed,  // some are missing
  };
  Taken take(const std::shared_ptr<Member>& member, v1alpha1::Events&& events, Time now, std::vector<Halted>& halted);
  struct Bucket {
    std::string function;  // empty: the application's
    RateTable::BucketFigures figures;
  };
  std::vector<Bucket> buckets_of(const v1alpha1::Limit& limit, Time now);
  v1alpha1::Lease lease(const Member& member, const v1alpha1::LeaseAsk& ask, Time now);
  // No event of this function is taken until it is called with another, or none: the store is full of them.
  void hold(std::string function);
  TokenBucket fresh_budget(Time now) const { return {budgets_.guard_per_second, budgets_.guard_burst, now}; }
  // How far back a replay has to go.
  std::chrono::milliseconds memory() const;
  // Its connection is gone.
  void forget_asks(const Member& member, LinkId link);

  // To be called at next_due(), and each limits::kControllerTick.
  void advance(Time now, std::vector<Halted>& halted);
  std::optional<Time> next_due() const;

  struct Figures {
    std::size_t executions = 0, flows = 0, waiting = 0;
    std::uint64_t asks = 0, refused = 0, events = 0;
  };
  Figures figures() const;

 private:
  struct Asker {
    std::shared_ptr<Member> member;
    LinkId link{};
    std::uint64_t number = 0;
  };

  Source source_of(const Member& member) const;
  std::uint32_t number_of(const std::string& function);
  void answer(Answer& answer);
  void refuse(const Asker& asker, std::string text);
  void deliver(Time now);
  EventBatch batch_of(const Member& member, Time now) const;
  void store(const std::shared_ptr<Member>& member, EventBatch&& batch, std::string events, Time now);
  TokenBucket& budget_of(const std::string& function, Time now);
  Time charge(Member& member, std::size_t bytes, Time now);
  bool has_overdrawn(Member& member, Time now);
  void tell_taken(Time now);
  void apply(Member& member, const v1alpha1::Event& event, EventBatch& batch, Time now);
  void note_trouble(const Member& member, const v1alpha1::Event& event, Time now);
  void note_denial(const Member& member, const v1alpha1::Exchange& exchange, Time now);
  void tell_halts(std::vector<Halted>& halted);
  std::unique_ptr<ApplicationState> state_of(std::shared_ptr<const flow::ApplicationGraph> graph) const;
  static Result<void> replay_into(ApplicationState& state, const Store::Entry& entry);

  const std::string application_;
  JournalWriter& journal_;
  AlarmBook& alarms_;
  const Budgets budgets_;
  mutable std::mutex mutex_;
  std::unique_ptr<ApplicationState> state_;  // null: the application has no graph
  RateTable rates_;
  std::map<std::string, std::uint32_t, std::less<>> numbers_;  // of functions, for rates_: the graph's may change
  std::vector<std::string> names_;
  std::unordered_map<std::uint64_t, Asker> askers_;
  std::uint64_t last_ask_ = 0;
  std::map<std::string, TokenBucket, std::less<>> function_budgets_;
  std::string held_;                    // the function of which nothing is taken
  Outcome outcome_;                     // of the call at hand
  std::vector<RateTable::Halt> halts_;  // the same
  Figures figures_;

  std::mutex late_mutex_;                      // not the lock above, under which the journal may be waited for
  std::vector<std::shared_ptr<Member>> late_;  // that have beyond their budget, and are told later what is stored
};

}  // namespace sallyport::controller
