#include "proxy/run/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {

Result<void> release_standard_streams() {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null || ::dup2(null.get(), 0) < 0 || ::dup2(null.get(), 1) < 0)
    return system_failure("letting go of standard output");
  return {};
}

}  // namespace sallyport::run
