// How a guarded command starts and ends, what it gets on the way, and that nothing is left of it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "proxy/run/test_process.h"

namespace sallyport::run::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
constexpr int kGoneMs = 2'000;

class Lifetime : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (std::string reason = reason_to_skip(GetParam()); !reason.empty()) GTEST_SKIP() << reason;
  }
  Arguments shell(const std::string& script, Arguments options = {}) {
    return as_user(GetParam(), {"sh", "-c", script}, std::move(options));
  }
};

INSTANTIATE_TEST_SUITE_P(As, Lifetime, ::testing::Values(0, kNobody),
                         [](const auto& each) { return each.param == 0 ? "Root" : "OrdinaryUser"; });

TEST_P(Lifetime, ExitCodesAreTheCommandsOwn) {
  EXPECT_EQ(run(shell("exit 0")).code, 0);
  EXPECT_EQ(run(shell("exit 7")).code, 7);
  EXPECT_EQ(run(shell("exit 255")).code, 255);
  EXPECT_EQ(run(shell("kill -9 $$")).code, 128 + SIGKILL);
  EXPECT_EQ(run(shell("kill -TERM $$")).code, 128 + SIGTERM);
}

TEST_P(Lifetime, CommandsThatCannotRunHaveTheShellsCodes) {
  Outcome missing = run(as_user(GetParam(), {"sallyport-no-such-command"}));
  EXPECT_EQ(missing.code, 127);
  EXPECT_THAT(missing.log, HasSubstr("sallyport-no-such-command: command not found"));
  EXPECT_EQ(run(as_user(GetParam(), {"/nonexistent/command"})).code, 127);
  EXPECT_EQ(run(as_user(GetParam(), {""})).code, 127);
  Outcome refused = run(as_user(GetParam(), {"/etc/passwd"}));
  EXPECT_EQ(refused.code, 126);
  EXPECT_THAT(refused.log, HasSubstr("Permission denied"));
  EXPECT_EQ(run(as_user(GetParam(), {"/etc"})).code, 126);
}

// A directory of scripts that everybody may execute.
class Scripts {
 public:
  Scripts() {
    if (::mkdtemp(folder_.data()) == nullptr) std::abort();
    ::chmod(folder_.c_str(), 0755);
  }
  ~Scripts() { fs::remove_all(folder_); }
  std::string add(const std::string& name, const std::string& text) {
    std::string path = folder_ + "/" + name;
    std::ofstream(path) << text;
    ::chmod(path.c_str(), 0755);
    return path;
  }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_ = "/tmp/sallyport-scripts-XXXXXX";
};

TEST_P(Lifetime, TheCommandIsLookedUpInThePathThatItWillHave) {
  Scripts scripts;
  scripts.add("only-here", "#!/bin/sh\necho found $1\n");
  Outcome found =
      run(as_user(GetParam(), {"only-here", "it"}, {"--variable", "PATH=/nonexistent:" + scripts.folder() + ":/bin"}));
  EXPECT_EQ(found.output, "found it\n");
  EXPECT_EQ(run(as_user(GetParam(), {"only-here"})).code, 127);
}

TEST_P(Lifetime, ScriptsWithoutInterpreterLineRunAndWithAMissingOneDoNot) {
  Scripts scripts;
  EXPECT_EQ(run(as_user(GetParam(), {scripts.add("plain", "echo plain $1\n"), "script"})).output, "plain script\n");
  Outcome broken = run(as_user(GetParam(), {scripts.add("broken", "#!/nonexistent/interpreter\n")}));
  EXPECT_EQ(broken.code, 126);
  EXPECT_THAT(broken.log, HasSubstr("its interpreter is missing"));
}

TEST_P(Lifetime, StandardInputAndOutputPassThrough) {
  GuardProcess guard(as_user(GetParam(), {"tr", "a-z", "A-Z"}));
  guard.write_input("letters");
  EXPECT_EQ(guard.finish().output, "LETTERS");
}

TEST_P(Lifetime, TheOutputEndsWhenTheCommandClosesIt) {
  GuardProcess guard(shell("echo first; exec >&- 2>&-; sleep 30"));
  // Ends at end of file, well before the command does; "never" is never written.
  EXPECT_EQ(guard.read_output_until("never"), "first\n");
  EXPECT_TRUE(is_running(guard.pid()));
}

