#include "proxy/run/descriptors.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace sallyport::run {

UniqueFd close_all_but(UniqueFd keep) {
  constexpr int kFirst = 3;  // out of the way of the standard descriptors, should those have been closed
  UniqueFd kept(::fcntl(keep.get(), F_DUPFD_CLOEXEC, kFirst));
  keep.reset();
  auto number = static_cast<unsigned>(kept.get());
  if (number > kFirst) ::syscall(SYS_close_range, static_cast<unsigned>(kFirst), number - 1, 0U);
  ::syscall(SYS_close_range, number + 1, ~0U, 0U);
  return kept;
}

void drop_standard_streams() {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd : {0, 1, 2}) ::dup2(null.get(), fd);
}

Result<void> refuse_standard_streams_to_the_outside() {
  constexpr const char* kNames[] = {"standard input", "standard output", "standard error"};
  for (int fd : {0, 1, 2}) {
    struct stat status{};
    if (::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
      return fail(
          ErrorSource::internal, ErrorKind::invalid,
          std::string(kNames[fd]) + " is a directory, through which the command could open what is kept from it");
    }
    int domain = AF_UNSPEC, type = 0;
    socklen_t size = sizeof domain;
    if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) continue;  // no socket
    size = sizeof type;
    ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    // A connected stream to another process of this machine stays what it is.
    if (domain == AF_UNIX && type != SOCK_DGRAM) continue;
    return fail(ErrorSource::internal, ErrorKind::invalid,
                std::string(kNames[fd]) +
                    " is a socket that the command could connect to another place, past the guard; put a pipe in "
                    "between, as in: cat | sallyport run ... | cat");
  }
  return {};
}

void open_missing_standard_streams() {
  // The lowest free number is the one that is given, so each open fills the gap that was found.
  for (int fd : {0, 1, 2}) {
    if (::fcntl(fd, F_GETFD) < 0) [[maybe_unused]]
      int opened = ::open("/dev/null", O_RDWR);
  }
}

}  // namespace sallyport::run
