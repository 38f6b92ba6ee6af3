#pragma once
// Runs one command in a network namespace of its own, whose TCP and DNS end at listening sockets that this process, the
// guard, holds in the host's namespace. Nothing else that the command sends gets anywhere: the namespace has no
// interface but its loopback. docs/decisions/0003 has the reasons.
//
// The order of a run:
//
// 1. ScratchDirectory and GuardedCommand::prepare(), on the main thread, before any other thread exists and before
//    secrets are read;
// 2. harden_process();
// 3. workers serve sockets();
// 4. start() and wait(), on that same main thread.
//
// If the guard ends, however it ends, the kernel kills the command and everything that the command started.

#include <signal.h>

#include "base/error.h"
#include "base/unique_fd.h"
#include "proxy/run/command_spec.h"
#include "proxy/run/supervisor_process.h"

namespace sallyport::run {

// All are bound inside the namespace, non-blocking and close-on-exec. The v6 ones are empty where the machine has no
// IPv6. The TCP ones listen; an accepted connection has TCP_NODELAY, and its original destination is SO_ORIGINAL_DST
// (v4) or IP6T_SO_ORIGINAL_DST (v6). A connection that the command made straight to the listener has the listener's own
// address there, 127.0.0.1:61001 or [::1]:61001: refuse it.
struct NamespaceSockets {
  UniqueFd tcp4, tcp6;  // every TCP connection to another port than 53 that does not go to the command's own loopback
  UniqueFd dns_udp4, dns_udp6;  // every datagram to port 53, whatever its destination; answer to where it came from
  UniqueFd dns_tcp4, dns_tcp6;  // every TCP connection to port 53
};

class GuardedCommand {
 public:
  // Makes the namespace, its rules and its sockets, and a supervisor inside that waits for start(). Works for ordinary
  // users where the kernel lets them make user namespaces, and for root everywhere. Error: unavailable, with what to do
  // in its text. The calling thread must outlive the command: the kernel kills the command when that thread ends. From
  // here on the signals that wait() forwards are blocked in this thread and in those that it makes; the command starts
  // with the signal mask and the ignored signals from before.
  static Result<GuardedCommand> prepare();

  GuardedCommand(GuardedCommand&& other) noexcept;
  ~GuardedCommand();  // kills whatever is still inside, waits for the end of it, and restores the signal mask

  NamespaceSockets& sockets() { return sockets_; }

  // Before start(), once: a SOCK_SEQPACKET channel out of which new TCP sockets of the namespace come, one a packet
  // (SCM_RIGHTS), as many as are taken. They are not connected, and dual-stack where the namespace has IPv6. What is
  // connected with one leads to the command's own loopback. Empty until the command has been started.
  Result<UniqueFd> socket_stock();

  // Returns when the command's exec has succeeded. Errors: unavailable (no such command), refused (found, but not
  // executable), internal otherwise; exit_code_of() has the shell's number for each.
  Result<void> start(const CommandSpec& spec);
  static int exit_code_of(const Error& start_error);  // 127, 126, 125

  // Readable when the command and everything that it left running has ended. For poll and epoll; not a child's pidfd to
  // wait on.
  int pidfd() const { return supervisor_.pidfd(); }

  // Waits for the end: the command's exit status, 128+N after signal N. Meanwhile passes on signals that reach the
  // guard and not the command (SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT, SIGWINCH), and
  // stops the guard while the command is stopped, so that Ctrl-Z and fg work. At the end a terminal that a shell inside
  // had taken is the guard's again. Error: the supervisor was killed from outside; nothing is left running then either.
  Result<int> wait();

  // Sends the command a signal. It gets a signal that was also sent to the whole process group only once. Any thread.
  void signal(int number);

 private:
  GuardedCommand() = default;
  void forward(int signals);
  bool stop_with_the_command();  // false: the supervisor has no more to say
  SupervisorProcess supervisor_;
  NamespaceSockets sockets_;
  UniqueFd stock_;     // the supervisor's end of it, until start()
  UniqueFd terminal_;  // the terminal in whose foreground the guard was started; empty without
  bool masked_ = false;
  sigset_t mask_before_{};
};

}  // namespace sallyport::run
