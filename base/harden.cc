#include "base/harden.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace sallyport {

namespace {

std::unexpected<Error> failed(const std::string& doing) {
  return fail(ErrorSource::internal, ErrorKind::unavailable, doing + ": " + std::strerror(errno));
}

}  // namespace

Result<void> harden_process() {
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return failed("keeping other processes out of this one's memory");
  // Said twice, as a program that is started to take cores may be less strict than the kernel.
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return failed("forbidding cores");
  return {};
}

}  // namespace sallyport
