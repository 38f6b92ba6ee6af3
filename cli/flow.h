#pragma once
// `sallyport flow check|show|diff|test`: what a person asks of a flow graph before it decides anything.

#include <CLI/CLI.hpp>

namespace sallyport::cli {

// `flow check` and `flow show`: the graph is wrong, or cannot be shown.
inline constexpr int kExitBadGraph = 1;
// `flow diff` and `flow test`, as diff(1) has them: there is a difference, an execution would not pass; and it could
// not be told.
inline constexpr int kExitDifferent = 1;
inline constexpr int kExitNotTold = 2;

// Diagnostics go to standard error, answers to standard output. Returns `flow`, to which others add subcommands.
CLI::App* add_flow_command(CLI::App& app, int& exit_code);

}  // namespace sallyport::cli
