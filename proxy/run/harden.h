#pragma once
// What the guard does to itself before it holds keys and credentials.

#include "base/error.h"

namespace sallyport::run {

// No process of the same user may attach to this one, read its memory or take its descriptors, and no core is written.
// Most of /proc/self belongs to root from then on. Call it after GuardedCommand::prepare().
Result<void> harden_guard();

// Lets go of standard input and output (they become /dev/null), which the command now owns: whoever reads the command's
// output sees its end when the command closes it. Standard error stays.
Result<void> release_standard_streams();

}  // namespace sallyport::run
