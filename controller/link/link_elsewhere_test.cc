// A guard that is sent to another controller: where it goes, and where it does not.

#include <gtest/gtest.h>
#include <poll.h>

#include "controller/link/test_controller.h"

namespace sallyport::controller {
namespace {

using namespace testing;
using net::testing::TemporaryFile;

std::string url_of(std::uint16_t port) { return "wss://127.0.0.1:" + std::to_string(port); }

// Sends whoever comes to `url`.
class SendingHandler final : public LinkHandler {
 public:
  explicit SendingHandler(std::string to) : url(std::move(to)) {}
  void connected(Links& way, LinkId link, v1alpha1::Register&&) override {
    ++came;
    v1alpha1::Refused refused;
    refused.set_reason(v1alpha1::REFUSED_REASON_ELSEWHERE);
    refused.set_url(url);
    way.close(link, refused);
  }
  void received(LinkId, Envelope&&) override {}
  void closed(LinkId, const std::string&) override {}

  const std::string url;
  std::atomic<int> came = 0;
};

TEST(LinkElsewhere, AGuardGoesAtOnceToTheControllerThatItIsSentTo) {
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  RecordingHandler handler;
  const auto right = serve(handler, identity);
  SendingHandler sending(url_of(right.port));
  const auto wrong = serve(sending, identity);
  const auto link = connect(wrong.port, root.path());
  ASSERT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;
  EXPECT_EQ(sending.came, 1);
  link->report(event_of(1));
  EXPECT_TRUE(link->flush(10s));
}

TEST(LinkElsewhere, WhenThatControllerIsGoneItBeginsAnewWithItsOwn) {
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  RecordingHandler handler;
  auto right = serve(handler, identity);
  SendingHandler sending(url_of(right.port));
  const auto wrong = serve(sending, identity);
  const auto link = connect(wrong.port, root.path());
  ASSERT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;
  right.server.reset();
  EXPECT_TRUE(eventually([&] { return sending.came >= 2; }));
  right = serve(handler, identity, right.port);
  EXPECT_TRUE(eventually([&] { return connected(*link); })) << link->status().text;
}

TEST(LinkElsewhere, ItIsNotSentOutOfTlsNorToWhatIsNoUrl) {
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  const net::testing::Listener listener;
  const std::string at = "127.0.0.1:" + std::to_string(listener.port());
  for (const std::string& url : {"ws://" + at, "http://" + at, "wss://" + at + "/path", at, std::string("wss://")}) {
    SendingHandler sending(url);
    const auto server = serve(sending, identity);
    const auto link = connect(server.port, root.path());
    EXPECT_TRUE(eventually([&] { return sending.came >= 3; })) << url;
  }
  pollfd waiting{listener.fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&waiting, 1, 0), 0) << "nobody has connected";
}

TEST(LinkElsewhere, AControllerWhoseCertificateIsOfSomebodyElseIsToldNothing) {
  const TestIdentity identity, foreign;
  const TemporaryFile root(identity.root_pem);
  RecordingHandler handler;
  // Below another CA; and below the right one, but for another host.
  const auto evil = serve(handler, foreign), elsewhere = serve(handler, identity);
  for (const std::string& url : {url_of(evil.port), "wss://localhost:" + std::to_string(elsewhere.port)}) {
    SendingHandler sending(url);
    const auto first = serve(sending, identity);
    const auto link = connect(first.port, root.path());
    EXPECT_TRUE(eventually([&] { return sending.came >= 3; })) << url;
    EXPECT_FALSE(connected(*link));
  }
  EXPECT_TRUE(handler.registers.empty());
}

TEST(LinkElsewhere, InACircleItWaitsAsAfterAnyFailure) {
  const TestIdentity identity;
  const TemporaryFile root(identity.root_pem);
  const std::uint16_t port = free_port();
  SendingHandler circle(url_of(port));
  const auto server = serve(circle, identity, port);
  const auto begun = std::chrono::steady_clock::now();
  const auto link = connect(port, root.path());
  ASSERT_TRUE(eventually([&] { return circle.came >= 4 * (limits::kLinkHopsMax + 1); }, 60s));
  // Three waits have passed between four rounds: they double, and half of each is by chance.
  EXPECT_GE(std::chrono::steady_clock::now() - begun, 7 * limits::kLinkReconnectMin / 2);
}

}  // namespace
}  // namespace sallyport::controller
