#pragma once
// The commands that administer a controller: app, function, policy put…, secret, token, guard, alarm, events, audit.

#include <CLI/CLI.hpp>

namespace sallyport::cli {

// After add_policy_command(), whose group gets more commands. Exit codes: 0; 1 the controller refuses it, or can't be
// reached; 2 wrong flags.
void add_administer_commands(CLI::App& app, int& exit_code);

}  // namespace sallyport::cli
