#include "proxy/net/proxy_connect.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "proxy/net/test_peer.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;

class ProxyConnect : public ::testing::Test {
 protected:
  ProxyConnect() {
    auto [ours, theirs] = testing::tcp_pair();
    stream_.emplace(loop_, std::move(ours), ErrorSource::upstream);
    theirs_ = std::move(theirs);
    proxy_.host = "proxy.example.com";
    proxy_.port = 3128;
  }
  void say(std::string_view bytes) {
    ASSERT_EQ(::send(theirs_.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  // "connected", or why not.
  std::string connect(Clock::duration patience) {
    const auto done = testing::run(loop_, connect_through(*stream_, proxy_, "a.example:443", loop_.in(patience)));
    return done ? "connected" : done.error().text;
  }

  Loop loop_;
  std::optional<Stream> stream_;
  UniqueFd theirs_;
  document::UpstreamProxy proxy_;
};

Task<void> say_later(Loop& loop, int fd, std::string bytes, int& turns) {
  for (; turns < 5; ++turns) co_await loop.sleep_until(loop.in(20ms));
  ::send(fd, bytes.data(), bytes.size(), 0);
}

TEST_F(ProxyConnect, TheRestOfAnAnswerIsWaitedForWhileOthersGoOn) {
  int turns = 0;
  say("HTTP/1.1 200 Fine\r\nVia: ");
  loop_.spawn(say_later(loop_, theirs_.get(), "x\r\n\r\n220 hello", turns));
  EXPECT_EQ(connect(10s), "connected");
  EXPECT_EQ(turns, 5);
  char first[3];
  EXPECT_EQ(::recv(stream_->socket().fd(), first, 3, 0), 3);
  EXPECT_EQ(std::string_view(first, 3), "220") << "what follows the answer is the server's";
}

TEST_F(ProxyConnect, HalfAnAnswerIsGivenUpAtTheDeadline) {
  say("HTTP/1.1 200 Fine\r\n");
  EXPECT_NE(connect(100ms).find("did not answer in time"), std::string::npos);
}

TEST_F(ProxyConnect, HalfAnAnswerAndTheEndIsNone) {
  say("HTTP/1.1 200 Fine\r\n");
  ::shutdown(theirs_.get(), SHUT_WR);
  EXPECT_NE(connect(10s).find("closed the connection"), std::string::npos);
}

}  // namespace
}  // namespace sallyport::net
