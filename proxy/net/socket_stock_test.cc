#include "proxy/net/socket_stock.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <cstring>

#include "proxy/net/run_task_test.h"

namespace sallyport::net {
namespace {

using std::chrono::milliseconds;

struct Channel {
  Channel() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    taken = UniqueFd(ends[0]);
    filled = UniqueFd(ends[1]);
  }
  UniqueFd taken, filled;
};

void send_socket(int channel) {
  const UniqueFd made(::socket(AF_INET, SOCK_STREAM, 0));
  char text[64] = "words that come along";
  iovec bytes{text, sizeof text};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* part = CMSG_FIRSTHDR(&header);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = made.get();
  std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
  EXPECT_GT(::sendmsg(channel, &header, 0), 0);
}

TEST(SocketStock, EachPacketIsOneSocketWhateverElseIsInIt) {
  Loop loop;
  Channel channel;
  send_socket(channel.filled.get());
  EXPECT_EQ(::send(channel.filled.get(), "x", 1, 0), 1);  // without one
  send_socket(channel.filled.get());
  SocketStock stock(loop, std::move(channel.taken));
  for (int i = 0; i < 2; ++i) {
    const auto taken = run_task(loop, stock.take(loop.in(milliseconds(1000))));
    ASSERT_TRUE(taken);
    int type = 0;
    socklen_t size = sizeof type;
    EXPECT_EQ(::getsockopt(taken->get(), SOL_SOCKET, SO_TYPE, &type, &size), 0);
    EXPECT_EQ(type, SOCK_STREAM);
  }
}

TEST(SocketStock, OneThatIsEmptyIsWaitedForUntilTheDeadline) {
  Loop loop;
  Channel channel;
  SocketStock stock(loop, std::move(channel.taken));
  const auto taken = run_task(loop, stock.take(loop.in(milliseconds(50))));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().kind, ErrorKind::timeout);
}

TEST(SocketStock, OneThatNobodyFillsAnyMoreSaysSo) {
  Loop loop;
  Channel channel;
  channel.filled.reset();
  SocketStock stock(loop, std::move(channel.taken));
  const auto taken = run_task(loop, stock.take(loop.in(milliseconds(1000))));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().kind, ErrorKind::closed);
}

}  // namespace
}  // namespace sallyport::net
