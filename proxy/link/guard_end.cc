#include "proxy/link/guard_end.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/limits.h"
#include "base/random.h"
#include "proxy/link/wire_text.h"

namespace sallyport::link {

using api::Envelope;
using net::Deadline;
using net::Task;

namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kGuardIdBytes = 16;
constexpr std::size_t kEnvelopeBytes = 64;  // around one event, at most

Error unavailable(std::string text) { return {ErrorSource::controller, ErrorKind::unavailable, std::move(text)}; }

std::unexpected<Error> malformed(std::string_view text) {
  return fail(ErrorSource::controller, ErrorKind::malformed, "the controller " + std::string(text));
}

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// From half of it to all of it, so that guards that lost one controller do not all come back at one moment. Without
// randomness they do.
net::Clock::duration jittered(net::Clock::duration wait) {
  std::array<unsigned char, 2> bytes{};
  if (!random_bytes(bytes)) return wait;
  return wait / 2 + wait * (bytes[0] << 8 | bytes[1]) / (2 * 0xFFFF);
}

}  // namespace

GuardEnd::GuardEnd(Registration registration, LinkHandlers handlers)
    : registration_(std::move(registration)), handlers_(std::move(handlers)), beat_now_(loop_) {
  keep_protobuf_quiet();
  // Finer than the loop's own timers. Without it events are sent one by one.
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (timer) timer_ = std::make_unique<net::Socket>(loop_, std::move(timer));
  status_.since = net::Clock::now();
}

GuardEnd::~GuardEnd() = default;

void GuardEnd::start() {
  thread_ = std::thread([this] {
    if (timer_) loop_.spawn(tick(*this));
    loop_.spawn(beat(*this));
    loop_.spawn(run());
    loop_.run();
    loop_.drop_tasks();
    down(unavailable("the link to the controller has been ended"));
  });
}

void GuardEnd::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  loop_.post([this] { loop_.spawn(finish(*this)); });
  thread_.join();
}

Task<void> GuardEnd::finish(GuardEnd& self) {
  if (self.up_) {
    Envelope goodbye;
    goodbye.mutable_goodbye();
    self.transmit(goodbye.SerializeAsString());
  }
  self.hang_up();
  const Deadline last = self.loop_.in(limits::kLinkCloseTimeout / 4);
  while (self.up_ && self.loop_.now() < last) co_await self.loop_.sleep_until(self.loop_.in(limits::kDrainTick));
  self.loop_.stop();
}

template <class Ask, class Answer>
Task<Result<Answer>> GuardEnd::wait_for_answer(net::Loop& loop, Ask ask, Deadline deadline,
                                               std::vector<Asked<Ask, Answer>> Inbox::* queue) {
  if (!connected_.load(std::memory_order_acquire)) {
    co_return std::unexpected(unavailable("the controller can't be asked: " + status().text));
  }
  const auto waiting = std::make_shared<WaitingAsk<Answer>>(loop);
  const Withdrawal<Answer> withdrawal(asks_open_, waiting);
  if (*asks_open_ > limits::kLinkAsksMax || ask.ByteSizeLong() > limits::kLinkAskBytesMax) {
    co_return fail(ErrorSource::controller, ErrorKind::limit,
                   "the controller can't be asked: too much waits for its answer, or the message is too large");
  }
  // Not made so: the answer would be about something else.
  if (!all_utf8(ask)) {
    co_return fail(ErrorSource::controller, ErrorKind::invalid,
                   "the controller can't be asked: there are bytes in the message that are not UTF-8");
  }
  hand_over(true, [&](Inbox& inbox) { (inbox.*queue).push_back({std::move(ask), waiting}); });
  const net::Wait wait = co_await waiting->answered.wait(deadline);
  if (wait != net::Wait::ready) {
    co_return fail(ErrorSource::controller, ErrorKind::timeout, "the controller has not answered in time");
  }
  co_return std::move(*waiting->result);
}

Task<Result<api::EntryAnswer>> GuardEnd::ask(net::Loop& loop, api::EntryAsk ask, Deadline deadline) {
  return wait_for_answer(loop, std::move(ask), deadline, &Inbox::asks);
}

Task<Result<api::Lease>> GuardEnd::lease(net::Loop& loop, api::LeaseAsk ask, Deadline deadline) {
  return wait_for_answer(loop, std::move(ask), deadline, &Inbox::leases);
}