TEST_P(Lifetime, ArgumentsAndVariablesArriveWhole) {
  std::string big(100'000, 'x');
  Outcome seen = run(
      as_user(GetParam(), {"sh", "-c", "echo ${#BIG} \"$1\" \"$2\"", "sh", "", "a b"}, {"--variable", "BIG=" + big}));
  EXPECT_EQ(seen.output, "100000  a b\n");
}

TEST_P(Lifetime, ASignalToTheGuardReachesTheCommandOnce) {
  for (int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) {
    GuardProcess guard(as_user(GetParam(), probe({"await-signals", std::to_string(number)})));
    guard.read_output_until("waiting");
    ::kill(guard.pid(), number);
    EXPECT_THAT(guard.finish().output, HasSubstr("await-signals: 1\n")) << number;
  }
}

TEST_P(Lifetime, ASignalToTheWholeGroupReachesTheCommandOnce) {
  for (int number : {SIGTERM, SIGINT}) {
    GuardProcess guard(as_user(GetParam(), probe({"await-signals", std::to_string(number)})));
    guard.read_output_until("waiting");
    ::kill(-guard.pid(), number);
    EXPECT_THAT(guard.finish().output, HasSubstr("await-signals: 1\n")) << number;
  }
}

TEST_P(Lifetime, WhatTheUserIgnoresStaysIgnored) {
  GuardProcess guard(as_user(GetParam(), probe({"status"})), [] { return ::signal(SIGHUP, SIG_IGN) != SIG_ERR; });
  EXPECT_THAT(guard.finish().output, HasSubstr("SigIgn: 0000000000000001"));
}

// What a running guard is made of, so that its absence can be seen later.
struct Traces {
  std::set<pid_t> processes;
  fs::path scratch;
  std::string network;  // only root may look
};

Traces traces_of(GuardProcess& guard) {
  std::string log = guard.read_log_until("started");
  Traces traces{descendants(guard.pid()), word_after(log, "scratch"), ""};
  std::error_code error;
  traces.network = fs::read_symlink("/proc/" + word_after(log, "supervisor") + "/ns/net", error);
  return traces;
}

bool somebody_is_in(const std::string& network) {
  if (network.empty()) return false;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::error_code error;
    if (fs::read_symlink(entry.path() / "ns/net", error) == network) return true;
  }
  return false;
}

void expect_nothing_left(const Traces& traces) {
  EXPECT_GE(traces.processes.size(), 5U);  // janitor, supervisor, shell, sleepers
  EXPECT_TRUE(eventually(kGoneMs, [&] { return std::ranges::none_of(traces.processes, &is_running); }));
  EXPECT_TRUE(eventually(kGoneMs, [&] { return !fs::exists(traces.scratch); })) << traces.scratch;
  EXPECT_FALSE(somebody_is_in(traces.network));
}

// Leaves a background process, one in a session of its own, and files; and ignores what can be ignored.
constexpr const char* kStubborn =
    "trap '' TERM INT HUP QUIT; sleep 1000 & setsid sleep 1000 & touch \"$SCRATCH/file\"; mkdir -p \"$SCRATCH/a/b\"; "
    "chmod 0 \"$SCRATCH/a/b\"; echo up; sleep 1000";

TEST_P(Lifetime, NothingIsLeftAfterTheGuardIsKilled) {
  GuardProcess guard(shell(kStubborn, {"--scratch"}));
  guard.read_output_until("up");
  Traces traces = traces_of(guard);
  ASSERT_TRUE(fs::exists(traces.scratch));
  ::kill(guard.pid(), SIGKILL);
  EXPECT_EQ(guard.finish().code, 128 + SIGKILL);
  expect_nothing_left(traces);
}

TEST_P(Lifetime, NothingIsLeftAfterTheSupervisorIsKilled) {
  GuardProcess guard(shell(kStubborn, {"--scratch"}));
  guard.read_output_until("up");
  Traces traces = traces_of(guard);
  ::kill(std::stoi(word_after(guard.read_log_until("started"), "supervisor")), SIGKILL);
  Outcome end = guard.finish();
  EXPECT_EQ(end.code, 125);
  EXPECT_THAT(end.log, HasSubstr("supervisor was killed"));
  expect_nothing_left(traces);
}

TEST_P(Lifetime, NothingIsLeftAfterTheCommandIsKilled) {
  GuardProcess guard(shell(kStubborn, {"--scratch"}));
  guard.read_output_until("up");
  Traces traces = traces_of(guard);
  pid_t supervisor = std::stoi(word_after(guard.read_log_until("started"), "supervisor"));
  std::ifstream children("/proc/" + std::to_string(supervisor) + "/task/" + std::to_string(supervisor) + "/children");
  pid_t command = -1;
  ASSERT_TRUE(children >> command);
  ::kill(command, SIGKILL);
  EXPECT_EQ(guard.finish().code, 128 + SIGKILL);
  expect_nothing_left(traces);
}

