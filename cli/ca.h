#pragma once
// `sallyport ca init|show|issue|bundle`

#include <CLI/CLI.hpp>

namespace sallyport::cli {

// 0 when done; 1 when a file could not be read, written or used.
void add_ca_command(CLI::App& app, int& exit_code);

}  // namespace sallyport::cli