void GuardEnd::report(api::Event event) {
  event.clear_sequence();
  if (!all_utf8(event)) make_utf8(event);
  const Worth worth = worth_of(event);
  const bool at_once = event.has_flow_began();
  std::string bytes = event.SerializeAsString();
  if (bytes.size() + kEnvelopeBytes > limits::kLinkMessageBytesMax && event.has_execution_ended()) {
    event.mutable_execution_ended()->clear_trace();
    bytes = event.SerializeAsString();
  }
  ++reports_;
  hand_over(at_once, [&](Inbox& inbox) { keep(std::move(bytes), worth, inbox); });
}

void GuardEnd::keep(std::string event, Worth worth, Inbox& inbox) {
  const bool fits = event.size() + kEnvelopeBytes <= limits::kLinkMessageBytesMax &&
                    inbox.events.size() < limits::kSpoolEventsMax &&
                    inbox.event_bytes + event.size() <= limits::kSpoolBytesMax;
  if (!fits) {
    ++inbox.lost[static_cast<std::size_t>(worth)];
    return;
  }
  inbox.event_bytes += event.size();
  inbox.events.push_back({std::move(event), worth});
}

// The link's thread is woken once for all that comes before it looks.
template <class Put>
void GuardEnd::hand_over(bool at_once, Put put) {
  bool pump_it = false, arm_it = false;
  {
    const std::lock_guard lock(mutex_);
    put(inbox_);
    if (at_once || inbox_.events.size() >= limits::kSpoolBatchEvents) {
      pump_it = !std::exchange(pump_wanted_, true);
    } else if (!pump_wanted_) {
      arm_it = !std::exchange(timer_wanted_, true);
    }
  }
  if (pump_it) {
    loop_.post([this] { pump(); });
  } else if (arm_it) {
    loop_.post([this] { arm(); });
  }
}

void GuardEnd::send_later(Envelope envelope) {
  hand_over(true, [&](Inbox& inbox) { inbox.others.push_back(std::move(envelope)); });
}

void GuardEnd::arm() {
  constexpr auto kDelay = std::chrono::nanoseconds(limits::kSpoolBatchDelay);
  const itimerspec when{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = kDelay.count()}};
  if (!timer_ || ::timerfd_settime(timer_->fd(), 0, &when, nullptr) != 0) pump();
}

Task<void> GuardEnd::tick(GuardEnd& self) {
  for (;;) {
    const net::Wait wait = co_await self.timer_->wait_readable(net::kNoDeadline);  // nothing may be reported for hours
    if (wait != net::Wait::ready) co_return;
    std::uint64_t times = 0;
    [[maybe_unused]] const auto got = ::read(self.timer_->fd(), &times, sizeof times);
    self.pump();
  }
}

Task<void> GuardEnd::beat(GuardEnd& self) {
  for (;;) {
    if (self.up_) {
      Envelope envelope;
      envelope.mutable_beat()->set_executions_open(self.executions_open_);
      self.transmit(envelope.SerializeAsString());
      self.probe();
    }
    self.asks_.forget_withdrawn();
    self.leases_.forget_withdrawn();
    // From each registering on anew: a controller that wants them more often than the one before may not wait for them.
    self.beat_now_.reset();
    co_await self.beat_now_.wait(self.loop_.in(self.up_ ? self.beat_ : limits::kLinkBeatMax));
  }
}

template <class Ask, class Answer, class Put>
void GuardEnd::send_asks(std::vector<Asked<Ask, Answer>>& asked, PendingAsks<Answer>& pending, Put put) {
  for (Asked<Ask, Answer>& one : asked) {
    // Answered at once: who asks knows what to do without a controller, and it may not wait for one.
    if (!up_ || backlog() > limits::kLinkQueuedBytesMax) {
      WaitingAsk<Answer>::wake(one.waiting, std::unexpected(unavailable("the controller can't be asked now")));
      continue;
    }
    one.ask.set_number(++number_);
    pending.add(number_, std::move(one.waiting));
    Envelope envelope;
    put(envelope, std::move(one.ask));
    envelope.SerializeToString(&scratch_);
    transmit(scratch_);
  }
}

