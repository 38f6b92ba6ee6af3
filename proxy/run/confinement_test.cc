// What a guarded command can no longer do, and what it still can.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "proxy/run/test_process.h"

namespace sallyport::run::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class Confinement : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (std::string reason = reason_to_skip(GetParam()); !reason.empty()) GTEST_SKIP() << reason;
  }
  std::string try_out(Arguments tries) { return run(as_user(GetParam(), probe(std::move(tries)))).output; }
  Outcome shell(const std::string& script, Arguments options = {}) {
    return run(as_user(GetParam(), {"sh", "-c", script}, std::move(options)));
  }
};

INSTANTIATE_TEST_SUITE_P(As, Confinement, ::testing::Values(0, kNobody),
                         [](const auto& each) { return each.param == 0 ? "Root" : "OrdinaryUser"; });

TEST_P(Confinement, EveryCapabilitySetIsEmptyAndStaysSo) {
  std::string status = try_out({"status"});
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    EXPECT_THAT(status, HasSubstr(std::string(set) + ": 0000000000000000"));
  }
  EXPECT_THAT(status,
              AllOf(HasSubstr("NoNewPrivs: 1"), HasSubstr("Seccomp: 2"), HasSubstr("SigBlk: 0000000000000000")));
}

TEST_P(Confinement, SocketsOfOtherFamiliesAreRefused) {
  Arguments tries;
  for (int family : {AF_VSOCK, AF_PACKET, AF_XDP, AF_BLUETOOTH, AF_ALG, AF_CAN, AF_TIPC, AF_SMC, AF_RXRPC, AF_KCM}) {
    for (const std::string& word :
         {std::string("socket"), std::to_string(family), std::string("3"), std::string("0"), std::string("--")}) {
      tries.push_back(word);
    }
  }
  // A family is an int: what is above its 32 bits is nothing to the kernel.
  for (const char* word : {"socket", "0x100000028", "1", "0", "--", "socketpair", "30"}) tries.emplace_back(word);
  std::string seen = try_out(std::move(tries));
  EXPECT_THAT(seen, Not(HasSubstr("ok")));
  EXPECT_EQ(std::count(seen.begin(), seen.end(), '\n'), 12);
  std::size_t refusals = 0;
  for (std::size_t at = 0; (at = seen.find("EAFNOSUPPORT", at)) != std::string::npos; ++at) ++refusals;
  EXPECT_EQ(refusals, 12U) << seen;
}

TEST_P(Confinement, RawAndPingSocketsAreRefused) {
  std::string seen =
      try_out({"socket", "2", "3",  "1",      "--", "socket", "2",  "3",  "255",    "--", "socket", "2",
               "2",      "1", "--", "socket", "10", "3",      "58", "--", "socket", "10", "2",      "58"});
  EXPECT_THAT(seen, Not(HasSubstr("ok")));
}

TEST_P(Confinement, OrdinarySocketsAreMade) {
  EXPECT_EQ(try_out({"socket", "1", "1", "0",  "--",     "socket", "2", "1", "0",  "--",         "socket",
                     "10",     "2", "0", "--", "socket", "16",     "3", "0", "--", "socketpair", "1"}),
            "socket: ok\nsocket: ok\nsocket: ok\nsocket: ok\nsocketpair: ok\n");
}

#ifdef __x86_64__
TEST_P(Confinement, OtherCallingConventionsAreNoWayAround) {
  EXPECT_EQ(
      try_out(
          {"socket-i386", "40", "--", "socketcall-i386", "40", "--", "socketcall-i386", "2", "--", "socket-x32", "2"}),
      "socket-i386: EAFNOSUPPORT\nsocketcall-i386: EAFNOSUPPORT\nsocketcall-i386: EAFNOSUPPORT\nsocket-x32: ENOSYS\n");
}
#endif

TEST_P(Confinement, CallsThatWouldReachTheNetworkAnotherWayAreRefused) {
  EXPECT_EQ(try_out({"ring", "--", "request-key"}), "ring: ENOSYS\nrequest-key: ENOSYS\n");
}

TEST_P(Confinement, TheRulesCannotBeUndone) {
  EXPECT_EQ(try_out({"flush", "--", "link-down", "--", "new-user-namespace", "--", "flush", "--", "link-down"}),
            "flush: refused\nlink-down: EPERM\nnew-user-namespace: ok\nflush: refused\nlink-down: EPERM\n");
}

TEST_P(Confinement, NoOtherNamespaceCanBeEntered) {
  for (const char* name : {"net", "user", "mnt", "pid"}) {
    std::string path = std::string("/proc/1/ns/") + name;
    EXPECT_EQ(try_out({"enter", path, "--", "new-user-namespace", "--", "enter", path}),
              "enter: EACCES\nnew-user-namespace: ok\nenter: EACCES\n");
  }
}

TEST_P(Confinement, TheSupervisorCannotBeAttachedTo) {
  EXPECT_EQ(try_out({"attach", "1"}), "attach: EPERM EACCES EPERM\n");
}

TEST_P(Confinement, ProcessesOutsideAreNotSeen) {
  EXPECT_EQ(shell("kill -0 " + std::to_string(::getpid()) + " 2>/dev/null || echo none").output, "none\n");
  EXPECT_EQ(shell("ls -d /proc/[0-9]* | wc -l | tr -d ' '").output.size(), 2U);  // one digit and a newline
}

