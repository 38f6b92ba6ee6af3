#pragma once
// What a fuzzer does when the code under test has broken a promise: say which one, and stop where the fuzzer sees it.

#include <cstdio>
#include <cstdlib>

namespace sallyport::fuzz {

inline void require(bool kept, const char* promise) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

}  // namespace sallyport::fuzz
