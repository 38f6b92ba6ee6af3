#pragma once
// For children that are copies of the guard and go on without exec: they must let go of what is the guard's.

#include "base/unique_fd.h"

namespace sallyport::run {

// Closes every descriptor but 0, 1, 2 and `keep`, which may get another number.
UniqueFd close_all_but(UniqueFd keep);

// 0, 1 and 2 become /dev/null.
void drop_standard_streams();

// Those of 0, 1 and 2 that are closed become /dev/null: else the next descriptor that the guard makes would be one of
// them, and the command's.
void open_missing_standard_streams();

}  // namespace sallyport::run
