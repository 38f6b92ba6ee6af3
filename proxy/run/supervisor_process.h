#pragma once
// The supervisor as the guard holds it: made in new namespaces, ended with its owner.

#include <signal.h>

#include "base/error.h"
#include "base/unique_fd.h"

namespace sallyport::run {

// `own` isolates better (the command then has no rights over processes outside, whatever its user), and is the only one
// that ordinary users can have. `none` is for root on machines that refuse user namespaces.
enum class UserNamespace : bool { none, own };

class SupervisorProcess {
 public:
  // Only while the process has one thread. `mask` is what the command gets as its signal mask.
  static Result<SupervisorProcess> fork(UserNamespace user_namespace, const sigset_t& mask);

  SupervisorProcess() = default;
  SupervisorProcess(SupervisorProcess&&) noexcept = default;
  SupervisorProcess& operator=(SupervisorProcess&& other) noexcept;
  ~SupervisorProcess();  // kills it, and with it everything in its namespaces, and waits for the end of that

  explicit operator bool() const { return static_cast<bool>(pidfd_); }
  int pidfd() const { return pidfd_.get(); }
  int control() const { return control_.get(); }

  // Waits for its end: a status as of wait(2). The handle is empty afterwards.
  int reap();

 private:
  SupervisorProcess(UniqueFd pidfd, UniqueFd control) : pidfd_(std::move(pidfd)), control_(std::move(control)) {}
  void kill_and_reap();
  UniqueFd pidfd_;
  UniqueFd control_;
};

}  // namespace sallyport::run
