#include "base/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/unique_fd.h"

namespace sallyport {
namespace {

std::unexpected<Error> unreadable(const std::string& path, int error) {
  std::string text = "can't read " + path + ": " + std::strerror(error);
  if (error == EACCES) text += "; it must be readable by the user that runs sallyport";
  if (error == ENOENT) text += "; check the path";
  return fail(ErrorSource::internal, ErrorKind::unavailable, std::move(text));
}

}  // namespace

Result<FileReader> FileReader::open(const std::string& path) {
  if (path == "-") return FileReader(path, UniqueFd());
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return unreadable(path, errno);
  return FileReader(path, std::move(file));
}

Result<std::size_t> FileReader::read(std::span<char> room) {
  while (true) {
    const ssize_t count = ::read(file_ ? file_.get() : STDIN_FILENO, room.data(), room.size());
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EINTR) return unreadable(path_, errno);
  }
}

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  auto file = FileReader::open(path);
  if (!file) return std::unexpected(std::move(file.error()));
  std::string text;
  char block[16384];
  while (true) {
    const auto count = file->read(block);
    if (!count) return std::unexpected(count.error());
    if (*count == 0) return text;
    text.append(block, *count);
    if (text.size() > bytes_max) {
      return fail(ErrorSource::internal, ErrorKind::limit,
                  path + " is larger than " + std::to_string(bytes_max) + " bytes, the most that is read");
    }
  }
}

Result<void> write_file(const std::string& path, std::string_view text, unsigned mode) {
  const std::string temporary = path + ".new";
  // What lies there is left over, or a link that somebody put there to have another file overwritten.
  ::unlink(temporary.c_str());
  UniqueFd file(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, static_cast<mode_t>(mode)));
  bool written = static_cast<bool>(file);
  while (written && !text.empty()) {
    ssize_t count = ::write(file.get(), text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    written = count > 0;
    if (written) text.remove_prefix(static_cast<std::size_t>(count));
  }
  if (!written || ::rename(temporary.c_str(), path.c_str()) != 0) {
    int error = errno;
    ::unlink(temporary.c_str());
    return fail(ErrorSource::internal, ErrorKind::unavailable, "can't write " + path + ": " + std::strerror(error));
  }
  return {};
}

}  // namespace sallyport
