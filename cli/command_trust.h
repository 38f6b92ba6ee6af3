#pragma once
// What makes a command trust the guard's CA: files in the run's own directory, which hold it beside what was trusted
// before, and the variables and mounts that lead to them.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "proxy/run/command_spec.h"

namespace sallyport::cli {

class CommandTrust {
 public:
  // `environment` as for ca::trust_environment().
  static Result<CommandTrust> make(const std::filesystem::path& directory, const std::string& ca_pem,
                                   const char* const* environment);

  // Another CA in the place of the one before, in the same files, as mounts are of files and not of names. What the
  // command has read already it keeps. A program that reads just now may find a broken file, and then trusts nobody.
  Result<void> put(const std::string& ca_pem);

  std::vector<std::pair<std::string, std::string>> variables;
  std::vector<run::Bind> binds;
  std::vector<std::string> warnings;

 private:
  struct Merged {
    std::string theirs;  // what the user's file held at the start: by now the command may have put another there
    UniqueFd file;
  };
  UniqueFd bundle_, ca_, java_store_;
  std::string roots_;
  std::vector<Merged> merged_;
};

}  // namespace sallyport::cli
