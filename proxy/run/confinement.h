#pragma once
// What the command loses before its first instruction, for good: every capability, and the system calls that would open
// another way out than the redirected one. docs/decisions/0003 has the reason for each.

#include "base/error.h"

namespace sallyport::run {

// The bounding, ambient, permitted, effective and inheritable sets become empty; the securebits that would give root
// its capabilities back at exec are locked; no_new_privs is set. Any error means that the command must not run.
Result<void> drop_privileges();

// Only what the supervisor still needs after the command has started: nothing.
Result<void> drop_capability_sets();

// The seccomp filter: sockets of the families unix, inet, inet6 and netlink only; no io_uring; no request_key(2); no
// typing into the terminal. Needs no_new_privs. Any error means that the command must not run.
Result<void> filter_system_calls();

}  // namespace sallyport::run
