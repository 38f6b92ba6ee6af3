// Makes the controller's disk slow: preloaded into it, with the milliseconds that each write of a database takes in
// SLOW_DISK.

#include <dlfcn.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

namespace {

using Write = ssize_t (*)(int, const void*, size_t, off64_t);

bool is_database(int descriptor) {
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t size = ::readlink(link, path, sizeof path);
  return size > 0 && std::string_view(path, static_cast<size_t>(size)).find(".db") != std::string_view::npos;
}

void wait() {
  const char* text = ::getenv("SLOW_DISK");
  if (text != nullptr) std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(text)));
}

}  // namespace

extern "C" {

ssize_t pwrite64(int descriptor, const void* bytes, size_t size, off64_t offset) {
  static const auto next = reinterpret_cast<Write>(::dlsym(RTLD_NEXT, "pwrite64"));
  if (is_database(descriptor)) wait();
  return next(descriptor, bytes, size, offset);
}

ssize_t pwrite(int descriptor, const void* bytes, size_t size, off_t offset) {
  return pwrite64(descriptor, bytes, size, offset);
}

}  // extern "C"
