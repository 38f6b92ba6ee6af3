#pragma once
// Starts run_test_guard as users do and watches it from outside.

#include <sys/types.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace sallyport::run::test {

using Arguments = std::vector<std::string>;

inline constexpr int kNobody = 65'534;

struct Outcome {
  int code = -1;
  std::string output;  // standard output of the command
  std::string log;     // what the guard saw
};

// A running guard. Its process group is its own.
class GuardProcess {
 public:
  // `arguments` of run_test_guard; `before` runs in the child before its exec and says whether to go on.
  explicit GuardProcess(const Arguments& arguments, const std::function<bool()>& before = [] { return true; });
  GuardProcess(const GuardProcess&) = delete;
  GuardProcess& operator=(const GuardProcess&) = delete;
  ~GuardProcess();

  pid_t pid() const { return pid_; }
  void write_input(const std::string& text);
  void end_input() { input_.reset(); }
  // Reads until `text` has come, or 20 s have passed. What has come so far.
  std::string read_output_until(const std::string& text);
  std::string read_log_until(const std::string& text);
  Outcome finish();  // to the end of its output, then waits for it

 private:
  pid_t pid_ = -1;
  UniqueFd input_, output_, log_;
  std::string output_text_, log_text_;
};

// The arguments that make the guard and the command run as `user`, with the command's own: the probe, or any.
Arguments as_user(int user, Arguments command, Arguments options = {});
Arguments probe(Arguments tries);
Outcome run(const Arguments& arguments);

// The word after `name` in a log ("supervisor 123").
std::string word_after(const std::string& log, const std::string& name);

// All processes that come from `ancestor`, without it.
std::set<pid_t> descendants(pid_t ancestor);
bool is_running(pid_t pid);  // false for zombies too: they are their parents' business
// Whether `condition` has come true within `milliseconds`.
bool eventually(int milliseconds, const std::function<bool()>& condition);

// Why tests as `user` cannot run here; empty when they can.
std::string reason_to_skip(int user);

}  // namespace sallyport::run::test
