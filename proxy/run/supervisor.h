#pragma once
// The process between the guard and the command: the first process of the command's process namespace. It makes the
// network, hands the sockets out, starts the command and reports on it. Its exit status is the command's. When it ends,
// for whatever reason, the kernel kills everything in the namespace, and the kernel kills it when the guard ends.

#include <signal.h>

#include "base/unique_fd.h"

namespace sallyport::run {

// Runs in the child of GuardedCommand::prepare(), a copy of the single-threaded guard in new namespaces. `mask` is what
// the command gets as its signal mask.
[[noreturn]] void supervise(UniqueFd control, const sigset_t& mask);

// The exit code that a shell gives to a status of wait(2).
int shell_exit_code(int status);

}  // namespace sallyport::run
