#pragma once
// For tests: a controller that records, its certificates, and a guard's end that is linked to it over real TLS.

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "ca/authority.h"
#include "controller/link/link_server.h"
#include "proxy/link/remote_link.h"
#include "proxy/net/listen.h"
#include "proxy/net/test_certificates.h"
#include "proxy/net/test_peer.h"

namespace sallyport::controller::testing {

using namespace std::chrono_literals;
using v1alpha1::Envelope;

// Waits for what another thread does.
template <class Condition>
bool eventually(Condition condition, std::chrono::milliseconds at_most = 10s) {
  const auto last = std::chrono::steady_clock::now() + at_most;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > last) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

// Registers whoever comes, keeps the events of each guard id, and answers every ask. It outlives its servers, as a
// store does.
class RecordingHandler : public LinkHandler {
 public:
  void connected(Links& way, LinkId link, v1alpha1::Register&& wanted) override {
    const std::lock_guard lock(mutex);
    std::string id = wanted.guard_id();
    if (id.empty()) {
      id = std::string(16, '\0');
      const std::uint64_t serial = ++ids;
      std::memcpy(id.data(), &serial, sizeof serial);
    }
    ways[link] = &way;
    guards[link] = id;
    registers.push_back(wanted);
    Envelope answer;
    answer.mutable_registered()->set_guard_id(id);
    answer.mutable_registered()->set_events_taken(stored[id].empty() ? 0 : stored[id].back().sequence());
    answer.mutable_registered()->set_beat_ms(beat_ms);
    way.send(link, answer);
  }

  void received(LinkId link, Envelope&& envelope) override {
    const std::lock_guard lock(mutex);
    if (envelope.has_events()) return take(link, envelope);
    Envelope answer;
    if (envelope.has_entry_ask()) {
      ++asks;
      if (!answers) return;
      answer.mutable_entry_answer()->set_number(envelope.entry_ask().number());
      answer.mutable_entry_answer()->set_allowed(true);
      answer.mutable_entry_answer()->set_request_id(envelope.entry_ask().execution());
      answer.mutable_entry_answer()->set_refusal(padding);
      ways[link]->send(link, answer);
    } else if (envelope.has_lease_ask()) {
      answer.mutable_lease()->set_number(envelope.lease_ask().number());
      answer.mutable_lease()->set_granted(envelope.lease_ask().wanted());
      ways[link]->send(link, answer);
    } else if (envelope.has_renew()) {
      answer.mutable_renewed()->set_certificates("certificates for " + envelope.renew().certificate_request());
      ways[link]->send(link, answer);
    } else if (envelope.has_beat()) {
      ++beats;
    } else {
      others.push_back(std::move(envelope));
    }
  }

  void closed(LinkId link, const std::string& why) override {
    const std::lock_guard lock(mutex);
    ended.push_back(why);
    ways.erase(link);
    guards.erase(link);
  }

  std::optional<LinkId> any_link() {
    const std::lock_guard lock(mutex);
    return guards.empty() ? std::nullopt : std::optional(guards.begin()->first);
  }
  std::size_t events_stored() {
    const std::lock_guard lock(mutex);
    std::size_t count = 0;
    for (const auto& [id, events] : stored) count += events.size();
    return count;
  }
  std::size_t linked() {
    const std::lock_guard lock(mutex);
    return guards.size();
  }
  bool ended_with(std::string_view words) {
    const std::lock_guard lock(mutex);
    for (const std::string& why : ended) {
      if (why.find(words) != std::string::npos) return true;
    }
    return false;
  }

  std::mutex mutex;
  std::map<LinkId, Links*> ways;
  std::map<LinkId, std::string> guards;
  std::map<std::string, std::vector<v1alpha1::Event>> stored;
  std::vector<v1alpha1::Register> registers;
  std::vector<Envelope> others;
  std::vector<std::string> ended;
  std::uint64_t ids = 0, again = 0, batches = 0;
  std::atomic<std::uint64_t> asks = 0, beats = 0;
  std::atomic<bool> answers = true;
  std::uint32_t beat_ms = 200;
  std::string padding;
  unsigned acknowledges_every = 1;  // batch

