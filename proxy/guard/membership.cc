#include "proxy/guard/membership.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/diagnostics.h"
#include "proxy/guard/event.h"

namespace sallyport::guard {
namespace {

std::string text_of(const link::LinkStatus& status) {
  switch (status.state) {
    case link::LinkState::connecting:
      return "it could not be connected to" + (status.text.empty() ? "" : ": " + status.text);
    case link::LinkState::connected:
      return "it has sent no policy for this function";
    case link::LinkState::lost:
      return "the connection was lost" + (status.text.empty() ? "" : ": " + status.text);
    case link::LinkState::refused:
      return status.text;
  }
  return status.text;
}

}  // namespace

link::LinkHandlers Membership::handlers() {
  link::LinkHandlers handlers;
  handlers.on_registered = [this](const link_api::Registered& message) { on_registered(message); };
  handlers.on_update = [this](link_api::Update&& update) {
    const std::lock_guard lock(mutex_);
    pending_ = std::move(update);
    changed_.notify_all();
  };
  handlers.on_halt = [this](const link_api::Halt& halt) { on_halt(halt); };
  handlers.on_state = [this](const link::LinkStatus& status) { on_state(status); };
  return handlers;
}

void Membership::on_state(const link::LinkStatus& status) {
  const std::lock_guard lock(mutex_);
  if (status.state == link::LinkState::connected) {
    lost_since_.reset();
  } else if (!lost_since_) {
    lost_since_ = net::Clock::now();
  }
  changed_.notify_all();
}

void Membership::on_registered(const link_api::Registered& message) {
  const std::lock_guard lock(mutex_);
  std::copy_n(message.guard_id().begin(), std::min(message.guard_id().size(), guard_id_.size()), guard_id_.begin());
  // A RESUME may have got lost with the connection. Where leases are needed none is granted before it; the others'
  // halts are said again if they still hold.
  if (!known_.terms) return;
  for (const MemberLimit& limit : known_.terms->limits) {
    if (limit.bucket) limit.halt->resume();
  }
}

void Membership::on_halt(const link_api::Halt& halt) {
  const std::shared_ptr<HaltSwitch> of = halt_of(halt.limit());
  if (!of) return;  // as many names as there may be, and this is none of a limit in force
  if (halt.halted()) {
    of->halt((net::Clock::now() + std::chrono::milliseconds(halt.retry_after_ms())).time_since_epoch());
  } else {
    of->resume();
  }
}

// A halt may come before the update that has its limit is in force.
std::shared_ptr<HaltSwitch> Membership::halt_of(const std::string& limit) {
  const std::lock_guard lock(mutex_);
  const auto found = halts_.find(limit);
  if (found != halts_.end()) return found->second;
  if (halts_.size() >= 3 * limits::kMemberLimitsMax) return nullptr;
  return halts_[limit] = std::make_shared<HaltSwitch>();
}

// Those that nobody but the map has belong to no limit.
void Membership::forget_halts() {
  const std::lock_guard lock(mutex_);
  std::erase_if(halts_, [](const auto& one) { return one.second.use_count() == 1; });
}

std::shared_ptr<const Terms> Membership::terms() const {
  const std::lock_guard lock(mutex_);
  return known_.terms;
}

tag::GuardId Membership::guard_id() const {
  const std::lock_guard lock(mutex_);
  return guard_id_;
}

UpdateLoad Membership::read(link_api::Update&& update) {
  InForce known;
  {
    const std::lock_guard lock(mutex_);
    known = known_;
  }
  // Limits of an update are as many as there may be: a switch of their own is what they get at worst.
  const HaltOf halt_of = [this](const std::string& limit) {
    std::shared_ptr<HaltSwitch> found = this->halt_of(limit);
    return found ? found : std::make_shared<HaltSwitch>();
  };
  return read_update(std::move(update), options_.of, options_.context, known.policy.get(), known.terms.get(), halt_of);
}

Error Membership::none_came() const {
  std::string why = refusal_.empty() ? text_of(link_->status()) : "its policy can't be used: " + refusal_;
  return {ErrorSource::controller, ErrorKind::unavailable, "the controller " + options_.controller + ": " + why};
}

Result<PolicyFile> Membership::first_policy(std::chrono::milliseconds at_most) {
  const net::Deadline last = net::Clock::now() + at_most;
  std::unique_lock lock(mutex_);
  while (true) {
    const bool came = changed_.wait_until(
        lock, last, [this] { return pending_.has_value() || link_->status().state == link::LinkState::refused; });
    if (!came || !pending_) return std::unexpected(none_came());
    link_api::Update update = std::move(*std::exchange(pending_, std::nullopt));
    const std::uint64_t generation = update.generation();
    lock.unlock();
    UpdateLoad load = read(std::move(update));
    if (!load.refusal.empty()) link_->update_taken(generation, load.refusal);
    lock.lock();
    refusal_ = load.refusal;
    if (!load.refusal.empty()) continue;
    known_ = {load.policy.snapshot, load.policy.graph, load.terms};
    return std::move(load.policy);
  }
}

void Membership::start(Put put, Say say) {
  put_ = std::move(put);
  say_ = std::move(say);
  link_->update_taken(terms()->generation, {});
  thread_ = std::thread([this] { run(); });
}

void Membership::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

// Under the lock. Nothing: what is in force does not expire, or has.
std::optional<net::Deadline> Membership::expires_at() const {
  const bool ends = lost_since_ && !expired_ && known_.terms->lifetime.count() > 0;
  return ends ? std::optional(*lost_since_ + known_.terms->lifetime) : std::nullopt;
}

void Membership::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto due = expires_at();
    const bool back = expired_ && !lost_since_;
    const bool over = due && net::Clock::now() >= *due;
    if (pending_) {
      link_api::Update update = std::move(*std::exchange(pending_, std::nullopt));
      lock.unlock();
      take(std::move(update));
      lock.lock();
    } else if (back || over) {
      lock.unlock();
      put(over);
      lock.lock();
    } else if (due) {
      changed_.wait_until(lock, *due);
    } else {
      changed_.wait(lock);
    }
  }
}

