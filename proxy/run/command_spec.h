#pragma once
// What to run, and its way from the guard to the supervisor: a CommandSpec packed into an anonymous file.

#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace sallyport::run {

// The file or directory `source` covers `target` for the command. A target that does not exist is left alone, and so is
// one that the kernel does not let us cover: binds are for convenience, never for safety.
struct Bind {
  std::string source;
  std::string target;
};

// A file or directory of the guard's own that the command, which has the same user, must not change (read_only) or not
// even see (hidden). For safety: where the kernel does not let us, the command is not run. What is none of these and no
// socket is left alone (a pipe, a device), and so is what does not exist.
struct Shield {
  enum class Kind : char { read_only = 'r', hidden = 'h' };
  std::string path;
  Kind kind = Kind::read_only;
};

struct CommandSpec {
  std::vector<std::string> argv;         // not empty; argv[0] without a slash is looked up in the PATH of `environment`
  std::vector<std::string> environment;  // "NAME=value": all that the command gets
  std::vector<Bind> binds;
  std::vector<Shield> shields;
};

// Error: invalid when argv is empty or a string has a NUL in it.
Result<UniqueFd> pack(const CommandSpec& spec);
Result<CommandSpec> unpack(int packed);

}  // namespace sallyport::run
