#pragma once
// Failures of system calls as Error.

#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"

namespace sallyport::run {

// "WHAT: the system's words for the error". Read errno before anything else can change it.
inline std::unexpected<Error> system_failure(const std::string& what, int number = errno) {
  return fail(ErrorSource::internal, ErrorKind::unavailable, what + ": " + std::strerror(number));
}

}  // namespace sallyport::run
