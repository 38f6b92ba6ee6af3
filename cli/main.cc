// `sallyport`: the command for people. Thin, over the libraries.

#include <CLI/CLI.hpp>

#include "cli/ca.h"
#include "cli/flow.h"
#include "cli/flow_learn.h"
#include "cli/policy.h"
#include "cli/run.h"

int main(int argc, char** argv) {
  CLI::App app("Sallyport: an egress guard for functions and commands");
  app.set_version_flag("--version", "sallyport " SALLYPORT_VERSION);
  app.require_subcommand(1);
  int exit_code = 0;
  sallyport::cli::add_run_command(app, exit_code);
  sallyport::cli::add_policy_command(app, exit_code);
  CLI::App* flow = sallyport::cli::add_flow_command(app, exit_code);
  sallyport::cli::add_flow_learn_commands(*flow, exit_code);
  sallyport::cli::add_ca_command(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    int code = app.exit(error);
    return code == 0 ? 0 : sallyport::cli::kExitUsage;
  }
  return exit_code;
}
