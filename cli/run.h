#pragma once
// `sallyport run [flags] -- COMMAND [ARG…]`

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace sallyport::cli {

// Exit codes of `run` that are not the command's own.
inline constexpr int kExitUsage = 2;
inline constexpr int kExitGuardFailed = 125;

// `words`: of the command, those behind "--".
void add_run_command(CLI::App& app, int& exit_code, std::vector<std::string> words);

}  // namespace sallyport::cli
