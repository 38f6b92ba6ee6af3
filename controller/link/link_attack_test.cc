// Guards that are none, or that have been taken over: what they send and what they do not read.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <random>

#include "controller/link/raw_guard.h"
#include "controller/link/test_controller.h"

namespace sallyport::controller {
namespace {

using namespace testing;
using v1alpha1::RefusedReason;

class LinkAttack : public ::testing::Test {
 protected:
  LinkAttack() : server_(serve(handler_, identity_)), context_(net::testing::client_context(nullptr)) {
    handler_.beat_ms = 60'000;  // none of them sends beats
  }

  std::unique_ptr<RawGuard> guard() { return std::make_unique<RawGuard>(loop_, context_.get(), server_.port); }
  template <class T>
  T run(net::Task<T> task) {
    return net::testing::run(loop_, std::move(task));
  }
  // Joined: a guard that the controller believes.
  std::unique_ptr<RawGuard> joined() {
    auto made = guard();
    const auto answer = run(made->join("one", loop_.in(5s)));
    EXPECT_TRUE(answer && answer->has_registered());
    return made;
  }
  // What the controller says to what this guard has sent last.
  void expect_refused(RawGuard& guard, RefusedReason reason) {
    const auto answer = run(guard.receive(loop_.in(5s)));
    ASSERT_TRUE(answer) << answer.error().text;
    EXPECT_EQ(answer->refused().reason(), reason) << answer->DebugString();
    EXPECT_NE(answer->refused().text(), "");
    expect_end(guard, ErrorKind::closed);
  }
  void expect_end(RawGuard& guard, ErrorKind kind, std::string_view words = {}) {
    const auto end = run(guard.receive(loop_.in(5s)));
    ASSERT_FALSE(end) << end->DebugString();
    EXPECT_EQ(end.error().kind, kind) << end.error().text;
    EXPECT_NE(end.error().text.find(words), std::string::npos) << end.error().text;
    EXPECT_TRUE(eventually([&] { return handler_.linked() == 0; }));
  }

  // Of many_: who is not served in time comes again, as guards do.
  static net::Task<void> join_again(LinkAttack& test, std::size_t index, std::size_t& registered, std::size_t& over) {
    for (int attempt = 0; attempt < 10; ++attempt) {
      auto& guard = test.many_[index] = test.guard();
      const auto answer = co_await guard->join(std::to_string(index), test.loop_.in(30s));
      if (answer && answer->has_registered()) {
        ++registered;
        break;
      }
    }
    if (++over == test.many_.size()) test.loop_.stop();
  }

