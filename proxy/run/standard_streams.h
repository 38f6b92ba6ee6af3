#pragma once
// Standard input and output of `run`, which the command has.

#include "base/error.h"

namespace sallyport::run {

// Lets go of standard input and output (they become /dev/null), which the command now owns: whoever reads the command's
// output sees its end when the command closes it. Standard error stays.
Result<void> release_standard_streams();

}  // namespace sallyport::run
