#pragma once
// `sallyport flow learn TRACES… -o graph.yaml`, `flow merge GRAPH TRACES…` and `flow traces FILE…`

#include <CLI/CLI.hpp>

namespace sallyport::cli {

inline constexpr int kExitNotLearned = 1;

// Adds them to `flow`. Graphs and lists go to standard output or the file that is named; notes and errors to standard
// error.
void add_flow_learn_commands(CLI::App& flow, int& exit_code);

}  // namespace sallyport::cli
