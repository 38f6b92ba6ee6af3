#pragma once
// For tests: a controller whose answers are scripted, in the same process as the guard that is linked to it. The link
// is a real one: the same registering, spool and numbers as over the network.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "controller/link/local_link.h"
#include "proxy/guard/membership.h"
#include "proxy/guard/test_update.h"

namespace sallyport::guard::testing {

using namespace std::chrono_literals;
using controller::LinkId;
using controller::Links;

inline bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds at_most = 20s) {
  const auto last = std::chrono::steady_clock::now() + at_most;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > last) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

// Whatever is set here is read on the link's thread, under the mutex.
class ScriptedController final : public controller::LinkHandler {
 public:
  using Ask = std::function<std::optional<link_api::EntryAnswer>(const link_api::EntryAsk&)>;
  using LeaseOf = std::function<std::optional<link_api::Lease>(const link_api::LeaseAsk&)>;

  void connected(Links& way, LinkId link, link_api::Register&& wanted) override {
    const std::lock_guard lock(mutex);
    registers.push_back(wanted);
    if (gone) {
      link_api::Refused refused;
      refused.set_reason(link_api::REFUSED_REASON_OVERLOADED);
      refused.set_text("away");
      return way.close(link, refused);
    }
    way_ = &way;
    link_ = link;
    link_api::Envelope answer;
    answer.mutable_registered()->set_guard_id(guard_id);
    answer.mutable_registered()->set_events_taken(events.empty() ? 0 : events.back().sequence());
    answer.mutable_registered()->set_beat_ms(100);
    if (on_certificate && !wanted.certificate_request().empty()) {
      *answer.mutable_registered()->mutable_certificate() = on_certificate(wanted.certificate_request());
    }
    way.send(link, answer);
    if (update.generation() > 0) send(update);
  }

  void received(LinkId link, link_api::Envelope&& envelope) override {
    const std::lock_guard lock(mutex);
    link_api::Envelope answer;
    if (envelope.has_events()) {
      for (link_api::Event& event : *envelope.mutable_events()->mutable_events()) events.push_back(std::move(event));
      answer.mutable_events_taken()->set_sequence(events.back().sequence());
      way_->send(link, answer);
    } else if (envelope.has_entry_ask()) {
      asks.push_back(envelope.entry_ask());
      auto decided = on_ask ? on_ask(envelope.entry_ask()) : std::nullopt;
      if (!decided) return;
      decided->set_number(envelope.entry_ask().number());
      *answer.mutable_entry_answer() = std::move(*decided);
      way_->send(link, answer);
    } else if (envelope.has_lease_ask()) {
      leases.push_back(envelope.lease_ask());
      auto decided = on_lease ? on_lease(envelope.lease_ask()) : std::nullopt;
      if (!decided) return;
      decided->set_number(envelope.lease_ask().number());
      *answer.mutable_lease() = std::move(*decided);
      way_->send(link, answer);
    } else if (envelope.has_renew()) {
      ++renewals;
      if (!on_certificate) return;
      *answer.mutable_renewed() = on_certificate(envelope.renew().certificate_request());
      way_->send(link, answer);
    } else if (envelope.has_update_taken()) {
      taken.push_back(envelope.update_taken());
    } else if (envelope.has_beat()) {
      open = envelope.beat().executions_open();
    }
  }

  void closed(LinkId, const std::string&) override {
    const std::lock_guard lock(mutex);
    way_ = nullptr;
  }

  // Ends the connection, and lets none come until come_back().
  void go() {
    const std::lock_guard lock(mutex);
    gone = true;
    if (way_ == nullptr) return;
    link_api::Refused refused;
    refused.set_reason(link_api::REFUSED_REASON_OVERLOADED);
    way_->close(link_, refused);
  }
  void come_back() {
    const std::lock_guard lock(mutex);
    gone = false;
  }
  void give(const link_api::Renewed& certificate) {
    const std::lock_guard lock(mutex);
    link_api::Envelope envelope;
    *envelope.mutable_renewed() = certificate;
    if (way_ != nullptr) way_->send(link_, envelope);
  }
  void push(const link_api::Update& next) {
    const std::lock_guard lock(mutex);
    update = next;
    if (way_ != nullptr) send(next);
  }
  void halt(const std::string& limit, bool halted, std::uint32_t retry_after_ms) {
    const std::lock_guard lock(mutex);
    link_api::Envelope envelope;
    envelope.mutable_halt()->set_limit(limit);
    envelope.mutable_halt()->set_halted(halted);
    envelope.mutable_halt()->set_retry_after_ms(retry_after_ms);
    if (way_ != nullptr) way_->send(link_, envelope);
  }

  // All under the mutex.
  std::string refusal_of(std::uint64_t generation) {
    const std::lock_guard lock(mutex);
    for (const link_api::UpdateTaken& one : taken) {
      if (one.generation() == generation) return one.refusal().empty() ? "taken" : one.refusal();
    }
    return "";
  }
  std::vector<link_api::Event> all_events() {
    const std::lock_guard lock(mutex);
    return events;
  }
  std::size_t lease_asks() {
    const std::lock_guard lock(mutex);
    return leases.size();
  }

  std::mutex mutex;
  std::string guard_id = std::string(16, 'g');
  link_api::Update update;
  Ask on_ask;
  LeaseOf on_lease;
  std::function<link_api::Renewed(const std::string& request)> on_certificate;
  std::atomic<std::size_t> renewals = 0;
  bool gone = false;
  std::uint64_t open = 0;
  std::vector<link_api::Register> registers;
  std::vector<link_api::Event> events;
  std::vector<link_api::EntryAsk> asks;
  std::vector<link_api::LeaseAsk> leases;
  std::vector<link_api::UpdateTaken> taken;

 private:
  void send(const link_api::Update& next) {
    link_api::Envelope envelope;
    *envelope.mutable_update() = next;
    way_->send(link_, envelope);
  }
  Links* way_ = nullptr;
  LinkId link_{};
};

// A guard's membership of the application "shop", as the function "checkout".
struct Member {
  explicit Member(ScriptedController& controller, std::optional<MemberCertificate> certificate = std::nullopt)
      : membership({{"shop", "checkout"}, {}, "wss://controller.test:7443"}, std::move(certificate)) {
    link = std::make_unique<controller::LocalLink>(
        controller,
        [this] {
          link_api::Register wanted;
          wanted.set_join_token("token");
          wanted.set_application("shop");
          wanted.set_function("checkout");
          wanted.set_instance("one");
          wanted.set_certificate_request(membership.certificate_request());
          return Result<link_api::Register>(wanted);
        },
        membership.handlers());
    membership.attach(*link);
  }
  Membership membership;
  std::unique_ptr<controller::LocalLink> link;
};

inline link_api::EntryAnswer allowed(const std::string& request = std::string(16, 'r')) {
  link_api::EntryAnswer answer;
  answer.set_allowed(true);
  answer.set_request_id(request);
  return answer;
}

inline link_api::Lease granted(std::uint32_t count, std::uint32_t lifetime_ms = 60'000) {
  link_api::Lease lease;
  lease.set_granted(count);
  lease.set_lifetime_ms(lifetime_ms);
  return lease;
}

}  // namespace sallyport::guard::testing