 private:
  // What came before is not stored a second time, and nothing may be missing in between.
  void take(LinkId link, const Envelope& envelope) {
    auto& events = stored[guards[link]];
    for (const v1alpha1::Event& event : envelope.events().events()) {
      const std::uint64_t last = events.empty() ? 0 : events.back().sequence();
      if (event.sequence() <= last) {
        ++again;
        continue;
      }
      EXPECT_EQ(event.sequence(), last + 1);
      events.push_back(event);
    }
    if (++batches % acknowledges_every != 0) return;
    Envelope answer;
    answer.mutable_events_taken()->set_sequence(events.back().sequence());
    ways[link]->send(link, answer);
  }
};

// The controller's certificate, from an authority of the project's own.
struct TestIdentity {
  explicit TestIdentity(const std::string& host = "127.0.0.1") {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    auto authority = ca::Authority::create_root(nullptr, {}, now);
    auto key = ca::make_p256_key(nullptr);
    const std::string_view hosts[] = {host};
    auto leaf = authority->issue_leaf(hosts, key->get(), std::chrono::hours(1), now);
    certificates_pem = *ca::chain_pem(leaf->get(), authority->chain());
    key_pem = std::string(ca::bio_view(ca::private_key_pem(key->get())->get()));
    root_pem = authority->trust_pem();
  }
  std::string certificates_pem, key_pem, root_pem;
};

inline std::uint16_t free_port() {
  const net::testing::Listener listener;
  return listener.port();
}

// A server and the port that it listens on.
struct Served {
  std::unique_ptr<LinkServer> server;
  std::uint16_t port = 0;
  LinkServer* operator->() const { return server.get(); }
};

// Without a port one that is free.
inline Served serve(LinkHandler& handler, const TestIdentity& identity, std::uint16_t port = 0, std::size_t loops = 1) {
  if (port == 0) port = free_port();
  std::vector<UniqueFd> listening;
  for (std::size_t i = 0; i < loops; ++i) {
    auto fd = net::listen_on("127.0.0.1:" + std::to_string(port), loops > 1);
    EXPECT_TRUE(fd) << fd.error().text;
    listening.push_back(std::move(*fd));
  }
  auto server = LinkServer::start({.certificates_pem = identity.certificates_pem, .key_pem = identity.key_pem},
                                  std::move(listening), handler);
  EXPECT_TRUE(server) << server.error().text;
  return {std::move(*server), port};
}

inline link::Registration registration(std::string instance = "instance") {
  return [instance = std::move(instance)]() -> Result<v1alpha1::Register> {
    v1alpha1::Register wanted;
    wanted.set_join_token("token");
    wanted.set_application("shop");
    wanted.set_function("checkout");
    wanted.set_instance(instance);
    return wanted;
  };
}

inline std::unique_ptr<link::RemoteLink> connect(std::uint16_t port, const std::string& ca_file,
                                                 link::LinkHandlers handlers = {}) {
  auto link = link::RemoteLink::start({.host = "127.0.0.1", .port = port, .ca_file = ca_file}, registration(),
                                      std::move(handlers));
  EXPECT_TRUE(link) << link.error().text;
  return std::move(*link);
}

inline bool connected(const link::ControllerLink& link) { return link.status().state == link::LinkState::connected; }

inline v1alpha1::Event event_of(std::uint64_t id, v1alpha1::Decision decision = v1alpha1::DECISION_ALLOW) {
  v1alpha1::Event event;
  event.mutable_exchange()->set_id(id);
  event.mutable_exchange()->set_decision(decision);
  return event;
}

// Reports at a steady rate from a thread of its own, as a busy guard does.
class Reporter {
 public:
  Reporter(link::ControllerLink& link, unsigned per_second)
      : thread_([this, &link, per_second] { run(link, per_second); }) {}
  ~Reporter() { stop(); }
  std::uint64_t stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    return count_;
  }

 private:
  void run(link::ControllerLink& link, unsigned per_second) {
    const auto begun = std::chrono::steady_clock::now();
    while (!stopping_) {
      const std::chrono::duration<double> since = std::chrono::steady_clock::now() - begun;
      while (static_cast<double>(count_) < since.count() * per_second) link.report(event_of(++count_));
      std::this_thread::sleep_for(1ms);
    }
  }
  std::atomic<bool> stopping_ = false;
  std::atomic<std::uint64_t> count_ = 0;
  std::thread thread_;
};

}  // namespace sallyport::controller::testing
