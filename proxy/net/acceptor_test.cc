#include "proxy/net/acceptor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "proxy/net/run_task_test.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class AcceptorTest : public ::testing::Test {
 protected:
  AcceptorTest() : listening_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(listening_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
    EXPECT_EQ(::listen(listening_.get(), 1'000), 0);
    socklen_t length = sizeof address_;
    EXPECT_EQ(::getsockname(listening_.get(), reinterpret_cast<sockaddr*>(&address_), &length), 0);
  }

  void connect(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      clients_.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      EXPECT_EQ(::connect(clients_.back().get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_), 0);
    }
  }

  void start(std::size_t connections_max) {
    limit_.emplace(connections_max);
    Acceptor::Handlers handlers;
    handlers.on_connection = [this](UniqueFd fd, ConnectionSlot slot) {
      accepted_.emplace_back(std::move(fd), std::move(slot));
    };
    handlers.on_trouble = [this](const std::string& text) { troubles_.push_back(text); };
    acceptor_.emplace(loop_, std::move(listening_), *limit_, std::move(handlers));
  }

  Loop loop_;
  sockaddr_in address_{};
  UniqueFd listening_;
  std::vector<UniqueFd> clients_;
  std::vector<std::pair<UniqueFd, ConnectionSlot>> accepted_;
  std::vector<std::string> troubles_;
  std::optional<ConnectionLimit> limit_;
  std::optional<Acceptor> acceptor_;
};

