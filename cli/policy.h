#pragma once
// `sallyport policy check FILE` and `sallyport policy test FILE --request 'POST https://…'`

#include <CLI/CLI.hpp>

namespace sallyport::cli {

// Exit codes of `policy check` and `policy test`; 0 means that the policy is good and allows every request.
inline constexpr int kExitBadPolicy = 1;
inline constexpr int kExitBadRequest = 2;
inline constexpr int kExitDenied = 3;

// Diagnostics go to standard error, answers to standard output.
void add_policy_command(CLI::App& app, int& exit_code);

}  // namespace sallyport::cli
