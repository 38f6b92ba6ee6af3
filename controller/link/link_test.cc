// Both ends of the link together, over the network and in one process: what holds for one way holds for the other.

#include <gtest/gtest.h>

#include "controller/link/local_link.h"
#include "controller/link/test_controller.h"

namespace sallyport::controller {
namespace {

using namespace testing;
using link::LinkState;
using net::testing::TemporaryFile;

// The two ways there are. What holds for one holds for the other.
enum class Kind { remote, local };

class Link : public ::testing::TestWithParam<Kind> {
 protected:
  Link() : root_(identity_.root_pem), server_(serve(handler_, identity_)) {}

  void start(link::LinkHandlers handlers = {}) {
    if (GetParam() == Kind::remote) {
      link_ = connect(server_.port, root_.path(), std::move(handlers));
    } else {
      link_ = std::make_unique<LocalLink>(handler_, registration(), std::move(handlers));
    }
    ASSERT_TRUE(eventually([&] { return connected(*link_); })) << link_->status().text;
  }
  Links& way() {
    const std::lock_guard lock(handler_.mutex);
    return *handler_.ways.begin()->second;
  }

  RecordingHandler handler_;
  TestIdentity identity_;
  TemporaryFile root_;
  Served server_;
  std::unique_ptr<link::ControllerLink> link_;  // goes first
};

INSTANTIATE_TEST_SUITE_P(Ways, Link, ::testing::Values(Kind::remote, Kind::local),
                         [](const auto& info) { return info.param == Kind::remote ? "Remote" : "Local"; });

Result<v1alpha1::EntryAnswer> ask(link::ControllerLink& link, const std::string& execution,
                                  std::chrono::milliseconds at_most = 5s) {
  net::Loop loop;
  v1alpha1::EntryAsk ask;
  ask.set_execution(execution);
  return net::testing::run(loop, link.ask(loop, std::move(ask), loop.in(at_most)));
}

TEST_P(Link, AGuardIsRegisteredAndItsAsksAreAnswered) {
  start();
  EXPECT_EQ(handler_.registers.front().instance(), "instance");
  EXPECT_EQ(handler_.registers.front().version(), 1U);
  for (const char* execution : {"one", "two"}) {
    const auto answer = ask(*link_, execution);
    ASSERT_TRUE(answer) << answer.error().text;
    EXPECT_TRUE(answer->allowed());
    EXPECT_EQ(answer->request_id(), execution);
  }
}

TEST_P(Link, ManyThreadsAskAtOnceAndEachGetsItsAnswer) {
  start();
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 100; ++i) {
        const std::string execution = std::to_string(thread) + "/" + std::to_string(i);
        const auto answer = ask(*link_, execution);
        if (answer && answer->request_id() == execution) ++right;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 400);
}

TEST_P(Link, AnAskThatIsNotAnsweredEndsAtItsDeadline) {
  start();
  handler_.answers = false;
  const auto begun = std::chrono::steady_clock::now();
  const auto answer = ask(*link_, "silence", 100ms);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().source, ErrorSource::controller);
  EXPECT_EQ(answer.error().kind, ErrorKind::timeout);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 1s);
}