TEST_F(AcceptorTest, HandsOutMoreThanOneBatch) {
  start(1'000);
  connect(limits::kAcceptsPerWakeMax * 2 + 5);
  run_for(loop_, 50ms);
  ASSERT_THAT(accepted_, SizeIs(limits::kAcceptsPerWakeMax * 2 + 5));
  EXPECT_EQ(limit_->open(), accepted_.size());
  const int fd = accepted_.front().first.get();
  EXPECT_NE(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(AcceptorTest, WaitsAtTheLimitUntilConnectionsEnd) {
  start(3);
  connect(8);
  run_for(loop_, 30ms);
  ASSERT_THAT(accepted_, SizeIs(3));
  EXPECT_TRUE(limit_->full());
  accepted_.pop_back();
  accepted_.pop_back();
  EXPECT_EQ(limit_->open(), 1U);
  run_for(loop_, 30ms);
  EXPECT_THAT(accepted_, SizeIs(3));
  accepted_.clear();
  run_for(loop_, 30ms);
  EXPECT_THAT(accepted_, SizeIs(3));
  EXPECT_THAT(troubles_, SizeIs(0));
}

TEST_F(AcceptorTest, AsksForRoomOnlyWhileAConnectionWaits) {
  limit_.emplace(2);
  int asked = 0;
  Acceptor::Handlers handlers;
  handlers.on_connection = [this](UniqueFd fd, ConnectionSlot slot) {
    accepted_.emplace_back(std::move(fd), std::move(slot));
  };
  handlers.on_full = [&] {
    ++asked;
    accepted_.erase(accepted_.begin());  // the oldest makes room
  };
  acceptor_.emplace(loop_, std::move(listening_), *limit_, std::move(handlers));
  connect(2);
  run_for(loop_, 50ms);
  EXPECT_EQ(asked, 0);
  const int second = accepted_.back().first.get();
  connect(1);
  run_for(loop_, 50ms);
  EXPECT_EQ(asked, 1);
  ASSERT_THAT(accepted_, SizeIs(2));
  EXPECT_EQ(accepted_.front().first.get(), second);
}

TEST_F(AcceptorTest, AsksAgainAndDoesNotSpinWhenNobodyMakesRoom) {
  limit_.emplace(1);
  int asked = 0;
  Acceptor::Handlers handlers;
  handlers.on_connection = [this](UniqueFd fd, ConnectionSlot slot) {
    accepted_.emplace_back(std::move(fd), std::move(slot));
  };
  handlers.on_full = [&] { ++asked; };
  acceptor_.emplace(loop_, std::move(listening_), *limit_, std::move(handlers));
  connect(2);
  run_for(loop_, 350ms);
  EXPECT_THAT(accepted_, SizeIs(1));
  EXPECT_GE(asked, 1);
  EXPECT_LE(asked, 5) << "once in a while";
  accepted_.clear();
  run_for(loop_, 50ms);
  EXPECT_THAT(accepted_, SizeIs(1)) << "a place that becomes free is taken at once";
}

TEST_F(AcceptorTest, FinishHandsOutWhoHasConnectedAndNobodyAfterwards) {
  start(100);
  connect(limits::kAcceptsPerWakeMax + 3);
  loop_.post([this] { acceptor_->finish(); });  // before the loop has looked at the listener
  run_for(loop_, 20ms);
  EXPECT_THAT(accepted_, SizeIs(limits::kAcceptsPerWakeMax + 3));
  EXPECT_EQ(loop_.tasks(), 0U);
  acceptor_.reset();
  const UniqueFd late(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::connect(late.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_), 0);
}

TEST_F(AcceptorTest, FinishStopsAtTheLimit) {
  start(2);
  connect(5);
  loop_.post([this] { acceptor_->finish(); });
  run_for(loop_, 20ms);
  EXPECT_THAT(accepted_, SizeIs(2));
  EXPECT_EQ(loop_.tasks(), 0U);
}

TEST_F(AcceptorTest, TwoAcceptorsShareOneLimit) {
  start(2);
  UniqueFd other(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  ASSERT_EQ(::bind(other.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(other.get(), 10), 0);
  socklen_t length = sizeof address;
  ASSERT_EQ(::getsockname(other.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  Acceptor::Handlers handlers;
  handlers.on_connection = [this](UniqueFd fd, ConnectionSlot slot) {
    accepted_.emplace_back(std::move(fd), std::move(slot));
  };
  const Acceptor second(loop_, std::move(other), *limit_, std::move(handlers));
  connect(2);
  run_for(loop_, 20ms);
  address_ = address;
  connect(1);
  run_for(loop_, 20ms);
  EXPECT_THAT(accepted_, SizeIs(2));
  accepted_.clear();
  run_for(loop_, 20ms);
  EXPECT_THAT(accepted_, SizeIs(1));
}

TEST_F(AcceptorTest, WithoutDescriptorsItSaysSoOnceAndGoesOnLater) {
  start(100);
  connect(4);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // The lowest free descriptor is above the limit: accept fails with EMFILE.
  const UniqueFd probe(::dup(clients_.back().get()));
  const rlimit none{static_cast<rlim_t>(probe.get()), before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  run_for(loop_, 350ms);
  // The sanitizers need a descriptor of their own to look at what a matcher points to.
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(accepted_, SizeIs(0));
  EXPECT_THAT(troubles_, SizeIs(1));
  run_for(loop_, 200ms);
  EXPECT_THAT(accepted_, SizeIs(4));
  ASSERT_FALSE(troubles_.empty());
  EXPECT_THAT(troubles_.front(), HasSubstr("Too many open files"));
}

TEST_F(AcceptorTest, HandsOutNothingAfterItHasGone) {
  start(2);
  connect(3);
  run_for(loop_, 20ms);
  ASSERT_THAT(accepted_, SizeIs(2));
  acceptor_.reset();
  accepted_.clear();
  run_for(loop_, 20ms);
  EXPECT_THAT(accepted_, SizeIs(0));
  EXPECT_EQ(loop_.tasks(), 0U);
}

TEST_F(AcceptorTest, MayBeDestroyedByItsOwnHandler) {
  limit_.emplace(10);
  Acceptor::Handlers handlers;
  handlers.on_connection = [this](UniqueFd fd, ConnectionSlot slot) {
    accepted_.emplace_back(std::move(fd), std::move(slot));
    acceptor_.reset();
  };
  acceptor_.emplace(loop_, std::move(listening_), *limit_, std::move(handlers));
  connect(3);
  run_for(loop_, 20ms);
  EXPECT_THAT(accepted_, SizeIs(1));
  EXPECT_EQ(loop_.tasks(), 0U);
}

TEST(ConnectionLimitTest, CountsWhatIsHeld) {
  const ConnectionLimit limit(2);
  {
    ConnectionLimit copy = limit;
    ConnectionSlot first = copy.take();
    ConnectionSlot second = std::move(first);
    EXPECT_EQ(limit.open(), 1U);
    ConnectionSlot third = copy.take();
    EXPECT_TRUE(limit.full());
    third = ConnectionSlot();
    EXPECT_EQ(limit.open(), 1U);
  }
  EXPECT_EQ(limit.open(), 0U);
}

}  // namespace
}  // namespace sallyport::net
