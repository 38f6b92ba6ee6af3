#include "proxy/guard/membership.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/intercepted_hosts.h"
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

// Certificates are of the machine's clock, whatever that does.
ca::TimePoint today() { return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()); }

}  // namespace

link::LinkHandlers Membership::handlers() {
  link::LinkHandlers handlers;
  handlers.on_registered = [this](const link_api::Registered& message) { on_registered(message); };
  handlers.on_update = [this](link_api::Update&& update) {
    const std::lock_guard lock(mutex_);
    offered_generation_ = update.generation();
    pending_ = std::move(update);
    changed_.notify_all();
  };
  handlers.on_halt = [this](const link_api::Halt& halt) { on_halt(halt); };
  handlers.on_renewed = [this](const link_api::Renewed& renewed) {
    const std::lock_guard lock(mutex_);
    if (!certificate_) return;
    certificate_->offer(renewed);
    certificate_came_ = true;
    changed_.notify_all();
  };
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
  if (certificate_ && message.has_certificate()) {
    certificate_->offer(message.certificate());
    certificate_came_ = true;
    changed_.notify_all();
  }
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

Membership::Figures Membership::figures() const {
  Figures figures;
  figures.link = link_->figures();
  figures.connected = link_->status().state == link::LinkState::connected;
  const std::lock_guard lock(mutex_);
  if (known_.terms) figures.generation = known_.terms->generation;
  figures.offered_generation = offered_generation_;
  figures.updates_refused = updates_refused_;
  if (certificate_ && certificate_->authority() != nullptr) {
    figures.certificate_end = certificate_->authority()->not_after();
  }
  return figures;
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
  if (held_) {
    why = "it has given no certificate for this function" +
          (certificate_->refusal().empty() ? "" : ": " + certificate_->refusal());
  }
  return {ErrorSource::controller, ErrorKind::unavailable, "the controller " + options_.controller + ": " + why};
}

Result<PolicyFile> Membership::first_policy(std::chrono::milliseconds at_most) {
  const net::Deadline last = net::Clock::now() + at_most;
  std::unique_lock lock(mutex_);
  while (true) {
    read_pending(lock);
    look_after_certificate(lock);
    if (held_is_ready()) {
      UpdateLoad load = std::move(*std::exchange(held_, std::nullopt));
      known_ = {load.policy.snapshot, load.policy.graph, load.terms};
      return std::move(load.policy);
    }
    const bool came = changed_.wait_until(lock, certificate_ ? std::min(last, next_look()) : last, [this] {
      return pending_ || certificate_came_ || link_->status().state == link::LinkState::refused;
    });
    const bool news = pending_ || certificate_came_;
    if (!news && (came || net::Clock::now() >= last)) return std::unexpected(none_came());
  }
}

Result<ca::Authority> Membership::authority() const {
  const std::lock_guard lock(mutex_);
  const ca::Authority& given = *certificate_->authority();
  return given.clone_into(given.lib());
}

std::string Membership::trusted() const {
  const std::lock_guard lock(mutex_);
  return certificate_->trusted();
}

std::string Membership::certificate_request() {
  const std::lock_guard lock(mutex_);
  if (!certificate_ || today() < certificate_->ask_at()) return {};
  certificate_->asked(today());
  return certificate_->request();
}

void Membership::start(Put put, Say say, PutCertificate put_certificate) {
  put_ = std::move(put);
  put_certificate_ = std::move(put_certificate);
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

// Under the lock. The machine's clock may be set meanwhile, and nobody tells of it.
net::Deadline Membership::next_look() const {
  constexpr auto kMost = std::chrono::seconds(60);
  if (!certificate_) return net::Clock::now() + std::chrono::hours(24);
  const ca::TimePoint now = today();
  ca::TimePoint next = certificate_->ask_at();
  if (const auto* authority = certificate_->authority(); authority != nullptr && now < authority->not_after()) {
    next = std::min(next, authority->not_after());
  }
  return net::Clock::now() + std::clamp<std::chrono::seconds>(next - now, std::chrono::seconds(1), kMost);
}

void Membership::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    read_pending(lock);
    look_after_certificate(lock);
    const auto due = expires_at();
    const bool back = expired_ && !lost_since_;
    const bool over = due && net::Clock::now() >= *due;
    if (held_is_ready()) {
      UpdateLoad load = std::move(*std::exchange(held_, std::nullopt));
      lock.unlock();
      take(std::move(load));
      lock.lock();
    } else if (back || over) {
      lock.unlock();
      put(over);
      lock.lock();
    } else if (!pending_ && !certificate_came_ && !stopping_) {
      changed_.wait_until(lock, due ? std::min(*due, next_look()) : next_look());
    }
  }
}

// Lets go of the lock while it reads.
void Membership::read_pending(std::unique_lock<std::mutex>& lock) {
  while (pending_) {
    link_api::Update update = std::move(*std::exchange(pending_, std::nullopt));
    const std::uint64_t generation = update.generation();
    const std::string trusted = update.trusted();
    // Also where the policy is refused: who is not trusted any more does not become so by that.
    const bool other = certificate_ && certificate_->trust(trusted, today());
    lock.unlock();
    if (other && put_trusted_) put_trusted_(trusted);
    UpdateLoad load = read(std::move(update));
    if (say_) {
      for (const document::Diagnostic& diagnostic : load.policy.diagnostics) say_(diagnostic.to_string());
    }
    if (!load.refusal.empty()) {
      if (say_) {
        say_("the controller's policy, generation " + std::to_string(generation) +
             ", was refused; the one before stays in force");
      }
      link_->update_taken(generation, load.refusal);
    }
    lock.lock();
    refusal_ = load.refusal;
    if (!load.refusal.empty()) {
      ++updates_refused_;
      continue;
    }
    if (certificate_) certificate_->want(document::intercepted_hosts(*load.policy.snapshot), today());
    held_ = std::move(load);
  }
}

// Lets go of the lock to hand a certificate out, which is before the policy that it is for.
void Membership::look_after_certificate(std::unique_lock<std::mutex>& lock) {
  if (!certificate_) return;
  const ca::TimePoint now = today();
  const bool came = std::exchange(certificate_came_, false);
  std::shared_ptr<const std::string> put;
  if (certificate_->settle(now))
    put = std::make_shared<const std::string>(certificate_->authority()->certificate_pem());
  const std::string refusal = came ? certificate_->refusal() : "";
  // The policy before stays in force, and the controller is told why.
  const std::uint64_t waits = !refusal.empty() && held_ ? held_->terms->generation : 0;
  const bool over = certificate_->expired(now);
  const bool ended = over && !std::exchange(certificate_over_, over);
  if (!over) certificate_over_ = false;
  // Without a connection the next Register asks.
  if (now >= certificate_->ask_at() && link_->renew(certificate_->request())) certificate_->asked(now);
  lock.unlock();
  if (put && put_certificate_) put_certificate_(std::move(put));
  if (waits != 0) link_->update_taken(waits, "it waits for a certificate that is for its hosts: " + refusal);
  if (say_ && !refusal.empty()) say_("the controller " + options_.controller + " gives no certificate: " + refusal);
  if (say_ && ended) say_("the guard's certificate has expired: nothing is served over TLS until there is a new one");
  lock.lock();
}

bool Membership::held_is_ready() const { return held_ && (!certificate_ || certificate_->fits()); }

void Membership::take(UpdateLoad&& load) {
  const std::uint64_t generation = load.terms->generation;
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
