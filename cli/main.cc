// `sallyport`: the command for people. Thin, over the libraries.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "cli/administer.h"
#include "cli/ca.h"
#include "cli/flow.h"
#include "cli/flow_learn.h"
#include "cli/policy.h"
#include "cli/run.h"

namespace {

// CLI11 takes a word in brackets for a list, and apart.
bool is_list(std::string_view word) { return word.size() > 1 && word.front() == '[' && word.back() == ']'; }

// The words behind the first "--" of `run` are a command's, as they are. They are cut off.
std::vector<std::string> cut_off_command(int& argc, char** argv) {
  if (argc < 2 || argv[1] != std::string_view("run")) return {};
  char** const end = argv + argc;
  char** const dashes = std::find(argv, end, std::string_view("--"));
  argc = static_cast<int>(dashes - argv);
  return dashes == end ? std::vector<std::string>() : std::vector<std::string>(dashes + 1, end);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Sallyport: an egress guard for functions and commands");
  app.set_version_flag("--version", "sallyport " SALLYPORT_VERSION);
  app.require_subcommand(1);
  int exit_code = 0;
  sallyport::cli::add_run_command(app, exit_code, cut_off_command(argc, argv));
  if (char** const list = std::find_if(argv + 1, argv + argc, is_list); list != argv + argc) {
    std::fprintf(stderr, "sallyport: '%s' cannot be given here; a command with such an argument stands behind --\n",
                 *list);
    return sallyport::cli::kExitUsage;
  }
  sallyport::cli::add_policy_command(app, exit_code);
  CLI::App* flow = sallyport::cli::add_flow_command(app, exit_code);
  sallyport::cli::add_flow_learn_commands(*flow, exit_code);
  sallyport::cli::add_ca_command(app, exit_code);
  sallyport::cli::add_administer_commands(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    int code = app.exit(error);
    return code == 0 ? 0 : sallyport::cli::kExitUsage;
  }
  return exit_code;
}