void GuardEnd::pump() {
  Inbox inbox;
  {
    const std::lock_guard lock(mutex_);
    std::swap(inbox, inbox_);
    pump_wanted_ = timer_wanted_ = false;
  }
  for (Reported& reported : inbox.events) spool_.add(std::move(reported.event), reported.worth);
  std::uint64_t lost = 0;
  for (std::size_t worth = 0; worth < inbox.lost.size(); ++worth) {
    for (std::uint64_t i = 0; i < inbox.lost[worth]; ++i) spool_.count_lost(static_cast<Worth>(worth));
    lost += inbox.lost[worth];
  }
  // What was reported before an ask is there before it.
  send_events();
  send_asks(inbox.asks, asks_,
            [](Envelope& envelope, api::EntryAsk ask) { *envelope.mutable_entry_ask() = std::move(ask); });
  send_asks(inbox.leases, leases_,
            [](Envelope& envelope, api::LeaseAsk ask) { *envelope.mutable_lease_ask() = std::move(ask); });
  for (const Envelope& envelope : inbox.others) {
    if (up_) transmit(envelope.SerializeAsString());
  }
  const std::uint64_t moved = inbox.events.size() + lost;
  if (moved == 0) return;
  {
    const std::lock_guard lock(told_mutex_);
    reported_ += moved;
  }
  publish_figures();
}

void GuardEnd::send_events() {
  if (!up_) return;
  while (backlog() < limits::kLinkQueuedBytesPause && spool_.next_batch(scratch_, unix_seconds())) transmit(scratch_);
  // Looked at again when some of it may be out: what is left to send waits for nothing else.
  if (backlog() >= limits::kLinkQueuedBytesPause && spool_.unsent() > 0) arm();
}

void GuardEnd::publish_figures() {
  const std::lock_guard lock(told_mutex_);
  figures_.events_taken = spool_.last_taken();
  figures_.events_acknowledged = spool_.acknowledged();
  figures_.events_waiting = spool_.waiting();
  figures_.bytes_waiting = spool_.bytes();
  figures_.events_lost = spool_.lost();
  figures_.denials_lost = spool_.lost_denials();
  told_.notify_all();
}

bool GuardEnd::flush(std::chrono::milliseconds at_most) {
  const std::uint64_t until = reports_;
  hand_over(true, [](Inbox&) {});
  std::unique_lock lock(told_mutex_);
  return told_.wait_for(lock, at_most, [&] { return reported_ >= until && figures_.events_waiting == 0; });
}

void GuardEnd::update_taken(std::uint64_t generation, std::string refusal) {
  if (refusal.empty()) generation_ = generation;
  Envelope envelope;
  envelope.mutable_update_taken()->set_generation(generation);
  envelope.mutable_update_taken()->set_refusal(std::move(refusal));
  make_utf8(envelope);
  send_later(std::move(envelope));
}

bool GuardEnd::renew(std::string certificate_request) {
  if (!connected_) return false;
  Envelope envelope;
  envelope.mutable_renew()->set_certificate_request(std::move(certificate_request));
  send_later(std::move(envelope));
  return true;
}

LinkStatus GuardEnd::status() const {
  const std::lock_guard lock(told_mutex_);
  return status_;
}

LinkFigures GuardEnd::figures() const {
  const std::lock_guard lock(told_mutex_);
  LinkFigures figures = figures_;
  figures.unknown = unknown_;
  figures.registrations = registrations_;
  return figures;
}

void GuardEnd::set_state(LinkState state, std::string text) {
  LinkStatus status;
  {
    const std::lock_guard lock(told_mutex_);
    if (status_.state != state) status_.since = net::Clock::now();
    status_.state = state;
    status_.text = std::move(text);
    status = status_;
  }
  if (handlers_.on_state) handlers_.on_state(status);
}

net::Clock::duration GuardEnd::silence_max() const { return limits::kLinkBeatsMissedMax * beat_; }

Result<Envelope> GuardEnd::register_envelope() {
  Result<api::Register> wanted = registration_();
  if (!wanted) return std::unexpected(std::move(wanted.error()));
  if (!all_utf8(*wanted)) {
    return fail(ErrorSource::controller, ErrorKind::invalid, "what the guard is registered with is not UTF-8");
  }
  wanted->set_version(kVersion);
  wanted->set_guard_id(guard_id_);
  wanted->set_generation(generation_);
  Envelope envelope;
  *envelope.mutable_register_() = std::move(*wanted);
  return envelope;
}

