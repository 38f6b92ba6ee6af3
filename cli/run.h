#pragma once
// `sallyport run [flags] -- COMMAND [ARG…]`

#include <CLI/CLI.hpp>

namespace sallyport::cli {

// Exit codes of `run` that are not the command's own.
inline constexpr int kExitUsage = 2;
inline constexpr int kExitGuardFailed = 125;

void add_run_command(CLI::App& app, int& exit_code);

}  // namespace sallyport::cli
