#pragma once
// For tests that start other programs.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace sallyport::net {

inline bool installed(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0;
}

// True if a program is not there that ./dev test installs: in CI that is a failure, elsewhere a reason to skip the
// test.
inline bool lacks(const std::string& program) {
  if (installed(program)) return false;
  if (std::getenv("CI") != nullptr) ADD_FAILURE() << program << " is not installed";
  return true;
}

}  // namespace sallyport::net
