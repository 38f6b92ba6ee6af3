#pragma once
// The last steps from a child of the supervisor to the command.

#include <signal.h>

#include <cstdint>

#include "base/error.h"
#include "base/unique_fd.h"
#include "proxy/run/command_spec.h"

namespace sallyport::run {

struct ExecFailure {
  int exit_code = 0;  // as a shell's: 127 not found, 126 found and not executable, 125 not even tried
  Error error;
};

// Forks the command: confined, with the signal mask given, with descriptors 0, 1 and 2 and no other. Returns its
// process id when exec has succeeded.
std::expected<pid_t, ExecFailure> fork_command(const CommandSpec& spec, const sigset_t& mask);

}  // namespace sallyport::run
