// What becomes of a link when the controller is restarted, the network breaks, or somebody else answers.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include "controller/link/test_controller.h"

namespace sallyport::controller {
namespace {

using namespace testing;
using link::LinkState;
using net::testing::TemporaryFile;

// Between a guard and its controller: passes bytes on until it is told to stop, as a firewall that drops packets does,
// or to cut every connection.
class Network {
 public:
  explicit Network(std::uint16_t target) : target_(target), thread_([this] { run(); }) {}
  ~Network() {
    stopping_ = true;
    thread_.join();
  }
  std::uint16_t port() const { return listener_.port(); }
  void stall(bool stalled) { stalled_ = stalled; }
  void cut() {
    cut_ = true;
    while (cut_) std::this_thread::sleep_for(1ms);
  }

 private:
  struct Pair {
    UniqueFd guard, controller;
    bool over = false;
  };
  static void pass(Pair& pair, int from, int to) {
    char buffer[16'384];
    const auto got = ::recv(from, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got == 0) pair.over = true;
    for (ssize_t sent = 0; sent < got;) {
      const auto count = ::send(to, buffer + sent, static_cast<std::size_t>(got - sent), MSG_NOSIGNAL);
      if (count <= 0) {
        pair.over = true;
        break;
      }
      sent += count;
    }
  }
  void run() {
    while (!stopping_) {
      if (cut_) {
        pairs_.clear();
        cut_ = false;
      }
      if (stalled_) {
        std::this_thread::sleep_for(1ms);
        continue;
      }
      std::vector<pollfd> polled{{listener_.fd(), POLLIN, 0}};
      for (const Pair& pair : pairs_) {
        polled.push_back({pair.guard.get(), POLLIN, 0});
        polled.push_back({pair.controller.get(), POLLIN, 0});
      }
      ::poll(polled.data(), polled.size(), 5);
      for (std::size_t i = 0; i < pairs_.size(); ++i) {
        if (polled[1 + 2 * i].revents != 0) pass(pairs_[i], pairs_[i].guard.get(), pairs_[i].controller.get());
        if (polled[2 + 2 * i].revents != 0) pass(pairs_[i], pairs_[i].controller.get(), pairs_[i].guard.get());
      }
      std::erase_if(pairs_, [](const Pair& pair) { return pair.over; });
      if (polled[0].revents != 0)
        pairs_.push_back({listener_.accept(), net::testing::connect_to("127.0.0.1", target_)});
    }
  }

  net::testing::Listener listener_;
  std::uint16_t target_;
  std::vector<Pair> pairs_;
  std::atomic<bool> stopping_ = false, stalled_ = false, cut_ = false;
  std::thread thread_;
};

// Every event once, in order, whatever was sent twice.
void expect_all(RecordingHandler& handler, std::uint64_t count) {
  const std::lock_guard lock(handler.mutex);
  ASSERT_EQ(handler.stored.size(), 1U) << "the guard has kept its id";
  const auto& events = handler.stored.begin()->second;
  ASSERT_EQ(events.size(), count);
  for (std::uint64_t i = 0; i < count; ++i) ASSERT_EQ(events[i].exchange().id(), i + 1);
}

TEST(LinkRecovery, ARestartInTheMiddleOf5000EventsASecondLosesNoneAndDoublesNone) {
  RecordingHandler handler;
  handler.acknowledges_every = 3;  // so that what is stored and not acknowledged comes again
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  auto server = serve(handler, identity);
  const std::uint16_t port = server.port;
  const auto link = connect(port, root.path());
  ASSERT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;
  Reporter reporter(*link, 5'000);
  for (int restart = 0; restart < 3; ++restart) {
    std::this_thread::sleep_for(700ms);
    server.server.reset();
    EXPECT_TRUE(eventually([&] { return !connected(*link); }));
    EXPECT_EQ(link->status().state, LinkState::lost);
    std::this_thread::sleep_for(100ms);
    server = serve(handler, identity, port);
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_TRUE(eventually([&] { return connected(*link); }));
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 2s);
  }
  const std::uint64_t reported = reporter.stop();
  EXPECT_GT(reported, 8'000U);
  handler.acknowledges_every = 1;
  link->report(event_of(reported + 1));  // is acknowledged, and all before it
  ASSERT_TRUE(link->flush(10s));
  expect_all(handler, reported + 1);
  EXPECT_EQ(link->figures().events_lost, 0U);
}

TEST(LinkRecovery, ConnectionsThatAreCutLoseNothing) {
  RecordingHandler handler;
  handler.acknowledges_every = 5;
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  const auto server = serve(handler, identity);
  Network network(server.port);
  const auto link = connect(network.port(), root.path());
  ASSERT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;
  Reporter reporter(*link, 5'000);
  for (int cut = 0; cut < 5; ++cut) {
    std::this_thread::sleep_for(200ms);
    network.cut();
    EXPECT_TRUE(eventually([&] { return !connected(*link); }));
    EXPECT_TRUE(eventually([&] { return connected(*link); }, 3s));
  }
  const std::uint64_t reported = reporter.stop();
  handler.acknowledges_every = 1;
  link->report(event_of(reported + 1));
  ASSERT_TRUE(link->flush(10s));
  expect_all(handler, reported + 1);
}

TEST(LinkRecovery, ANetworkThatSwallowsEverythingIsNoticedOnBothSides) {
  RecordingHandler handler;
  handler.beat_ms = 100;
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  const auto server = serve(handler, identity);
  Network network(server.port);
  const auto link = connect(network.port(), root.path());
  ASSERT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;
  std::this_thread::sleep_for(1s);
  EXPECT_TRUE(connected(*link)) << "an idle link stays: " << link->status().text;
  EXPECT_GE(handler.beats, 5U);
  network.stall(true);
  for (std::uint64_t i = 1; i <= 1'000; ++i) link->report(event_of(i));
  EXPECT_TRUE(eventually([&] { return link->status().state == LinkState::lost; }, 2s)) << "three beats";
  EXPECT_TRUE(eventually([&] { return handler.ended_with("nothing came from it in time"); }, 2s));
  network.cut();
  network.stall(false);
  EXPECT_TRUE(eventually([&] { return connected(*link); }, 15s)) << link->status().text;
  ASSERT_TRUE(link->flush(10s));
  expect_all(handler, 1'000);
}

TEST(LinkRecovery, AsksUnderWayFailWhenTheLinkIsLostAndThoseBehindAtOnce) {
  RecordingHandler handler;
  handler.answers = false;
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  auto server = serve(handler, identity);
  const auto link = connect(server.port, root.path());
  ASSERT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;
  const auto begun = std::chrono::steady_clock::now();
  std::thread asking([&] {
    net::Loop loop;
    const auto answer = net::testing::run(loop, link->ask(loop, {}, loop.in(30s)));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().kind, ErrorKind::unavailable) << answer.error().text;
    const auto second = net::testing::run(loop, link->ask(loop, {}, loop.in(30s)));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, ErrorKind::unavailable);
  });
  EXPECT_TRUE(eventually([&] { return handler.asks == 1; }));
  server.server.reset();
  asking.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 10s);
}

TEST(LinkRecovery, WithoutAControllerTheSpoolKeepsDenialsAndCountsWhatItDrops) {
  RecordingHandler handler;
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  auto server = serve(handler, identity);
  const std::uint16_t port = server.port;
  const auto link = connect(port, root.path());
  ASSERT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;
  server.server.reset();
  ASSERT_TRUE(eventually([&] { return !connected(*link); }));
  constexpr std::uint64_t kMany = limits::kSpoolEventsMax + 20'000, kDenials = 100;
  for (std::uint64_t i = 1; i <= kMany; ++i) {
    link->report(event_of(i, i <= kDenials ? v1alpha1::DECISION_DENY : v1alpha1::DECISION_ALLOW));
    if (i % 10'000 == 0) EXPECT_FALSE(link->flush(1ms));
  }
  EXPECT_TRUE(eventually([&] { return link->figures().events_lost == 20'000; })) << link->figures().events_lost;
  server = serve(handler, identity, port);
  ASSERT_TRUE(link->flush(60s));
  std::uint64_t denials = 0, told = 0, stored = 0;
  const std::lock_guard lock(handler.mutex);
  for (const v1alpha1::Event& event : handler.stored.begin()->second) {
    if (event.has_lost()) {
      told += event.lost().events();
    } else {
      ++stored;
    }
    if (event.exchange().decision() == v1alpha1::DECISION_DENY) ++denials;
  }
  EXPECT_EQ(denials, kDenials);
  EXPECT_EQ(told, 20'000U);
  EXPECT_EQ(stored + told, kMany);
}

// Somebody else at the controller's address gets neither a token nor an event.
void expect_distrust(const std::string& host, const std::string& trusted_pem, const std::string& words) {
  RecordingHandler handler;
  const TestIdentity identity(host);
  const TemporaryFile root(trusted_pem.empty() ? identity.root_pem : trusted_pem);
  const auto server = serve(handler, identity);
  const auto link = connect(server.port, root.path());
  EXPECT_TRUE(eventually([&] { return link->status().text.find(words) != std::string::npos; })) << link->status().text;
  EXPECT_EQ(link->status().state, LinkState::connecting);
  EXPECT_TRUE(handler.registers.empty());
}

TEST(LinkRecovery, ACertificateOfAnotherNameIsNotTrusted) { expect_distrust("controller.test", "", "127.0.0.1"); }

TEST(LinkRecovery, ACertificateOfAnotherAuthorityIsNotTrusted) {
  expect_distrust("127.0.0.1", TestIdentity().root_pem, "127.0.0.1");
}

TEST(LinkRecovery, AControllerThatWantsBeatsMoreOftenThanTheOneBeforeGetsThem) {
  RecordingHandler handler;
  handler.beat_ms = 60'000;
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  auto server = serve(handler, identity);
  const auto link = connect(server.port, root.path());
  ASSERT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;
  server.server.reset();
  handler.beat_ms = 100;
  handler.beats = 0;
  server = serve(handler, identity, server.port);
  ASSERT_TRUE(eventually([&] { return handler.linked() == 1; }));
  std::this_thread::sleep_for(1s);
  EXPECT_GE(handler.beats, 5U);
  EXPECT_EQ(handler.registers.size(), 2U) << "it was not lost meanwhile";
}

// Says under which id a guard is registered, and what it has had of its events.
class Confused : public RecordingHandler {
 public:
  explicit Confused(std::uint64_t taken) : taken_(taken) {}
  void connected(Links& way, LinkId link, v1alpha1::Register&& wanted) override {
    Envelope answer;
    answer.mutable_registered()->set_guard_id(std::string(16, 'g'));
    answer.mutable_registered()->set_events_taken(taken_);
    answer.mutable_registered()->set_beat_ms(100);
    {
      const std::lock_guard lock(mutex);
      registers.push_back(wanted);
    }
    way.send(link, answer);
  }

 private:
  std::uint64_t taken_;
};

TEST(LinkRecovery, ANewIdUnderWhichEventsAreSaidToBeTakenIsGivenUpAndTheyAreKept) {
  RecordingHandler first, last;
  first.acknowledges_every = 1'000;
  Confused confused(1);
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  auto server = serve(first, identity);
  const std::uint16_t port = server.port;
  const auto link = connect(port, root.path());
  link->report(event_of(1));
  ASSERT_TRUE(eventually([&] { return first.events_stored() == 1; })) << "it is sent, and not acknowledged";
  server.server.reset();
  server = serve(confused, identity, port);
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(confused.mutex);
    return confused.registers.size() >= 2;
  }));
  EXPECT_FALSE(connected(*link));
  EXPECT_EQ(link->figures().events_waiting, 1U);
  server.server.reset();
  server = serve(last, identity, port);
  ASSERT_TRUE(link->flush(10s));
  expect_all(last, 1);
}

TEST(LinkRecovery, AGuardIdThatIsTakenForAnothersIsGivenUp) {
  Confused handler(1'000);  // more than were ever sent
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  const auto server = serve(handler, identity);
  const auto link = connect(server.port, root.path());
  link->report(event_of(1));
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(handler.mutex);
    return handler.registers.size() >= 2;
  }));
  EXPECT_FALSE(connected(*link));
  EXPECT_EQ(link->figures().events_taken, 0U);
  const std::lock_guard lock(handler.mutex);
  for (const auto& wanted : handler.registers) EXPECT_EQ(wanted.guard_id(), "");
}

}  // namespace
}  // namespace sallyport::controller