  RecordingHandler handler_;
  TestIdentity identity_;
  Served server_;
  net::testing::ContextPtr context_;
  net::Loop loop_;
  std::vector<std::unique_ptr<RawGuard>> many_;
};

TEST_F(LinkAttack, AnotherVersionIsRefused) {
  for (const std::uint32_t version : {0U, 2U, ~0U}) {
    const auto one = guard();
    ASSERT_TRUE(run(one->open(loop_.in(5s))));
    Envelope hello = RawGuard::hello("one");
    hello.mutable_register_()->set_version(version);
    one->send(hello);
    expect_refused(*one, v1alpha1::REFUSED_REASON_VERSION);
  }
  EXPECT_TRUE(handler_.registers.empty());
}

TEST_F(LinkAttack, WhatComesBeforeRegisterIsRefused) {
  Envelope ask, answer, empty;
  ask.mutable_entry_ask()->set_number(1);
  answer.mutable_registered()->set_guard_id(std::string(16, 'g'));
  for (const Envelope& first : {ask, answer, empty}) {
    const auto one = guard();
    ASSERT_TRUE(run(one->open(loop_.in(5s))));
    one->send(first);
    expect_refused(*one, v1alpha1::REFUSED_REASON_MALFORMED);
  }
  EXPECT_TRUE(handler_.registers.empty());
}

TEST_F(LinkAttack, AGuardThatSpeaksAsTheControllerIsRefused) {
  Envelope again = RawGuard::hello("two"), taken, update;
  taken.mutable_events_taken()->set_sequence(1);
  update.mutable_update()->set_generation(1);
  for (const Envelope& wrong : {again, taken, update}) {
    const auto one = joined();
    one->send(wrong);
    expect_refused(*one, v1alpha1::REFUSED_REASON_MALFORMED);
  }
  EXPECT_TRUE(handler_.others.empty());
}

TEST_F(LinkAttack, AMessageThatIsNoEnvelopeIsRefused) {
  const auto one = joined();
  one->socket().queue("\xFF\xFF\xFF");
  expect_refused(*one, v1alpha1::REFUSED_REASON_MALFORMED);
}

TEST_F(LinkAttack, AStrangerThatIsNotUtf8IsRefusedWithoutALineInTheLog) {
  ::testing::internal::CaptureStderr();
  const auto one = guard();
  ASSERT_TRUE(run(one->open(loop_.in(5s))));
  one->send(RawGuard::hello("\xFF"));
  expect_refused(*one, v1alpha1::REFUSED_REASON_MALFORMED);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(handler_.registers.empty());
}

TEST_F(LinkAttack, AnEnvelopeOfALaterVersionIsIgnoredAndCounted) {
  const auto one = joined();
  one->socket().queue(std::string("\xFA\x7F\x03new", 6));  // field 2047
  one->socket().queue("");
  Envelope ask;
  ask.mutable_entry_ask()->set_number(7);
  one->send(ask);
  const auto answer = run(one->receive(loop_.in(5s)));
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_EQ(answer->entry_answer().number(), 7U);
  EXPECT_EQ(server_->counts().unknown, 2U);
}

TEST_F(LinkAttack, ARegisterThatIsTooLargeEndsIt) {
  const auto one = guard();
  ASSERT_TRUE(run(one->open(loop_.in(5s))));
  Envelope hello = RawGuard::hello("one");
  hello.mutable_register_()->set_certificate_request(std::string(limits::kLinkRegisterBytesMax, 'x'));
  one->send(hello);
  expect_end(*one, ErrorKind::closed, "1009");
  EXPECT_TRUE(handler_.registers.empty());
}

TEST_F(LinkAttack, AMessageThatIsTooLargeEndsItAndOneThatJustFitsDoesNot) {
  const auto one = joined();
  Envelope event;
  event.mutable_events()->add_events()->set_sequence(1);
  event.mutable_events()->mutable_events(0)->mutable_exchange()->set_text(
      std::string(limits::kLinkMessageBytesMax - 100, 'x'));
  one->send(event);
  const auto taken = run(one->receive(loop_.in(10s)));
  ASSERT_TRUE(taken) << taken.error().text;
  EXPECT_EQ(taken->events_taken().sequence(), 1U);
  one->socket().queue(std::string(limits::kLinkMessageBytesMax + 1, 'x'));
  expect_end(*one, ErrorKind::closed, "1009");
}

TEST_F(LinkAttack, BytesThatAreNoFramesEndIt) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 30; ++i) {
    const auto one = i % 2 == 0 ? joined() : guard();
    if (i % 2 != 0) ASSERT_TRUE(run(one->open(loop_.in(5s))));
    std::string noise(20 + random() % 2'000, '\0');
    for (char& c : noise) c = static_cast<char>(random());
    noise[0] = '\xF2';  // reserved bits: never a frame
    ASSERT_TRUE(run(one->stream().write_all(noise, loop_.in(5s))));
    const auto end = run(one->receive(loop_.in(5s)));
    ASSERT_FALSE(end);
    EXPECT_NE(end.error().text.find("1002"), std::string::npos) << end.error().text;
  }
  EXPECT_TRUE(eventually([&] { return handler_.linked() == 0 && server_->counts().open == 0; }));
}

TEST_F(LinkAttack, WhatIsNoHandshakeIsAnsweredInPlainText) {
  const std::pair<std::string, std::string> cases[] = {
      {"GET / HTTP/1.1\r\nHost: c\r\n\r\n", "HTTP/1.1 404 "},
      {"GET /v1/link HTTP/1.1\r\nHost: c\r\n\r\n", "HTTP/1.1 426 "},
      {"\x16\x03\x01 nonsense\r\n\r\n", "HTTP/1.1 400 "},
      {"GET /v1/link HTTP/1.1\r\nHost: c\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n", ""}};
  for (const auto& [request, answer] : cases) {
    const auto one = guard();
    ASSERT_TRUE(run(one->secure(loop_.in(5s))));
    ASSERT_TRUE(run(one->stream().write_all(request, loop_.in(5s))));
    std::string buffer(1'000, '\0');
    const auto got = run(one->stream().read_some(buffer, loop_.in(5s)));
    EXPECT_EQ(buffer.substr(0, answer.size()), answer);
    EXPECT_TRUE(got || answer.empty());
  }
  EXPECT_TRUE(eventually([&] { return server_->counts().refused == 4; }));
}

TEST_F(LinkAttack, OneThatDoesNotSpeakTlsIsLetGo) {
  const UniqueFd plain = net::testing::connect_to("127.0.0.1", server_.port);
  ASSERT_EQ(::send(plain.get(), "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
  EXPECT_TRUE(eventually([&] { return server_->counts().refused == 1 && server_->counts().open == 0; }));
}

TEST_F(LinkAttack, OneThatNeverReadsIsCut) {
  const auto one = joined();
  const LinkId link = *handler_.any_link();
  Envelope update;
  update.mutable_update()->mutable_policy()->set_kind(std::string(1 << 20, 'x'));
  const SharedEnvelope shared(update);
  const LinkId links[] = {link};
  for (int i = 0; i < 40; ++i) server_->send_all(links, shared);
  EXPECT_TRUE(eventually([&] { return handler_.linked() == 0; }));
  EXPECT_TRUE(handler_.ended_with("too much waits to be sent to it"));
  EXPECT_GE(server_->counts().cut, 1U);
}

TEST_F(LinkAttack, WhatDoesNotFitOnTheWayToItsThreadCutsTheLink) {
  const auto one = joined();
  const LinkId link = *handler_.any_link();
  Envelope ask, update;
  ask.mutable_entry_ask()->set_number(1);
  update.mutable_update()->mutable_policy()->set_kind(std::string(1 << 20, 'x'));
  {
    const std::lock_guard busy(handler_.mutex);  // the link's thread waits for it
    one->send(ask);
    net::testing::run(loop_,
                      [](net::Loop& loop) -> net::Task<void> { co_await loop.sleep_until(loop.in(500ms)); }(loop_));
    std::size_t handed = 0;
    while (handed < 100 && server_->send(link, update)) ++handed;
    EXPECT_GE(handed, 60U);
    EXPECT_LT(handed, 64U);
    for (int i = 0; i < 10; ++i) EXPECT_FALSE(server_->send(link, update));
  }
  EXPECT_TRUE(eventually([&] { return handler_.linked() == 0; }));
  EXPECT_TRUE(handler_.ended_with("too much waits to be sent to it"));
  EXPECT_EQ(server_->counts().cut, 1U);
}

TEST_F(LinkAttack, AFloodOfAsksByOneThatReadsNoAnswerIsNotReadOn) {
  handler_.padding = std::string(1'000, 'x');
  const auto one = joined();
  Envelope ask;
  ask.mutable_entry_ask()->set_number(1);
  // 40,000 answers of 1 KiB: far more than the sockets hold.
  for (int i = 0; i < 40'000; ++i) one->send(ask);
  net::testing::run(loop_, [](net::Loop& loop) -> net::Task<void> { co_await loop.sleep_until(loop.in(3s)); }(loop_));
  const std::uint64_t taken = handler_.asks;
  EXPECT_LT(taken, 30'000U) << "it is slowed by not being read from";
  // It reads after all: everything is answered.
  std::uint64_t answered = 0;
  while (answered < 40'000 && run(one->receive(loop_.in(5s)))) ++answered;
  EXPECT_EQ(answered, 40'000U);
}

TEST_F(LinkAttack, ThoseThatOnlyConnectMakeRoomForAGuard) {
  std::vector<UniqueFd> silent;
  while (silent.size() < limits::kLinkUnregisteredPerLoopMax) {
    silent.push_back(net::testing::connect_to("127.0.0.1", server_.port));
  }
  ASSERT_TRUE(eventually([&] { return server_->counts().open == silent.size(); }));
  const auto begun = std::chrono::steady_clock::now();
  const auto one = guard();
  const auto answer = run(one->join("one", loop_.in(9s)));  // earlier than they have to go by themselves
  EXPECT_TRUE(answer && answer->has_registered());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, limits::kLinkRegisterTimeout - 1s);
  EXPECT_GE(server_->counts().evicted, 1U);
}

TEST_F(LinkAttack, OneThatIsUnderWayDoesNotMakeRoomForOthers) {
  const auto slow = guard();
  ASSERT_TRUE(run(slow->open(loop_.in(5s))));  // and says nothing more for now
  std::vector<UniqueFd> silent;
  while (silent.size() < limits::kLinkUnregisteredPerLoopMax + 20) {
    silent.push_back(net::testing::connect_to("127.0.0.1", server_.port));
  }
  const auto talk = [](net::Loop& loop, RawGuard& slow) -> net::Task<void> {
    for (int i = 0; i < 5; ++i) {
      slow.socket().ping();
      co_await loop.sleep_until(loop.in(1s));
    }
  };
  net::testing::run(loop_, talk(loop_, *slow));
  EXPECT_GE(server_->counts().evicted, 1U) << "of the silent, which came later";
  slow->send(RawGuard::hello("slow"));
  const auto answer = run(slow->receive(loop_.in(5s)));
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_TRUE(answer->has_registered());
}

TEST_F(LinkAttack, ManyConnectionsAtOnceAreAllServed) {
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  ASSERT_GE(files.rlim_max, 1'024U);
  const std::size_t many = std::min<std::size_t>(2'000, (files.rlim_max - 100) / 2);  // both ends are in this process
  std::size_t registered = 0, over = 0;
  many_.resize(many);
  for (std::size_t i = 0; i < many; ++i) loop_.spawn(join_again(*this, i, registered, over));
  loop_.run();
  EXPECT_EQ(registered, many);
  EXPECT_EQ(server_->counts().guards, many);
}

}  // namespace
}  // namespace sallyport::controller
