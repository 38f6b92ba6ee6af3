#include "proxy/run/scratch_directory.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <system_error>
#include <thread>

#include "proxy/run/descriptors.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

namespace fs = std::filesystem;

// The runtime directory is in memory and the user's own. One that is somebody else's (left over from sudo) is passed
// over, and so is one in which nothing can be made.
std::string make_directory() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  struct stat status{};
  if (runtime != nullptr && runtime[0] == '/' && ::stat(runtime, &status) == 0 && status.st_uid == ::geteuid()) {
    std::string name = std::string(runtime) + "/sallyport-XXXXXX";
    if (::mkdtemp(name.data()) != nullptr) return name;
  }
  std::string name = "/tmp/sallyport-XXXXXX";
  return ::mkdtemp(name.data()) != nullptr ? name : "";
}

// Directories whose owner may not look into them could not be emptied.
void open_up(const fs::path& directory) {
  std::error_code error;
  // The command has the same user and may have put a link here.
  if (fs::symlink_status(directory, error).type() != fs::file_type::directory) return;
  fs::permissions(directory, fs::perms::owner_all, fs::perm_options::add, error);
  for (fs::directory_iterator each(directory, error), end; !error && each != end; each.increment(error)) {
    open_up(each->path());
  }
}

// The command may have been making files there until the moment when the kernel killed it.
void remove_patiently(const fs::path& path) {
  constexpr int kAttempts = 40;
  constexpr std::chrono::milliseconds kPause{50};
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::error_code error;
    open_up(path);
    fs::remove_all(path, error);
    if (!fs::exists(path, error)) return;
    std::this_thread::sleep_for(kPause);
  }
}

[[noreturn]] void watch_and_remove(UniqueFd alive, const fs::path& path) {
  ::setsid();
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::prctl(PR_SET_NAME, "sallyport-tidy", 0, 0, 0);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  // Nothing of the guard's is held open: not its output, not the write end of this very pipe, not its working
  // directory.
  drop_standard_streams();
  UniqueFd kept = close_all_but(std::move(alive));
  [[maybe_unused]] int moved = ::chdir("/");
  char byte = 0;
  while (::read(kept.get(), &byte, 1) < 0 && errno == EINTR) {
  }
  remove_patiently(path);
  ::_exit(0);
}

}  // namespace

Result<ScratchDirectory> ScratchDirectory::make() {
  open_missing_standard_streams();
  std::string name = make_directory();
  if (name.empty()) return system_failure("making a directory in $XDG_RUNTIME_DIR or /tmp");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    int number = errno;
    ::rmdir(name.c_str());
    return system_failure("making the scratch directory", number);
  }
  UniqueFd reading(ends[0]), writing(ends[1]);
  pid_t janitor = ::fork();
  if (janitor < 0) {
    int number = errno;
    ::rmdir(name.c_str());
    return system_failure("starting the scratch directory's janitor", number);
  }
  if (janitor == 0) watch_and_remove(std::move(reading), name);
  return ScratchDirectory(std::move(name), std::move(writing), janitor);
}

ScratchDirectory::ScratchDirectory(ScratchDirectory&& other) noexcept
    : path_(std::move(other.path_)), alive_(std::move(other.alive_)), janitor_(std::exchange(other.janitor_, -1)) {}

ScratchDirectory& ScratchDirectory::operator=(ScratchDirectory&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(alive_, other.alive_);
  std::swap(janitor_, other.janitor_);
  return *this;
}

ScratchDirectory::~ScratchDirectory() {
  if (janitor_ < 0) return;
  alive_.reset();
  while (::waitpid(janitor_, nullptr, 0) < 0 && errno == EINTR) {
  }
  // Where the janitor was killed its work is done here.
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace sallyport::run
