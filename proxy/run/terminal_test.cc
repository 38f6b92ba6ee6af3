// A guarded command on a terminal: Ctrl-C, Ctrl-Z and fg, and a shell with job control, with a shell outside and
// inside.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "proxy/run/supervisor.h"
#include "proxy/run/test_process.h"

namespace sallyport::run::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr const char* kControlC = "\x03";
constexpr const char* kControlZ = "\x1a";

// A session with a terminal of its own, in which a program runs.
class Terminal {
 public:
  explicit Terminal(const Arguments& program) {
    int terminal = -1;
    pid_ = ::forkpty(&terminal, nullptr, nullptr, nullptr);
    if (pid_ == 0) {
      ::setenv("PS1", "prompt$ ", 1);
      ::dup2(::open("/dev/null", O_WRONLY), 3);  // what a guard sees is of no interest here
      std::vector<char*> argv;
      for (const std::string& argument : program) argv.push_back(const_cast<char*>(argument.c_str()));
      argv.push_back(nullptr);
      ::execvp(argv[0], argv.data());
      ::_exit(99);
    }
    terminal_.reset(terminal);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  void type(const std::string& text) {
    ASSERT_EQ(::write(terminal_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  // What has been printed since the last call, up to and with `text`; all of it when that does not come within 10 s.
  std::string expect(const std::string& text) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    std::size_t at = 0;
    while ((at = printed_.find(text)) == std::string::npos && std::chrono::steady_clock::now() < deadline &&
           read_more()) {
    }
    std::size_t end = at == std::string::npos ? printed_.size() : at + text.size();
    std::string seen = printed_.substr(0, end);
    printed_.erase(0, end);
    EXPECT_THAT(seen, HasSubstr(text));
    return seen;
  }

  // Types a line and waits until another process group is in the foreground than before.
  void type_and_await_job(const std::string& line) {
    pid_t before = ::tcgetpgrp(terminal_.get());
    type(line);
    EXPECT_TRUE(eventually(5'000, [&] { return ::tcgetpgrp(terminal_.get()) != before; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the job has a program to start
  }

  int exit_code() {
    while (read_more()) {
    }
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return shell_exit_code(status);
  }

 private:
  bool read_more() {
    pollfd wait{terminal_.get(), POLLIN, 0};
    char buffer[1024];
    if (::poll(&wait, 1, 500) == 0) return true;
    ssize_t count = ::read(terminal_.get(), buffer, sizeof buffer);
    if (count <= 0) return false;
    printed_.append(buffer, static_cast<std::size_t>(count));
    return true;
  }
  pid_t pid_ = -1;
  UniqueFd terminal_;
  std::string printed_;
};

class OnATerminal : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (std::string reason = reason_to_skip(GetParam()); !reason.empty()) GTEST_SKIP() << reason;
  }
  Arguments guard(Arguments command) {
    Arguments program = as_user(GetParam(), std::move(command));
    program.insert(program.begin(), RUN_TEST_GUARD);
    return program;
  }
  // The same for a shell to read; the log goes nowhere.
  std::string guard_line(const std::string& command) {
    std::string line = RUN_TEST_GUARD;
    for (const std::string& word : as_user(GetParam(), {})) line += " " + word;
    return line + " " + command + " 3>/dev/null\n";
  }
};

INSTANTIATE_TEST_SUITE_P(As, OnATerminal, ::testing::Values(0, kNobody),
                         [](const auto& each) { return each.param == 0 ? "Root" : "OrdinaryUser"; });

TEST_P(OnATerminal, AShellInsideHasJobControl) {
  Terminal terminal(guard({"bash", "--norc", "--noprofile", "-i"}));
  std::string greeting = terminal.expect("$ ");
  EXPECT_THAT(greeting, ::testing::Not(HasSubstr("job control")));
  terminal.type_and_await_job("sleep 1000\n");
  terminal.type(kControlZ);
  terminal.expect("Stopped");
  terminal.type_and_await_job("fg\n");
  terminal.type(kControlC);
  terminal.expect("$ ");
  terminal.type("echo code=$?\n");
  terminal.expect("code=130");
  terminal.type("exit 5\n");
  EXPECT_EQ(terminal.exit_code(), 5);
}

TEST_P(OnATerminal, ControlCIsForTheCommandToDecide) {
  Terminal terminal(
      guard({"sh", "-c", "trap 'echo inter''rupted; exit 9' INT; echo rea''dy; while :; do sleep 0.1; done"}));
  terminal.expect("ready");
  terminal.type(kControlC);
  terminal.expect("interrupted");
  EXPECT_EQ(terminal.exit_code(), 9);
}

TEST_P(OnATerminal, ControlCEndsGuardAndCommand) {
  Terminal terminal(guard({"sh", "-c", "echo rea''dy; exec sleep 1000"}));
  terminal.expect("ready");
  terminal.type(kControlC);
  EXPECT_EQ(terminal.exit_code(), 128 + SIGINT);
}

TEST_P(OnATerminal, TheShellOutsideCanStopAndContinueTheGuard) {
  Terminal terminal({"bash", "--norc", "--noprofile", "-i"});
  terminal.expect("$ ");
  terminal.type_and_await_job(guard_line("cat"));
  terminal.type("one\n");
  terminal.expect("one\r\none");
  terminal.type(kControlZ);
  terminal.expect("Stopped");
  terminal.expect("$ ");
  terminal.type_and_await_job("fg\n");
  terminal.type("two\n");
  terminal.expect("two\r\ntwo");
  terminal.type(kControlC);
  terminal.expect("$ ");
  terminal.type("echo code=$?\n");
  terminal.expect("code=130");
}

TEST_P(OnATerminal, AGuardInAPipelineSharesTheTerminal) {
  Terminal terminal({"bash", "--norc", "--noprofile", "-i"});
  terminal.expect("$ ");
  std::string line = guard_line("sh -c 'echo a; echo b'");
  line.insert(line.size() - 1, " | (read first </dev/tty; cat)");
  terminal.type_and_await_job(line);
  terminal.type("go\n");
  terminal.expect("a\r\nb");
  terminal.expect("$ ");
}

TEST_P(OnATerminal, TheTerminalIsTheShellsAgainAfterAShellInside) {
  Terminal terminal({"bash", "--norc", "--noprofile", "-i"});
  terminal.expect("$ ");
  terminal.type_and_await_job(guard_line("bash --norc --noprofile -i"));
  terminal.expect("$ ");
  terminal.type("echo in''side; kill -9 $$\n");
  terminal.expect("inside");
  terminal.expect("$ ");
  terminal.type_and_await_job("echo code=$?; cat </dev/tty\n");
  terminal.expect("code=137");
  terminal.type("readable\n");
  terminal.expect("readable\r\nreadable");
}

TEST_P(OnATerminal, ACommandThatEndsInTheBackgroundLeavesTheTerminalAlone) {
  Terminal terminal({"bash", "--norc", "--noprofile", "-i"});
  terminal.expect("$ ");
  terminal.type_and_await_job(guard_line("sh -c 'sleep 4; echo do''ne'"));
  terminal.type(kControlZ);
  terminal.expect("Stopped");
  terminal.expect("$ ");
  terminal.type("bg\n");
  terminal.expect("done");
  terminal.type("wait; cat </dev/tty\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  terminal.type("readable\n");
  terminal.expect("readable\r\nreadable");
}

TEST_P(OnATerminal, NobodyCanTypeIntoIt) {
  Terminal terminal(guard(probe({"type"})));
  terminal.expect("type: EPERM EPERM EPERM");
  EXPECT_EQ(terminal.exit_code(), 0);
}

}  // namespace
}  // namespace sallyport::run::test
