#include "proxy/run/supervisor_process.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>

#include "proxy/run/supervisor.h"
#include "proxy/run/supervisor_channel.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

struct Channel {
  UniqueFd guard, supervisor;
};

Result<Channel> make_channel() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return system_failure("making the supervisor's channel");
  return Channel{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// The new user namespace knows the ids that this one knows, by the same numbers: files keep their owners, and there is
// no second root. An ordinary user may map only itself.
Result<std::string> identity_map(const char* own_map, unsigned long id, bool all) {
  if (!all) return std::to_string(id) + " " + std::to_string(id) + " 1\n";
  std::ifstream file(own_map);
  std::string map;
  for (unsigned long inside = 0, outside = 0, count = 0; file >> inside >> outside >> count;) {
    map += std::to_string(inside) + " " + std::to_string(inside) + " " + std::to_string(count) + "\n";
  }
  if (map.empty()) return system_failure(std::string("reading ") + own_map, EIO);
  return map;
}

Result<void> write_file(const std::string& path, const std::string& text) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return system_failure("writing " + path);
  }
  return {};
}

Result<void> write_identity_maps(pid_t child) {
  const std::string folder = "/proc/" + std::to_string(child) + "/";
  bool all = ::geteuid() == 0;
  auto users = identity_map("/proc/self/uid_map", ::geteuid(), all);
  auto groups = identity_map("/proc/self/gid_map", ::getegid(), all);
  if (!users) return std::unexpected(users.error());
  if (!groups) return std::unexpected(groups.error());
  if (!all) {
    // The kernel asks for it: else a group that is there to deny something could be dropped.
    if (auto denied = write_file(folder + "setgroups", "deny"); !denied) return denied;
  }
  if (auto written = write_file(folder + "uid_map", *users); !written) return written;
  return write_file(folder + "gid_map", *groups);
}

// This process must be dumpable for its child's maps to be its own to write; a hardened guard is so only for that
// moment.
class Dumpable {
 public:
  Dumpable() : before_(::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)) { ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }
  ~Dumpable() { ::prctl(PR_SET_DUMPABLE, before_ == 1 ? 1 : 0, 0, 0, 0); }
  Dumpable(const Dumpable&) = delete;
  Dumpable& operator=(const Dumpable&) = delete;

 private:
  int before_;
};

}  // namespace

Result<SupervisorProcess> SupervisorProcess::fork(UserNamespace user_namespace, const sigset_t& mask) {
  auto channel = make_channel();
  if (!channel) return std::unexpected(channel.error());
  Dumpable dumpable;
  unsigned long flags = CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_PIDFD | SIGCHLD;
  if (user_namespace == UserNamespace::own) flags |= CLONE_NEWUSER;
  int pidfd = -1;
  // Not fork(): namespaces for the child alone, and its pidfd, come only this way. The process has one thread, so the C
  // library's locks are free in the child.
  long child = ::syscall(SYS_clone, flags, nullptr, &pidfd, nullptr, 0);
  if (child < 0) return system_failure("making namespaces");
  if (child == 0) {
    channel->guard.reset();
    supervise(std::move(channel->supervisor), mask);
  }
  SupervisorProcess supervisor(UniqueFd(pidfd), std::move(channel->guard));
  if (user_namespace == UserNamespace::own) {
    if (auto mapped = write_identity_maps(static_cast<pid_t>(child)); !mapped) return std::unexpected(mapped.error());
  }
  if (auto told = send_message(supervisor.control(), Message(Word::go)); !told) return std::unexpected(told.error());
  return supervisor;
}

SupervisorProcess& SupervisorProcess::operator=(SupervisorProcess&& other) noexcept {
  if (this == &other) return *this;
  kill_and_reap();
  pidfd_ = std::move(other.pidfd_);
  control_ = std::move(other.control_);
  return *this;
}

SupervisorProcess::~SupervisorProcess() { kill_and_reap(); }

void SupervisorProcess::kill_and_reap() {
  if (!pidfd_) return;
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  reap();
}

int SupervisorProcess::reap() {
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) < 0 && errno == EINTR) {
  }
  pidfd_.reset();
  control_.reset();
  constexpr int kStatusShift = 8;
  return info.si_code == CLD_EXITED ? info.si_status << kStatusShift : info.si_status;
}

}  // namespace sallyport::run
