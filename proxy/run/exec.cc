#include "proxy/run/exec.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string_view>
#include <vector>

#include "proxy/run/confinement.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

enum class Step : std::int32_t { confine, find, execute };

// What the child says over a pipe that a successful exec closes.
struct Report {
  Step step{};
  std::int32_t error = 0;
  std::int32_t where = 0;  // confine: which part
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const std::string& text : strings) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

std::string_view search_path(const std::vector<std::string>& environment) {
  constexpr std::string_view kName = "PATH=";
  for (const std::string& variable : environment) {
    if (variable.starts_with(kName)) return std::string_view(variable).substr(kName.size());
  }
  return "/usr/local/bin:/usr/bin:/bin";
}

// Every file that argv[0] may mean, in order.
std::vector<std::string> candidates(const CommandSpec& spec) {
  const std::string& name = spec.argv.front();
  if (name.contains('/')) return {name};
  std::vector<std::string> files;
  if (name.empty()) return files;
  std::string_view path = search_path(spec.environment);
  while (true) {
    std::size_t colon = path.find(':');
    std::string directory(path.substr(0, colon));
    files.push_back((directory.empty() ? "." : directory) + "/" + name);  // an empty entry is the working directory
    if (colon == std::string_view::npos) return files;
    path.remove_prefix(colon + 1);
  }
}

bool is_missing(int error) { return error == ENOENT || error == ENOTDIR; }

// A script without "#!" is run by the shell, as execvp does.
void execute_by_shell(const std::string& file, const CommandSpec& spec, char* const* environment) {
  std::vector<std::string> strings{"/bin/sh", file};
  strings.insert(strings.end(), spec.argv.begin() + 1, spec.argv.end());
  ::execve("/bin/sh", pointers(strings).data(), environment);
}

// Returns only when there was nothing to execute.
Report execute(const CommandSpec& spec) {
  std::vector<char*> argv = pointers(spec.argv);
  std::vector<char*> environment = pointers(spec.environment);
  const bool searched = !spec.argv.front().contains('/');
  Report report{Step::find, ENOENT};
  for (const std::string& file : candidates(spec)) {
    ::execve(file.c_str(), argv.data(), environment.data());
    int error = errno;
    if (error == ENOEXEC) {
      execute_by_shell(file, spec, environment.data());
      return {Step::execute, ENOEXEC};
    }
    // A directory of the search path that may not be looked into has no such command, as far as this user can tell.
    bool hidden = searched && error == EACCES;
    if ((hidden || is_missing(error)) && ::access(file.c_str(), F_OK) != 0) continue;
    report = {Step::execute, error};
    // The search goes on past a file that may not be executed, and stops at one that is broken in another way.
    if (error != EACCES) break;
  }
  return report;
}

void reset_signals(const sigset_t& mask) {
  // Exec itself resets handlers; what the user had ignored (nohup) stays ignored. These two are ignored by this program
  // or its language and not by the user's choice.
  ::signal(SIGPIPE, SIG_DFL);
  ::signal(SIGCHLD, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
}

[[noreturn]] void become_command(const CommandSpec& spec, const sigset_t& mask, int pipe) {
  auto give_up = [pipe](Report report) {
    // Nothing can be done when even this fails; the supervisor sees a command that ended with 125.
    [[maybe_unused]] ssize_t written = ::write(pipe, &report, sizeof report);
    ::_exit(125);
  };
  if (::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) != 0) give_up({Step::confine, errno, 0});
  if (!drop_privileges()) give_up({Step::confine, errno, 1});
  reset_signals(mask);
  if (!filter_system_calls()) give_up({Step::confine, errno, 2});
  give_up(execute(spec));
  ::_exit(125);
}

ExecFailure describe(const Report& report, const std::string& name) {
  auto make = [](int code, ErrorKind kind, std::string text) {
    return ExecFailure{code, Error{ErrorSource::internal, kind, std::move(text)}};
  };
  constexpr const char* kParts[] = {"closing descriptors", "dropping its privileges", "filtering its system calls"};
  switch (report.step) {
    case Step::confine:
      return make(125, ErrorKind::unavailable,
                  std::string("the command was not run, since ") + kParts[report.where] +
                      " failed: " + std::strerror(report.error));
    case Step::find:
      return make(127, ErrorKind::unavailable, name + ": command not found");
    case Step::execute:
      if (is_missing(report.error)) return make(126, ErrorKind::refused, name + ": its interpreter is missing");
      return make(126, ErrorKind::refused, name + ": cannot be executed: " + std::strerror(report.error));
  }
  return make(125, ErrorKind::unavailable, name + ": not run");
}

}  // namespace

std::expected<pid_t, ExecFailure> fork_command(const CommandSpec& spec, const sigset_t& mask) {
  auto internal = [](const char* what) { return std::unexpected(ExecFailure{125, system_failure(what).error()}); };
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return internal("starting the command");
  UniqueFd reading(ends[0]), writing(ends[1]);
  pid_t child = ::fork();
  if (child < 0) return internal("starting the command");
  if (child == 0) become_command(spec, mask, writing.get());
  writing.reset();
  Report report;
  ssize_t count = 0;
  do count = ::read(reading.get(), &report, sizeof report);
  while (count < 0 && errno == EINTR);
  if (count == 0) return child;
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (count != static_cast<ssize_t>(sizeof report)) return internal("starting the command");
  return std::unexpected(describe(report, spec.argv.front()));
}

}  // namespace sallyport::run
