#pragma once
// What a process does to itself before it holds keys and credentials.

#include "base/error.h"

namespace sallyport {

// No process of the same user may attach to this one, read its memory or take its descriptors, and no core is written.
// Most of /proc/self belongs to root from then on. A guard calls it after GuardedCommand::prepare().
Result<void> harden_process();

}  // namespace sallyport