void Membership::take(link_api::Update update) {
  const std::uint64_t generation = update.generation();
  UpdateLoad load = read(std::move(update));
  for (const document::Diagnostic& diagnostic : load.policy.diagnostics) say_(diagnostic.to_string());
  if (!load.refusal.empty()) {
    say_("the controller's policy, generation " + std::to_string(generation) +
         ", was refused; the one before stays in force");
    link_->update_taken(generation, std::move(load.refusal));
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    known_ = {load.policy.snapshot, load.policy.graph, load.terms};
  }
  put(false);
  link_->update_taken(generation, {});
  forget_halts();
}

// What is known, or what stands in its place once it has expired. Where nothing is enforced nothing is refused: the
// terms say it, and records with them.
void Membership::put(bool expired) {
  InForce now;
  {
    const std::lock_guard lock(mutex_);
    now = known_;
    expired_ = expired;
  }
  if (expired) {
    auto terms = std::make_shared<Terms>(*now.terms);
    terms->expired = true;
    const std::string text = "The controller has been gone for longer than its policy may be used without it (" +
                             std::to_string(terms->lifetime.count()) + " s).";
    now.terms = std::move(terms);
    if (now.policy->mode() == document::Mode::enforce) {
      now.policy = document::Snapshot::refusing(now.policy, Reason::policy_expired, text);
    }
    say_("the controller " + options_.controller + " is gone, and its policy has expired");
  }
  put_(now);
}

void Membership::execution_began(const Began& began) {
  link_api::Event event = event_now();
  link_api::ExecutionBegan& out = *event.mutable_execution_began();
  out.set_execution(bytes_of(began.execution));
  out.set_request_id(bytes_of(began.request));
  if (began.inbound != nullptr) *out.mutable_inbound() = *began.inbound;
  if (began.tag != nullptr) *out.mutable_sender() = sender_of(*began.tag);
  out.set_asked(began.asked);
  link_->report(std::move(event));
}

void Membership::entry_given_up(const ExecutionId& execution, const ExecutionId& request) {
  link_api::Event event = event_now();
  link_api::ExecutionEnded& out = *event.mutable_execution_ended();
  out.set_execution(bytes_of(execution));
  out.set_request_id(bytes_of(request));
  out.set_end(flow::v1alpha1::EXECUTION_END_CUT);
  link_->report(std::move(event));
}

void Membership::flow_began(const Record& record) { link_->report(flow_began_of(record)); }

void Membership::ended(const Record& record) { link_->report(event_of(record)); }

}  // namespace sallyport::guard
