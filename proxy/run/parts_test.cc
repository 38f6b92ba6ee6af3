// The parts of running a command that need no namespace.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <map>

#include "proxy/run/command_spec.h"
#include "proxy/run/descriptors.h"
#include "proxy/run/guarded_command.h"
#include "proxy/run/mounts.h"
#include "proxy/run/refusal.h"
#include "proxy/run/supervisor_channel.h"

namespace sallyport::run {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(CommandSpec, ArrivesAsItWasPacked) {
  CommandSpec spec{{"command", "", "two words", "line\nbreak"},
                   {"A=1", "EMPTY=", std::string("BIG=") + std::string(200'000, 'x')},
                   {{"/from", "/to"}},
                   {{"/policy", Shield::Kind::read_only}, {"/secret", Shield::Kind::hidden}}};
  auto packed = pack(spec);
  ASSERT_TRUE(packed);
  auto unpacked = unpack(packed->get());
  ASSERT_TRUE(unpacked);
  EXPECT_EQ(unpacked->argv, spec.argv);
  EXPECT_EQ(unpacked->environment, spec.environment);
  ASSERT_EQ(unpacked->binds.size(), 1U);
  EXPECT_EQ(unpacked->binds[0].source, "/from");
  EXPECT_EQ(unpacked->binds[0].target, "/to");
  ASSERT_EQ(unpacked->shields.size(), 2U);
  EXPECT_EQ(unpacked->shields[0].path, "/policy");
  EXPECT_EQ(unpacked->shields[0].kind, Shield::Kind::read_only);
  EXPECT_EQ(unpacked->shields[1].path, "/secret");
  EXPECT_EQ(unpacked->shields[1].kind, Shield::Kind::hidden);
}

TEST(CommandSpec, WithoutACommandOrWithANulIsAnError) {
  EXPECT_EQ(pack(CommandSpec{}).error().kind, ErrorKind::invalid);
  EXPECT_EQ(pack(CommandSpec{{std::string("a\0b", 3)}, {}, {}, {}}).error().kind, ErrorKind::invalid);
  EXPECT_EQ(pack(CommandSpec{{"a"}, {std::string("A=\0", 3)}, {}, {}}).error().kind, ErrorKind::invalid);
}

struct Ends {
  UniqueFd one, other;
};

Ends make_ends() {
  int ends[2] = {-1, -1};
  ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

TEST(SupervisorChannel, CarriesWordsTextAndDescriptors) {
  Ends ends = make_ends();
  UniqueFd file(::dup(0));
  const int descriptor = file.get();
  ASSERT_TRUE(send_message(ends.one.get(), Message(Word::ready, 5, "text"), std::span(&descriptor, 1)));
  auto received = receive_message(ends.other.get());
  ASSERT_TRUE(received);
  EXPECT_EQ(received->message.word, Word::ready);
  EXPECT_EQ(received->message.value, 5);
  EXPECT_EQ(received->message.text_view(), "text");
  EXPECT_EQ(received->descriptors.size(), 1U);
}

TEST(SupervisorChannel, LongTextIsCutAndAGoneOtherSideIsAnError) {
  Ends ends = make_ends();
  ASSERT_TRUE(send_message(ends.one.get(), Message(Word::failed, 0, std::string(5'000, 'x'))));
  EXPECT_EQ(receive_message(ends.other.get())->message.text_view().size(), 999U);
  ends.one.reset();
  EXPECT_EQ(receive_message(ends.other.get()).error().kind, ErrorKind::closed);
  EXPECT_FALSE(send_message(ends.other.get(), Message(Word::go)));
}

Variable variables(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) -> std::optional<std::string> {
    auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
  };
}

// What the check says while a socket is standard input.
Result<void> check_with_standard_input(int socket) {
  UniqueFd before(::dup(0));
  ::dup2(socket, 0);
  auto checked = refuse_standard_streams_to_the_outside();
  ::dup2(before.get(), 0);
  return checked;
}

TEST(StandardStreams, MayNotBeSocketsThatCouldBeConnectedElsewhere) {
  for (int domain : {AF_INET, AF_INET6}) {
    for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
      UniqueFd socket(::socket(domain, type | SOCK_CLOEXEC, 0));
      if (!socket) continue;  // no IPv6 here
      auto checked = check_with_standard_input(socket.get());
      ASSERT_FALSE(checked);
      EXPECT_THAT(checked.error().text, HasSubstr("standard input"));
    }
  }
  UniqueFd datagrams(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_FALSE(check_with_standard_input(datagrams.get()));
  Ends ends = make_ends();
  EXPECT_TRUE(check_with_standard_input(ends.one.get()));
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_TRUE(check_with_standard_input(null.get()));
}

TEST(Covers, HideServicesOfTheHostAndOfTheUser) {
  Covers covers = paths_to_cover(variables({{"XDG_RUNTIME_DIR", "/run/user/7"}, {"HOME", "/home/somebody"}}));
  EXPECT_THAT(covers.directories, Contains("/run/nscd"));
  EXPECT_THAT(covers.directories, Contains("/run/dbus"));
  EXPECT_THAT(covers.directories, Contains("/run/user/7/systemd"));
  EXPECT_THAT(covers.directories, Not(Contains("/run/user/7")));
  EXPECT_THAT(covers.directories, Contains("/nix/var/nix/daemon-socket"));
  EXPECT_THAT(covers.directories, Contains("/tmp/.X11-unix"));
  EXPECT_THAT(covers.files, Contains("/run/docker.sock"));
  EXPECT_THAT(covers.files, Contains("/run/user/7/bus"));
  EXPECT_THAT(covers.files, Contains("/home/somebody/.gnupg/S.dirmngr"));
}

TEST(Covers, HideTheBusWhereverItIs) {
  Covers covers = paths_to_cover(
      variables({{"DBUS_SESSION_BUS_ADDRESS", "unix:path=/tmp/bus-1,guid=00;unix:abstract=x;unix:path=/tmp/bus-2"}}));
  EXPECT_THAT(covers.files, Contains("/tmp/bus-1"));
  EXPECT_THAT(covers.files, Contains("/tmp/bus-2"));
}

TEST(Covers, HideSocketsThatVariablesName) {
  Covers covers = paths_to_cover(variables({{"TMUX", "/tmp/tmux-7/default,123,0"},
                                            {"DOCKER_HOST", "unix:///home/somebody/docker.sock"},
                                            {"KITTY_LISTEN_ON", "unix:@kitty"},
                                            {"CONTAINER_HOST", "ssh://machine/run/podman.sock"}}));
  EXPECT_THAT(covers.files, Contains("/tmp/tmux-7/default"));
  EXPECT_THAT(covers.files, Contains("/home/somebody/docker.sock"));
  EXPECT_THAT(covers.files, Not(Contains(HasSubstr("kitty"))));
  EXPECT_THAT(covers.files, Not(Contains(HasSubstr("podman.sock"))));
  EXPECT_NO_FATAL_FAILURE(paths_to_cover(variables({{"TMUX", "////"}, {"NVIM", ""}, {"DOCKER_HOST", "unix:"}})));
}

TEST(Refusal, NamesTheSettingsOrAWayRound) { EXPECT_THAT(how_to_allow_namespaces(), HasSubstr("user")); }

TEST(GuardedCommand, StartErrorsHaveTheShellsCodes) {
  EXPECT_EQ(GuardedCommand::exit_code_of({ErrorSource::internal, ErrorKind::unavailable, ""}), 127);
  EXPECT_EQ(GuardedCommand::exit_code_of({ErrorSource::internal, ErrorKind::refused, ""}), 126);
  EXPECT_EQ(GuardedCommand::exit_code_of({ErrorSource::internal, ErrorKind::invalid, ""}), 125);
}

}  // namespace
}  // namespace sallyport::run
