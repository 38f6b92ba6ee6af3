#include "proxy/run/harden.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {

Result<void> harden_guard() {
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
    return system_failure("keeping other processes out of the guard's memory");
  // Said twice, as a program that is started to take cores may be less strict than the kernel.
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return system_failure("forbidding cores");
  return {};
}

Result<void> release_standard_streams() {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null || ::dup2(null.get(), 0) < 0 || ::dup2(null.get(), 1) < 0)
    return system_failure("letting go of standard output");
  return {};
}

}  // namespace sallyport::run