TEST_P(Link, EventsAreStoredOnceInTheirOrder) {
  start();
  for (std::uint64_t i = 1; i <= 3'000; ++i) link_->report(event_of(i));
  ASSERT_TRUE(link_->flush(10s));
  const std::lock_guard lock(handler_.mutex);
  const auto& events = handler_.stored.begin()->second;
  ASSERT_EQ(events.size(), 3'000U);
  for (std::uint64_t i = 1; i <= 3'000; ++i) EXPECT_EQ(events[i - 1].exchange().id(), i);
  EXPECT_EQ(handler_.again, 0U);
  EXPECT_LT(handler_.batches, 300U) << "they are gathered";
}

TEST_P(Link, WhatWasReportedBeforeAnAskIsThereBeforeIt) {
  start();
  link_->report(event_of(1));
  ASSERT_TRUE(ask(*link_, "behind"));
  EXPECT_EQ(handler_.events_stored(), 1U);
}

TEST_P(Link, LeasesHaltsRenewalsAndUpdatesAreHandedOn) {
  std::atomic<int> halts = 0, renewals = 0;
  std::atomic<std::uint64_t> generation = 0;
  start({.on_update =
             [&](v1alpha1::Update&& update) {
               generation = update.generation();
               link_->update_taken(update.generation(), update.generation() == 8 ? "no such host" : "");
             },
         .on_halt = [&](const v1alpha1::Halt& halt) { halts += halt.limit() == "per-user" ? 1 : 100; },
         .on_renewed =
             [&](const v1alpha1::Renewed& renewed) {
               renewals += renewed.certificates() == "certificates for me" ? 1 : 100;
             }});
  net::Loop loop;
  v1alpha1::LeaseAsk wanted;
  wanted.set_wanted(7);
  const auto lease = net::testing::run(loop, link_->lease(loop, std::move(wanted), loop.in(5s)));
  ASSERT_TRUE(lease) << lease.error().text;
  EXPECT_EQ(lease->granted(), 7U);
  EXPECT_TRUE(link_->renew("me"));
  const LinkId link = *handler_.any_link();
  Envelope halt, seven, eight;
  halt.mutable_halt()->set_limit("per-user");
  seven.mutable_update()->set_generation(7);
  eight.mutable_update()->set_generation(8);
  way().send(link, halt);
  way().send(link, seven);
  const LinkId links[] = {link};
  way().send_all(links, SharedEnvelope(eight));
  EXPECT_TRUE(eventually([&] { return halts == 1 && renewals == 1 && generation == 8; }));
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(handler_.mutex);
    return handler_.others.size() == 2;
  }));
  EXPECT_EQ(handler_.others[0].update_taken().refusal(), "");
  EXPECT_EQ(handler_.others[1].update_taken().refusal(), "no such host");
}

TEST_P(Link, AGuardThatIsRefusedSaysWhyAndDoesNotPress) {
  start();
  v1alpha1::Refused refused;
  refused.set_reason(v1alpha1::REFUSED_REASON_INSTANCES);
  refused.set_text("two instances run already");
  way().close(*handler_.any_link(), refused);
  ASSERT_TRUE(eventually([&] { return link_->status().state == LinkState::refused; }));
  EXPECT_NE(link_->status().text.find("two instances run already"), std::string::npos) << link_->status().text;
  EXPECT_TRUE(eventually([&] { return handler_.linked() == 0; }));
  const auto answer = ask(*link_, "refused");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(handler_.registers.size(), 1U);
}

TEST_P(Link, ALinkThatEndsIsTold) {
  start();
  link_.reset();
  EXPECT_TRUE(eventually([&] { return handler_.linked() == 0; }));
  EXPECT_TRUE(handler_.ended_with("the guard ends"));
}

TEST_P(Link, ATraceThatIsTooLargeIsLeftOutAndItsEventIsNot) {
  start();
  v1alpha1::Event event;
  event.mutable_execution_ended()->set_execution("large");
  for (int i = 0; i < 5; ++i) {
    event.mutable_execution_ended()->mutable_trace()->add_flows()->mutable_operation()->set_path(
        std::string(1 << 20, 'p'));
  }
  link_->report(event);
  ASSERT_TRUE(link_->flush(10s));
  const std::lock_guard lock(handler_.mutex);
  const auto& ended = handler_.stored.begin()->second.front().execution_ended();
  EXPECT_EQ(ended.execution(), "large");
  EXPECT_FALSE(ended.has_trace());
}

