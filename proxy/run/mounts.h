#pragma once
// The command's view of the file system: the host's, but for a /proc of its own, a resolv.conf that names the guard,
// and covers over sockets of host services that would look up names, or start programs, outside of the namespace for
// whoever asks. For a process that has just entered a new mount namespace and has CAP_SYS_ADMIN over it.

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "proxy/run/command_spec.h"

namespace sallyport::run {

// Error: mounts could not be kept from spreading to the host. Everything else is done as far as the kernel lets us,
// since the network namespace and not the mounts keeps the command in.
Result<void> set_up_mounts();

// Paths to cover, for a user whose environment `variable` looks up: name in, value or nothing out.
struct Covers {
  std::vector<std::string> directories;
  std::vector<std::string> files;
};
using Variable = std::function<std::optional<std::string>(const char*)>;
Covers paths_to_cover(const Variable& variable);

void apply_binds(std::span<const Bind> binds);

// Error: a file could not be kept from the command.
Result<void> apply_shields(std::span<const Shield> shields);

}  // namespace sallyport::run