TEST_P(Lifetime, NothingIsLeftWhenTheGuardIsKilledBeforeTheCommandStarts) {
  GuardProcess guard(shell("sleep 1000", {"--scratch"}));
  std::string log = guard.read_log_until("scratch");
  ::kill(guard.pid(), SIGKILL);
  guard.finish();
  std::string scratch = word_after(log, "scratch");
  EXPECT_TRUE(eventually(kGoneMs, [&] { return !fs::exists(scratch); }));
}

TEST_P(Lifetime, ADaemonOfTheCommandsEndsWithIt) {
  auto begin = std::chrono::steady_clock::now();
  // The daemon holds the output open: its end is the output's end.
  Outcome end = run(shell("setsid sh -c 'trap \"\" HUP TERM; sleep 15' & exit 3"));
  EXPECT_EQ(end.code, 3);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST_P(Lifetime, TheScratchDirectoryIsForTheUserAloneAndGoesAtTheEnd) {
  Outcome seen = run(shell("stat -c %a \"$SCRATCH\"; cat \"$SCRATCH/bundle.pem\"", {"--scratch"}));
  EXPECT_EQ(seen.output, "700\nnot a certificate");
  EXPECT_FALSE(fs::exists(word_after(seen.log, "scratch")));
}

TEST_P(Lifetime, TheScratchDirectoryIsInTheUsersRuntimeDirectory) {
  Scripts runtime;
  if (::geteuid() == 0) ASSERT_EQ(::chown(runtime.folder().c_str(), static_cast<uid_t>(GetParam()), 0), 0);
  GuardProcess guard(shell("echo \"$SCRATCH\"", {"--scratch"}),
                     [&] { return ::setenv("XDG_RUNTIME_DIR", runtime.folder().c_str(), 1) == 0; });
  EXPECT_THAT(guard.finish().output, HasSubstr(runtime.folder() + "/sallyport-"));
  // One that is somebody else's, or in which nothing can be made, is not.
  GuardProcess other(shell("echo \"$SCRATCH\"", {"--scratch"}),
                     [] { return ::setenv("XDG_RUNTIME_DIR", "/proc", 1) == 0; });
  EXPECT_THAT(other.finish().output, HasSubstr("/tmp/sallyport-"));
}

// Root of a user namespace in which no further ones can be made.
bool forbid_user_namespaces(int user) {
  const std::string outside = std::to_string(::geteuid()), group = std::to_string(::getegid());
  if (::unshare(CLONE_NEWUSER) != 0) return false;
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/uid_map") << user << " " << outside << " 1";
  std::ofstream("/proc/self/gid_map") << user << " " << group << " 1";
  std::ofstream limit("/proc/sys/user/max_user_namespaces");
  return static_cast<bool>(limit << 0 << std::flush);
}

TEST(WithoutUserNamespaces, AnOrdinaryUserIsToldWhatToDo) {
  if (std::string reason = reason_to_skip(kNobody); !reason.empty()) GTEST_SKIP() << reason;
  GuardProcess guard({"--", "true"}, [] { return forbid_user_namespaces(1'000); });
  Outcome end = guard.finish();
  EXPECT_EQ(end.code, 125);
  EXPECT_THAT(end.log, HasSubstr("user.max_user_namespaces is 0: sysctl -w user.max_user_namespaces="));
  EXPECT_THAT(end.log, HasSubstr("as root"));
}

TEST(WithoutUserNamespaces, RootDoesWithoutThem) {
  if (std::string reason = reason_to_skip(kNobody); !reason.empty()) GTEST_SKIP() << reason;
  GuardProcess guard(
      [] {
        Arguments arguments = probe({"tcp", "198.51.100.1", "443", "--", "status", "--", "flush", "--", "attach", "1",
                                     "--", "enter", "/proc/1/ns/net"});
        arguments.insert(arguments.begin(), "--");
        return arguments;
      }(),
      [] { return forbid_user_namespaces(0); });
  Outcome end = guard.finish();
  EXPECT_EQ(end.code, 0) << end.log;
  EXPECT_THAT(end.output, HasSubstr("tcp: ok tcp4 198.51.100.1:443"));
  EXPECT_THAT(end.output, HasSubstr("CapBnd: 0000000000000000"));
  EXPECT_THAT(end.output, HasSubstr("flush: refused"));
  EXPECT_THAT(end.output, HasSubstr("attach: EPERM EACCES EPERM"));
  EXPECT_THAT(end.output, HasSubstr("enter: EACCES"));
}

}  // namespace
}  // namespace sallyport::run::test
