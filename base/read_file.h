#pragma once
// Files, with errors for people.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace sallyport {

// A file from its beginning, in pieces. Errors name the path, what the system said, and what to do.
class FileReader {
 public:
  static Result<FileReader> open(const std::string& path);  // "-" is standard input
  // How many bytes of `room` were filled; 0 at the end.
  Result<std::size_t> read(std::span<char> room);

 private:
  FileReader(std::string path, UniqueFd file) : path_(std::move(path)), file_(std::move(file)) {}
  std::string path_;
  UniqueFd file_;  // none: standard input
};

// At most `bytes_max`; "-" is standard input. Errors name the path, what the system said, and what to do.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max);

// Replaces the file: written beside it, then renamed, so that no reader sees half of it.
Result<void> write_file(const std::string& path, std::string_view text, unsigned mode = 0644);

}  // namespace sallyport