Result<void> GuardEnd::registered(const api::Registered& message) {
  if (message.guard_id().size() != kGuardIdBytes) return malformed("gives an id that is none");
  const bool new_id = message.guard_id() != guard_id_;
  if (new_id) {
    guard_id_ = message.guard_id();
    spool_.number_anew();
  } else {
    spool_.send_again();
  }
  // Under a new id nothing was ever sent.
  const bool possible = new_id ? message.events_taken() == 0 : spool_.taken(message.events_taken());
  if (!possible) {
    // Under this id it would take what comes for what it has. The next one is new.
    guard_id_.clear();
    return malformed("has taken events that were never sent");
  }
  beat_ = std::clamp(std::chrono::milliseconds(message.beat_ms()), limits::kLinkBeatMin, limits::kLinkBeatMax);
  up_ = was_up_ = true;
  ++registrations_;
  useless_ = false;
  wait_ = {};
  beat_now_.set();
  connected_.store(true, std::memory_order_release);
  set_state(LinkState::connected, {});
  if (handlers_.on_registered) handlers_.on_registered(message);
  pump();
  publish_figures();
  return {};
}

Result<void> GuardEnd::refused(const api::Refused& message) {
  const bool elsewhere = message.reason() == api::REFUSED_REASON_ELSEWHERE;
  if (elsewhere) elsewhere_ = message.url();
  // A person may mend it meanwhile: it is tried again, seldom.
  useless_ = message.reason() != api::REFUSED_REASON_OVERLOADED && !elsewhere;
  if (!useless_ && !elsewhere) wait_ = limits::kLinkReconnectMax;
  std::string text = "the controller refuses this guard (" + api::RefusedReason_Name(message.reason()) + ")";
  if (!message.text().empty()) text += ": " + message.text();
  return fail(ErrorSource::controller, ErrorKind::refused, std::move(text));
}

Result<void> GuardEnd::received(Envelope&& envelope) {
  if (envelope.has_refused()) return refused(envelope.refused());
  if (envelope.body_case() == Envelope::BODY_NOT_SET) {
    ++unknown_;
    return {};
  }
  if (up_ == envelope.has_registered()) return malformed("says what is not its turn");
  if (!up_) return registered(envelope.registered());
  return take_known(envelope);
}

Result<void> GuardEnd::take_known(Envelope& envelope) {
  switch (envelope.body_case()) {
    case Envelope::kEntryAnswer: {
      const std::uint64_t number = envelope.entry_answer().number();
      asks_.answer(number, std::move(*envelope.mutable_entry_answer()));
      return {};
    }
    case Envelope::kLease: {
      const std::uint64_t number = envelope.lease().number();
      leases_.answer(number, std::move(*envelope.mutable_lease()));
      return {};
    }
    case Envelope::kEventsTaken:
      if (!spool_.taken(envelope.events_taken().sequence())) return malformed("has taken events that were never sent");
      send_events();
      publish_figures();
      return {};
    case Envelope::kUpdate:
      if (handlers_.on_update) handlers_.on_update(std::move(*envelope.mutable_update()));
      return {};
    case Envelope::kHalt:
      if (handlers_.on_halt) handlers_.on_halt(envelope.halt());
      return {};
    case Envelope::kRenewed:
      if (handlers_.on_renewed) handlers_.on_renewed(envelope.renewed());
      return {};
    case Envelope::kRegister:
    case Envelope::kRegistered:
    case Envelope::kRefused:
    case Envelope::kEntryAsk:
    case Envelope::kEvents:
    case Envelope::kUpdateTaken:
    case Envelope::kBeat:
    case Envelope::kLeaseAsk:
    case Envelope::kRenew:
    case Envelope::kGoodbye:
    case Envelope::BODY_NOT_SET:
      break;
  }
  return malformed("says what only guards say");
}

void GuardEnd::down(const Error& why) {
  connected_.store(false, std::memory_order_release);
  up_ = false;
  const Error error = unavailable(why.text);
  asks_.give_up(error);
  leases_.give_up(error);
  set_state(useless_ ? LinkState::refused : was_up_ ? LinkState::lost : LinkState::connecting, why.text);
  pump();  // who asked just before must not wait
}

net::Clock::duration GuardEnd::next_wait() {
  if (useless_) return jittered(limits::kLinkRefusedWait);
  wait_ = std::clamp<net::Clock::duration>(2 * wait_, limits::kLinkReconnectMin, limits::kLinkReconnectMax);
  return jittered(wait_);
}

}  // namespace sallyport::link