// What a function puts into its requests comes here, too.
TEST_P(Link, BytesThatAreNotUtf8EndNoLink) {
  start();
  v1alpha1::Event event = event_of(1);
  event.mutable_exchange()->set_text("a\xFFz \xC3\xBC");
  event.mutable_exchange()->mutable_operation()->set_path("/\xC0\xAF");
  link_->report(event);
  event.Clear();
  event.mutable_execution_ended()->mutable_trace()->add_flows()->mutable_operation()->set_path("\xED\xA0\x80");
  link_->report(event);
  link_->update_taken(0, "\x80");
  ASSERT_TRUE(link_->flush(10s));
  {
    const std::lock_guard lock(handler_.mutex);
    const auto& events = handler_.stored.begin()->second;
    ASSERT_EQ(events.size(), 2U);
    EXPECT_EQ(events[0].exchange().text(), "a?z \xC3\xBC");
    EXPECT_EQ(events[0].exchange().operation().path(), "/??");
    EXPECT_EQ(events[1].execution_ended().trace().flows(0).operation().path(), "???");
  }
  net::Loop loop;
  v1alpha1::EntryAsk wanted;
  wanted.mutable_inbound()->set_path("/\xFF");
  const auto refused = net::testing::run(loop, link_->ask(loop, wanted, loop.in(5s)));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::invalid);
  wanted.mutable_inbound()->set_path("/");
  EXPECT_TRUE(net::testing::run(loop, link_->ask(loop, wanted, loop.in(5s))));
  EXPECT_EQ(handler_.registers.size(), 1U) << "the link has not been lost meanwhile";
}

TEST_P(Link, NothingLargerThanAMessageIsSent) {
  start();
  Envelope large;
  large.mutable_halt()->set_limit(std::string(limits::kLinkMessageBytesMax, 'x'));
  EXPECT_FALSE(way().send(*handler_.any_link(), large));
}

TEST(LinkServer, ItsThreadsShareThePort) {
  RecordingHandler handler;
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  const auto server = serve(handler, identity, 0, 3);
  std::vector<std::unique_ptr<link::RemoteLink>> links;
  for (int i = 0; i < 12; ++i) links.push_back(connect(server.port, root.path()));
  EXPECT_TRUE(eventually([&] { return server->counts().guards == 12; }));
  for (const auto& link : links) {
    EXPECT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;  // it is told a little later
    EXPECT_TRUE(ask(*link, "x"));
  }
}

TEST(LinkServer, ALinkOfOneServerIsNoneOfAnother) {
  RecordingHandler handler;
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  const auto first = serve(handler, identity), second = serve(handler, identity);
  const auto one = connect(first.port, root.path()), two = connect(second.port, root.path());
  ASSERT_TRUE(eventually([&] { return connected(*one) && connected(*two); }));
  std::map<LinkId, Links*> ways;
  {
    const std::lock_guard lock(handler.mutex);
    ways = handler.ways;
  }
  ASSERT_EQ(ways.size(), 2U);
  v1alpha1::Refused refused;
  for (const auto& [link, way] : ways) {
    Links& other = way == first.server.get() ? *second.server : *first.server;
    other.close(link, refused);
  }
  EXPECT_TRUE(ask(*one, "x"));
  EXPECT_TRUE(ask(*two, "x"));
  EXPECT_EQ(handler.linked(), 2U);
}

TEST(LinkServer, RefusesAnIdentityThatIsNone) {
  RecordingHandler handler;
  const TestIdentity one, other;
  const auto start = [&](const std::string& certificates, const std::string& key) {
    std::vector<UniqueFd> listening;
    listening.push_back(std::move(*net::listen_on("127.0.0.1:" + std::to_string(free_port()), false)));
    return LinkServer::start({.certificates_pem = certificates, .key_pem = key}, std::move(listening), handler);
  };
  EXPECT_FALSE(start(one.certificates_pem, other.key_pem));
  EXPECT_FALSE(start("", one.key_pem));
  EXPECT_FALSE(start(one.certificates_pem, ""));
  const auto good = start(one.certificates_pem, one.key_pem);
  EXPECT_TRUE(good) << good.error().text;
}

TEST(RemoteLink, TakesNoUrlButOne) {
  EXPECT_EQ(link::parse_controller_url("wss://controller.test:7443")->port, 7443);
  EXPECT_EQ(link::parse_controller_url("wss://[::1]:7443/")->host, "::1");
  for (const char* url :
       {"", "ws://c:1", "https://c:1", "wss://c", "wss://c:0", "wss://c:1/path", "wss://u@c:1", "c:1"}) {
    EXPECT_FALSE(link::parse_controller_url(url)) << url;
  }
}

}  // namespace
}  // namespace sallyport::controller