TEST_P(Confinement, OnlyTheStandardDescriptorsAreInherited) {
  GuardProcess guard(as_user(GetParam(), probe({"descriptors"})),
                     [] { return ::dup2(::open("/etc/passwd", O_RDONLY), 77) == 77; });
  EXPECT_EQ(guard.finish().output, "descriptors: 0 1 2 \n");
}

TEST_P(Confinement, ClosedStandardDescriptorsAreNotFilledWithTheGuardsOwn) {
  GuardProcess guard(as_user(GetParam(), {"sh", "-c", "readlink /proc/self/fd/0 /proc/self/fd/2"}, {"--scratch"}),
                     [] { return ::close(0) == 0 && ::close(2) == 0; });
  EXPECT_EQ(guard.finish().output, "/dev/null\n/dev/null\n");
}

TEST_P(Confinement, UserGroupsAndFileOwnersAreTheOriginalOnes) {
  Outcome seen = shell("id -u; id -g; touch \"$SCRATCH/made\"; stat -c '%u %g' \"$SCRATCH/made\"", {"--scratch"});
  int user = ::geteuid() == 0 ? GetParam() : static_cast<int>(::geteuid());
  int group = ::geteuid() == 0 ? GetParam() : static_cast<int>(::getegid());
  std::string ids = std::to_string(user) + "\n" + std::to_string(group) + "\n";
  EXPECT_EQ(seen.output, ids + std::to_string(user) + " " + std::to_string(group) + "\n") << seen.log;
  if (GetParam() == 0) {
    EXPECT_EQ(shell("stat -c %U:%G /etc/passwd").output, "root:root\n");
  }
}

TEST_P(Confinement, SupplementaryGroupsKeepTheirRights) {
  if (GetParam() == 0 || ::geteuid() != 0)
    GTEST_SKIP() << "run_test_guard gives groups only when root makes it another user";
  // A directory that only group 12345 may enter, which run_test_guard adds.
  std::string folder = "/tmp/sallyport-group-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  std::ofstream(folder + "/file") << "for the group";
  ASSERT_EQ(::chown(folder.c_str(), 0, 12'345), 0);
  ASSERT_EQ(::chmod(folder.c_str(), 0750), 0);
  EXPECT_EQ(shell("cat " + folder + "/file").output, "for the group");
  std::filesystem::remove_all(folder);
}

TEST_P(Confinement, BindsCoverFilesAndAMissingTargetIsSkipped) {
  std::string source = "/tmp/sallyport-bind-XXXXXX";
  UniqueFd file(::mkstemp(source.data()));
  ASSERT_EQ(::write(file.get(), "covered\n", 8), 8);
  ASSERT_EQ(::fchmod(file.get(), 0644), 0);
  Outcome seen = shell("cat /etc/hostname; test -e /nonexistent || echo absent",
                       {"--bind", source, "/etc/hostname", "--bind", source, "/nonexistent/file"});
  EXPECT_EQ(seen.output, "covered\nabsent\n") << seen.log;
  std::ifstream outside("/etc/hostname");
  std::string line;
  std::getline(outside, line);
  EXPECT_NE(line, "covered");
  std::filesystem::remove(source);
}

TEST_P(Confinement, KernelSettingsAreNotTheCommandsToChange) {
  EXPECT_THAT(try_out({"write", "/proc/sys/kernel/core_pattern", "--", "write", "/proc/sys/net/ipv4/ip_forward", "--",
                       "write", "/proc/sysrq-trigger"}),
              Not(HasSubstr("ok")));
  // Nor can it get a fresh, writable view of them.
  EXPECT_THAT(
      shell("unshare -Urmpf --mount-proc sh -c 'echo x > /proc/sys/kernel/core_pattern' && echo written").output,
      Not(HasSubstr("written")));
}

// A program of the host's that listens on a unix socket.
UniqueFd listen_on(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), name.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(::listen(socket.get(), 5), 0);
  if (name[0] != '@') ::chmod(name.c_str(), 0777);
  return socket;
}

TEST_P(Confinement, SocketsOfServicesThatRunCommandsAreCovered) {
  std::string folder = "/tmp/sallyport-sockets-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
  UniqueFd engine = listen_on(folder + "/engine"), other = listen_on(folder + "/other");
  const std::string abstract = "@" + folder;
  UniqueFd unnamed = listen_on(abstract);
  GuardProcess guard(
      as_user(GetParam(), probe({"unix", folder + "/engine", "--", "unix", folder + "/other", "--", "unix", abstract})),
      [&] { return ::setenv("DOCKER_HOST", ("unix://" + folder + "/engine").c_str(), 1) == 0; });
  // What covers the engine's socket is a read-only file. Abstract names belong to a network namespace: none of the
  // host's is in this one.
  EXPECT_EQ(guard.finish().output, "unix: EROFS\nunix: ok\nunix: ECONNREFUSED\n");
  std::filesystem::remove_all(folder);
}

TEST_P(Confinement, MasksCannotBeTakenOff) {
  std::string script =
      "umount /etc/resolv.conf 2>/dev/null && echo off; unshare -Urm sh -c 'umount /etc/resolv.conf' 2>/dev/null && "
      "echo off; cat /etc/resolv.conf";
  EXPECT_EQ(shell(script).output, "nameserver 127.0.0.1\noptions edns0\n");
}

}  // namespace
}  // namespace sallyport::run::test
