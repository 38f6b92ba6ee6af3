#pragma once
// A directory for the files of one run: mode 0700, under $XDG_RUNTIME_DIR, or /tmp without one.

#include <sys/types.h>

#include <filesystem>

#include "base/error.h"
#include "base/unique_fd.h"

namespace sallyport::run {

// A small process of its own, the janitor, holds the read end of a pipe and removes the directory when this process has
// gone, also after SIGKILL. Make it before any thread and before secrets are in memory: the janitor is a fork.
class ScratchDirectory {
 public:
  static Result<ScratchDirectory> make();
  ScratchDirectory(ScratchDirectory&& other) noexcept;
  ScratchDirectory& operator=(ScratchDirectory&& other) noexcept;
  ~ScratchDirectory();  // removes the directory and waits for the janitor's end

  const std::filesystem::path& path() const { return path_; }

 private:
  ScratchDirectory(std::filesystem::path path, UniqueFd alive, pid_t janitor)
      : path_(std::move(path)), alive_(std::move(alive)), janitor_(janitor) {}
  std::filesystem::path path_;
  UniqueFd alive_;  // the only write end: its closing is the janitor's signal
  pid_t janitor_ = -1;
};

}  // namespace sallyport::run
