#include "controller/core/tracker.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "base/random.h"
#include "base/reason.h"
#include "controller/state/decided.h"

namespace sallyport::controller {

namespace {

using flow::ApplicationGraph;
using v1alpha1::Envelope;

std::string_view bytes_of(const RequestId& id) { return {reinterpret_cast<const char*>(id.data()), id.size()}; }

// A guard's clock, as far as it can be believed: for searching alone.
Time time_of(const v1alpha1::Event& event, Time now) {
  const auto& time = event.time();
  const Time said = Time(std::chrono::seconds(time.seconds())) + std::chrono::milliseconds(time.nanos() / 1'000'000);
  return std::clamp(said, now - limits::kEventAgeMax, now);
}

// What is an alarm of its own kind rather than one of many denials.
bool is_about_a_credential(std::string_view reason) {
  return reason == to_string(Reason::foreign_credential) || reason == to_string(Reason::placeholder_misuse);
}

using EventList = google::protobuf::RepeatedPtrField<v1alpha1::Event>;

std::string serialised(EventList& list, int begin, int end) {
  v1alpha1::Events piece;
  for (int i = begin; i < end; ++i) piece.mutable_events()->Add(std::move(list[i]));
  return piece.SerializeAsString();
}

}  // namespace

Tracker::Tracker(std::string application, JournalWriter& journal, AlarmBook& alarms, const Budgets& budgets)
    : application_(std::move(application)), journal_(journal), alarms_(alarms), budgets_(budgets) {}

std::unique_ptr<ApplicationState> Tracker::state_of(std::shared_ptr<const ApplicationGraph> graph) const {
  ApplicationState::Options options;
  std::array<unsigned char, sizeof options.seed> seed{};
  // Without randomness it is zero: slower for who chooses identifiers so that they meet, and never wrong.
  if (random_bytes(seed)) std::memcpy(&options.seed, seed.data(), sizeof options.seed);
  return std::make_unique<ApplicationState>(std::move(graph), options);
}

Result<void> Tracker::set_graph(std::shared_ptr<const ApplicationGraph> graph, Store& store, Time now) {
  const std::lock_guard lock(mutex_);
  if (!graph) {
    for (const auto& [ask, asker] : askers_) refuse(asker, "the application graph has been taken away");
    askers_.clear();
    state_.reset();
    return {};
  }
  // Under the lock nothing is appended: what is in the journal then is all.
  if (!journal_.drain(limits::kStoreDrainTime)) {
    return fail(ErrorSource::controller, ErrorKind::unavailable, "the journal can't be written");
  }
  std::unique_ptr<ApplicationState> fresh = state_of(std::move(graph));
  const auto replayed = store.replay(now - fresh->memory(), [&](Store::Entry&& entry) -> Result<void> {
    const std::string& application = entry.events ? entry.events->application : entry.decided->application;
    return application == application_ ? replay_into(*fresh, entry) : Result<void>{};
  });
  if (!replayed) return replayed;
  for (const auto& [ask, asker] : askers_) refuse(asker, "the application graph has changed meanwhile");
  askers_.clear();
  state_ = std::move(fresh);
  return {};
}

std::chrono::milliseconds Tracker::memory() const {
  const std::lock_guard lock(mutex_);
  return state_ ? state_->memory() : std::chrono::milliseconds(0);
}

void Tracker::hold(std::string function) {
  const std::lock_guard lock(mutex_);
  held_ = std::move(function);
}

void Tracker::begin(std::shared_ptr<const ApplicationGraph> graph) {
  const std::lock_guard lock(mutex_);
  state_ = graph ? state_of(std::move(graph)) : nullptr;
}

Result<void> Tracker::replay(const Store::Entry& entry) {
  const std::lock_guard lock(mutex_);
  return state_ ? replay_into(*state_, entry) : Result<void>{};
}

Result<void> Tracker::replay_into(ApplicationState& state, const Store::Entry& entry) {
  Outcome ignored;
  if (entry.decided) {
    const auto decided = read_decided(entry.decided->decided);
    if (!decided) return std::unexpected(decided.error());
    state.replay(*decided, ignored);
    return {};
  }
  const EventBatch& batch = *entry.events;
  const std::uint32_t function = state.graph().function_of(batch.function);
  if (function == ApplicationGraph::kNone) return {};
  v1alpha1::Events events;
  if (!events.ParseFromString(batch.events)) {
    return fail(ErrorSource::controller, ErrorKind::malformed, "stored events can't be read");
  }
  for (const v1alpha1::Event& event : events.events()) {
    state.apply({batch.guard, function}, event, batch.latest, ignored);
    ignored.clear();
  }
  return {};
}

void Tracker::set_limits(std::span<const ApplicationSettings::Limit> limits, Time now) {
  const std::lock_guard lock(mutex_);
  std::vector<RateTable::Rule> rules;
  for (const auto& [limit, functions] : limits) {
    RateTable::Rule& rule = rules.emplace_back(RateTable::Rule{limit, {}});
    for (const std::string& function : functions) rule.functions.push_back(number_of(function));
  }
  rates_.set(rules, now);
}

std::vector<v1alpha1::Halt> Tracker::halts_of(const Member& member, Time now) {
  const std::lock_guard lock(mutex_);
  rates_.tell_halted({member.id, number_of(member.function)}, now, halts_);
  std::vector<Halted> halted;
  tell_halts(halted);
  std::vector<v1alpha1::Halt> out;
  for (Halted& each : halted) out.push_back(std::move(each.halt));
  return out;
}

// Functions that stand in no graph have limits as well.
std::uint32_t Tracker::number_of(const std::string& function) {
  const auto [at, is_new] = numbers_.try_emplace(function, static_cast<std::uint32_t>(names_.size()));
  if (is_new) names_.push_back(function);
  return at->second;
}

Source Tracker::source_of(const Member& member) const {
  return {member.id, state_ ? state_->graph().function_of(member.function) : ApplicationGraph::kNone};
}

void Tracker::ask(const std::shared_ptr<Member>& member, LinkId link, const v1alpha1::EntryAsk& ask, Time now) {
  const std::lock_guard lock(mutex_);
  ++figures_.asks;
  const Asker asker{member, link, ask.number()};
  const Source source = source_of(*member);
  if (!state_ || source.function == ApplicationGraph::kNone) {
    return refuse(asker, "the application graph does not have the function " + member->function);
  }
  // What is decided is stored, too.
  if (has_overdrawn(*member, now)) return refuse(asker, "more is told of " + member->function + " than may be stored");
  RequestId fresh{};
  if (!random_bytes(fresh)) return refuse(asker, "the controller's machine has no randomness");
  const std::uint64_t number = ++last_ask_;
  askers_[number] = asker;
  state_->ask(number, source, ask, fresh, now, outcome_);
  deliver(now);
}

void Tracker::forget_asks(const Member& member, LinkId link) {
  const std::lock_guard lock(mutex_);
  const auto erased = std::erase_if(askers_, [&](const auto& each) { return each.second.link == link; });
  if (state_ && erased > 0) state_->forget_asks(member.id);
}

void Tracker::refuse(const Asker& asker, std::string text) {
  ++figures_.refused;
  Envelope envelope;
  envelope.mutable_entry_answer()->set_number(asker.number);
  envelope.mutable_entry_answer()->set_refusal(std::move(text));
  asker.member->answer(asker.link, envelope);
}

void Tracker::answer(Answer& answer) {
  const auto found = askers_.find(answer.ask);
  if (found == askers_.end()) return;
  const Asker asker = std::move(found->second);
  askers_.erase(found);
  if (!answer.allowed) return refuse(asker, std::move(answer.refusal));
  const auto envelope = std::make_shared<Envelope>();
  v1alpha1::EntryAnswer& message = *envelope->mutable_entry_answer();
  message.set_number(asker.number);
  message.set_allowed(true);
  message.set_request_id(std::string(bytes_of(answer.request)));
  message.set_predecessor(std::move(answer.predecessor));
  const auto send = [asker, envelope] { asker.member->answer(asker.link, *envelope); };
  if (!answer.decided) return send();
  // What was used up may not be given again after a restart: stored before it is told.
  std::string bytes = to_bytes(*answer.decided);
  charge(*asker.member, bytes.size(), answer.decided->time);
  journal_.append(DecidedAsk{application_, answer.decided->time, std::move(bytes)}, send,
                  [asker, envelope](const Error& error) {
                    v1alpha1::EntryAnswer refused;
                    refused.set_number(asker.number);
                    refused.set_refusal("the controller can't store its decision: " + error.text);
                    *envelope->mutable_entry_answer() = std::move(refused);
                    asker.member->answer(asker.link, *envelope);
                  });
}

Tracker::Taken Tracker::take(const std::shared_ptr<Member>& member, v1alpha1::Events&& events, Time now,
                             std::vector<Halted>& halted) {
  std::string all = events.SerializeAsString();  // before the lock, for which others wait
  const std::lock_guard lock(mutex_);
  if (journal_.full() || member->function == held_) return Taken::later;
  if (member->sends_on() || has_overdrawn(*member, now)) {
    alarms_.raise({application_, "event-flood", member->function, "", now, now, 1,
                   "guards tell more than may be stored of one, or of all of the function's, and do not wait"});
    return Taken::too_much;
  }
  EventList& list = *events.mutable_events();
  // What was sent again after a reconnect may be on its way already.
  const auto fresh =
      std::ranges::find_if(list, [&](const v1alpha1::Event& event) { return event.sequence() > member->accepted; });
  const bool known = fresh != list.begin();
  list.erase(list.begin(), fresh);
  if (list.empty()) return Taken::yes;
  std::uint64_t expected = member->accepted;
  if (!std::ranges::all_of(list, [&](const v1alpha1::Event& event) { return event.sequence() == ++expected; })) {
    alarms_.raise({application_, std::string(to_string(AlarmKind::malformed)), member->function, "events", now, now, 1,
                   "a guard leaves events out: number " + std::to_string(expected) + " is missing"});
    return Taken::malformed;
  }
  if (state_) state_->advance(now, outcome_);
  deliver(now);
  EventBatch batch = batch_of(*member, now);
  int begin = 0;
  for (int i = 0; i < list.size(); ++i) {
    apply(*member, list[i], batch, now);
    if (outcome_.answers.empty()) continue;
    // What this one has led to stands before the next in the journal, as it would be found in another order else.
    store(member, std::move(batch), serialised(list, begin, i + 1), now);
    deliver(now);
    begin = i + 1;
    batch = batch_of(*member, now);
  }
  const bool whole = begin == 0 && !known;
  if (begin < list.size()) {
    store(member, std::move(batch), whole ? std::move(all) : serialised(list, begin, list.size()), now);
  }
  deliver(now);
  tell_halts(halted);
  return Taken::yes;
}

EventBatch Tracker::batch_of(const Member& member, Time now) const {
  return {.guard = member.id,
          .application = application_,
          .function = member.function,
          .first = member.accepted + 1,
          .earliest = now,
          .latest = now};
}

void Tracker::store(const std::shared_ptr<Member>& member, EventBatch&& batch, std::string events, Time now) {
  const std::size_t bytes = events.size();
  const Time due = charge(*member, bytes, now);
  batch.last = member->accepted;
  batch.events = std::move(events);
  member->expect(bytes);
  journal_.append(std::move(batch), [this, member, last = member->accepted, bytes, due, now] {
    if (!member->stored(last, bytes, due, now)) return;
    const std::lock_guard lock(late_mutex_);
    late_.push_back(member);
  });
}

TokenBucket& Tracker::budget_of(const std::string& function, Time now) {
  const TokenBucket fresh(budgets_.function_per_second, budgets_.function_burst, now);
  return function_budgets_.try_emplace(function, fresh).first->second;
}

// When the guard may go on: until then it is not told that what it has sent is stored.
Time Tracker::charge(Member& member, std::size_t bytes, Time now) {
  TokenBucket& function = budget_of(member.function, now);
  const auto count = static_cast<double>(bytes + limits::kStoredRowBytes);
  member.budget.charge(count, 2 * limits::kGuardDebtBytesMax, now);
  function.charge(count, 2 * limits::kFunctionDebtBytesMax, now);
  return now + std::max(member.budget.until(0, now), function.until(0, now));
}

bool Tracker::has_overdrawn(Member& member, Time now) {
  return member.budget.available(now) < -limits::kGuardDebtBytesMax ||
         budget_of(member.function, now).available(now) < -limits::kFunctionDebtBytesMax;
}

void Tracker::tell_taken(Time now) {
  const std::lock_guard lock(late_mutex_);
  std::erase_if(late_, [&](const auto& member) { return !member->tell_taken(now); });
}

void Tracker::apply(Member& member, const v1alpha1::Event& event, EventBatch& batch, Time now) {
  member.accepted = event.sequence();
  ++figures_.events;
  batch.earliest = std::min(batch.earliest, time_of(event, now));
  const Source source = source_of(member);
  if (state_ && source.function != ApplicationGraph::kNone) state_->apply(source, event, now, outcome_);
  if (!event.has_exchange()) {
    batch.decisions |= kNoDecision;
    note_trouble(member, event, now);
    return;
  }
  batch.decisions |= 1U << std::min(static_cast<unsigned>(event.exchange().decision()), 31U);
  rates_.count({member.id, number_of(member.function)}, event.exchange(), now, halts_);
  note_denial(member, event.exchange(), now);
}

// What a guard says of itself matters of functions that stand in no graph as well.
void Tracker::note_trouble(const Member& member, const v1alpha1::Event& event, Time now) {
  const auto raise = [&](AlarmKind kind, std::string text) {
    alarms_.raise({application_, std::string(to_string(kind)), member.function, "", now, now, 1, std::move(text)});
  };
  if (const std::string& incomplete = event.execution_ended().incomplete(); !incomplete.empty()) {
    raise(AlarmKind::incomplete, incomplete);
  }
  if (!event.has_lost()) return;
  raise(AlarmKind::events_lost, "the guard has dropped " + std::to_string(event.lost().events()) + " events, " +
                                    std::to_string(event.lost().denials()) + " denials among them");
}

void Tracker::note_denial(const Member& member, const v1alpha1::Exchange& exchange, Time now) {
  const bool denied = exchange.decision() == v1alpha1::DECISION_DENY;
  if (!denied && exchange.decision() != v1alpha1::DECISION_WOULD_DENY) return;
  const std::string& reason = exchange.reason();
  std::string kind = is_about_a_credential(reason) ? reason : denied ? "denied" : "would-deny";
  std::string about = reason;
  if (!exchange.endpoint().empty()) about += " at " + exchange.endpoint();
  // What it was the last time.
  const auto& sent = exchange.operation();
  std::string text = sent.method().empty() ? "" : sent.method() + " ";
  text += sent.host() + sent.path();
  text += (text.empty() ? "" : ": ") + exchange.text();
  alarms_.raise({application_, std::move(kind), member.function, std::move(about), now, now, 1, std::move(text)});
}

std::vector<Tracker::Bucket> Tracker::buckets_of(const v1alpha1::Limit& limit, Time now) {
  const std::lock_guard lock(mutex_);
  const bool of_function = limit.scope() == v1alpha1::LIMIT_SCOPE_FUNCTION;
  std::vector<Bucket> out;
  for (const RateTable::BucketFigures& each : rates_.figures(limit.name(), now)) {
    out.push_back({of_function ? names_[each.function] : std::string(), each});
  }
  return out;
}

v1alpha1::Lease Tracker::lease(const Member& member, const v1alpha1::LeaseAsk& ask, Time now) {
  const std::lock_guard lock(mutex_);
  const RateTable::Lease lease = rates_.lease(ask.limit(), {member.id, number_of(member.function)}, ask.wanted(), now);
  v1alpha1::Lease out;
  out.set_number(ask.number());
  out.set_limit(ask.limit());
  out.set_granted(lease.granted);
  out.set_lifetime_ms(static_cast<std::uint32_t>(lease.lifetime.count()));
  out.set_retry_after_ms(static_cast<std::uint32_t>(lease.retry_after.count()));
  return out;
}

void Tracker::deliver(Time now) {
  for (Answer& each : outcome_.answers) answer(each);
  for (Alarm& alarm : outcome_.alarms) {
    alarms_.raise({application_, std::string(to_string(alarm.kind)), std::move(alarm.function), "", now, now, 1,
                   std::move(alarm.text)});
  }
  outcome_.clear();
}

void Tracker::tell_halts(std::vector<Halted>& halted) {
  for (RateTable::Halt& halt : halts_) {
    Halted out;
    if (halt.scope == v1alpha1::LIMIT_SCOPE_FUNCTION) out.function = names_[halt.function];
    out.halt.set_limit(std::move(halt.limit));
    out.halt.set_halted(halt.halted);
    out.halt.set_retry_after_ms(static_cast<std::uint32_t>(halt.retry_after.count()));
    halted.push_back(std::move(out));
  }
  halts_.clear();
}

void Tracker::advance(Time now, std::vector<Halted>& halted) {
  tell_taken(now);
  const std::lock_guard lock(mutex_);
  if (state_) state_->advance(now, outcome_);
  rates_.advance(now, halts_);
  deliver(now);
  tell_halts(halted);
}

std::optional<Time> Tracker::next_due() const {
  const std::lock_guard lock(mutex_);
  return state_ ? state_->next_due() : std::nullopt;
}

Tracker::Figures Tracker::figures() const {
  const std::lock_guard lock(mutex_);
  Figures out = figures_;
  if (state_) {
    out.executions = state_->executions();
    out.flows = state_->flows();
    out.waiting = state_->waiting();
  }
  return out;
}

}  // namespace sallyport::controller
