#include "proxy/run/test_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "proxy/run/supervisor.h"

namespace sallyport::run::test {
namespace {

namespace fs = std::filesystem;
constexpr std::chrono::seconds kPatience{20};

struct Pipe {
  UniqueFd reading, writing;
};

Pipe make_pipe() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Reads what there is into `text`; false at the end of the stream or when the deadline has passed.
bool read_more(int fd, std::string& text, std::chrono::steady_clock::time_point deadline) {
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  pollfd wait{fd, POLLIN, 0};
  if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) <= 0) return false;
  char buffer[4096];
  ssize_t count = ::read(fd, buffer, sizeof buffer);
  if (count <= 0) return false;
  text.append(buffer, static_cast<std::size_t>(count));
  return true;
}

void read_until(int fd, std::string& text, const std::string& wanted) {
  auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!text.contains(wanted) && read_more(fd, text, deadline)) {
  }
}

bool reachable_for_all(const fs::path& file) {
  std::error_code error;
  for (fs::path path = file.parent_path(); path != path.root_path(); path = path.parent_path()) {
    if ((fs::status(path, error).permissions() & fs::perms::others_exec) == fs::perms::none) return false;
  }
  return true;
}

// Programs in a build tree under a private home directory are copied to where nobody can execute them.
std::string executable_for_all(const std::string& program) {
  if (::geteuid() != 0 || reachable_for_all(program)) return program;
  static std::map<std::string, std::string> copies;
  static const std::string folder = [] {
    std::string name = "/tmp/sallyport-test-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    ::chmod(name.c_str(), 0755);
    std::atexit([] { fs::remove_all(folder); });
    return name;
  }();
  std::string& copy = copies[program];
  if (copy.empty()) {
    copy = folder + "/" + fs::path(program).filename().string();
    fs::copy_file(program, copy);
    ::chmod(copy.c_str(), 0755);
  }
  return copy;
}

// Process id and parent of everything that runs.
std::map<pid_t, pid_t> all_parents() {
  std::map<pid_t, pid_t> parents;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    std::size_t end = text.rfind(')');
    if (end == std::string::npos) continue;
    parents[pid] = std::atoi(text.c_str() + end + 4);
  }
  return parents;
}

}  // namespace

GuardProcess::GuardProcess(const Arguments& arguments, const std::function<bool()>& before) {
  Pipe input = make_pipe(), output = make_pipe(), log = make_pipe();
  std::string program = executable_for_all(RUN_TEST_GUARD);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::setpgid(0, 0);
    ::dup2(input.reading.get(), 0);
    ::dup2(output.writing.get(), 1);
    ::dup2(log.writing.get(), 3);
    if (log.writing.get() == 3) ::fcntl(3, F_SETFD, 0);
    std::vector<char*> argv{program.data()};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    if (before()) ::execv(program.c_str(), argv.data());
    ::_exit(99);
  }
  ::setpgid(pid_, pid_);
  input_ = std::move(input.writing);
  output_ = std::move(output.reading);
  log_ = std::move(log.reading);
}

GuardProcess::~GuardProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void GuardProcess::write_input(const std::string& text) {
  [[maybe_unused]] ssize_t written = ::write(input_.get(), text.data(), text.size());
}

std::string GuardProcess::read_output_until(const std::string& text) {
  read_until(output_.get(), output_text_, text);
  return output_text_;
}

std::string GuardProcess::read_log_until(const std::string& text) {
  read_until(log_.get(), log_text_, text);
  return log_text_;
}

Outcome GuardProcess::finish() {
  input_.reset();
  auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (read_more(output_.get(), output_text_, deadline)) {
  }
  while (read_more(log_.get(), log_text_, deadline)) {
  }
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return {shell_exit_code(status), output_text_, log_text_};
}

Arguments as_user(int user, Arguments command, Arguments options) {
  Arguments arguments = std::move(options);
  if (user != 0 && ::geteuid() == 0) {
    arguments.push_back("--user");
    arguments.push_back(std::to_string(user));
  }
  arguments.push_back("--");
  arguments.insert(arguments.end(), command.begin(), command.end());
  return arguments;
}

Arguments probe(Arguments tries) {
  tries.insert(tries.begin(), executable_for_all(RUN_TEST_PROBE));
  return tries;
}

Outcome run(const Arguments& arguments) { return GuardProcess(arguments).finish(); }

std::string word_after(const std::string& log, const std::string& name) {
  std::size_t at = log.find(name + " ");
  if (at == std::string::npos) return "";
  at += name.size() + 1;
  return log.substr(at, log.find_first_of(" \n", at) - at);
}

std::set<pid_t> descendants(pid_t ancestor) {
  std::map<pid_t, pid_t> parents = all_parents();
  std::set<pid_t> found;
  for (bool more = true; more;) {
    more = false;
    for (auto [pid, parent] : parents) {
      if (parent == ancestor || found.contains(parent)) more = found.insert(pid).second || more;
    }
  }
  return found;
}

bool is_running(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::size_t end = text.rfind(')');
  return end != std::string::npos && text.size() > end + 2 && text[end + 2] != 'Z' && text[end + 2] != 'X';
}

bool eventually(int milliseconds, const std::function<bool()>& condition) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

std::string reason_to_skip(int user) {
  if (user == 0) return ::geteuid() == 0 ? "" : "needs root";
  pid_t child = ::fork();
  if (child == 0) {
    bool dropped = ::geteuid() != 0 ||
                   (::setresgid(kNobody, kNobody, kNobody) == 0 && ::setresuid(kNobody, kNobody, kNobody) == 0);
    ::_exit(dropped && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status == 0 ? "" : "this kernel lets no ordinary user make user namespaces";
}

}  // namespace sallyport::run::test
