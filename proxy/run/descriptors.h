#pragma once
// For children that are copies of the guard and go on without exec: they must let go of what is the guard's.

#include "base/error.h"
#include "base/unique_fd.h"

namespace sallyport::run {

// Closes every descriptor but 0, 1, 2 and `keep`, which may get another number.
UniqueFd close_all_but(UniqueFd keep);

// 0, 1 and 2 become /dev/null.
void drop_standard_streams();

// Those of 0, 1 and 2 that are closed become /dev/null: else the next descriptor that the guard makes would be one of
// them, and the command's.
void open_missing_standard_streams();

// Error: one of 0, 1 and 2 is a socket that the command could connect somewhere else, or a directory. A socket belongs
// to the network namespace that it was made in, and disconnecting it (connect with AF_UNSPEC) needs no privilege; what
// is opened by way of a directory's descriptor is found behind the mounts that hide files from the command.
Result<void> refuse_standard_streams_to_the_outside();

}  // namespace sallyport::run
