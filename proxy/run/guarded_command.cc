#include "proxy/run/guarded_command.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "proxy/run/descriptors.h"
#include "proxy/run/refusal.h"
#include "proxy/run/supervisor.h"
#include "proxy/run/supervisor_channel.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

constexpr int kGuardFailed = 125, kNotExecutable = 126, kNotFound = 127;

sigset_t forwarded_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT, SIGWINCH})
    ::sigaddset(&set, number);
  return set;
}

// The terminal in whose foreground this process is; empty without one.
UniqueFd foreground_terminal() {
  for (int fd : {0, 1, 2}) {
    if (::tcgetpgrp(fd) == ::getpgrp()) return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  }
  return {};
}

Result<NamespaceSockets> receive_sockets(int control) {
  auto received = receive_message(control);
  if (!received) return std::unexpected(received.error());
  const Message& message = received->message;
  if (message.word != Word::ready) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, std::string(message.text_view()));
  }
  NamespaceSockets sockets;
  const std::array<UniqueFd*, kDescriptorsPerMessageMax> places{
      &sockets.tcp4, &sockets.tcp6, &sockets.dns_udp4, &sockets.dns_udp6, &sockets.dns_tcp4, &sockets.dns_tcp6};
  auto next = received->descriptors.begin();
  for (std::size_t i = 0; i < places.size(); ++i) {
    if ((message.value >> i & 1) == 0) continue;
    if (next == received->descriptors.end()) return system_failure("receiving the namespace's sockets", EMFILE);
    *places[i] = std::move(*next++);
  }
  return sockets;
}

struct Prepared {
  SupervisorProcess supervisor;
  NamespaceSockets sockets;
};

Result<Prepared> prepare_with(UserNamespace user_namespace, const sigset_t& mask) {
  auto supervisor = SupervisorProcess::fork(user_namespace, mask);
  if (!supervisor) return std::unexpected(supervisor.error());
  auto sockets = receive_sockets(supervisor->control());
  if (!sockets) return std::unexpected(sockets.error());
  return Prepared{std::move(*supervisor), std::move(*sockets)};
}

Result<Prepared> prepare_somehow(const sigset_t& mask) {
  auto prepared = prepare_with(UserNamespace::own, mask);
  if (prepared) return prepared;
  std::string text = prepared.error().text;
  if (::geteuid() == 0) {
    auto without = prepare_with(UserNamespace::none, mask);
    if (without) return without;
    text += "; without a user namespace: " + without.error().text;
  }
  return fail(
      ErrorSource::internal, ErrorKind::unavailable,
      "the command cannot get a network namespace of its own (" + text + "). What to do: " + how_to_allow_namespaces());
}

// A shell inside made a process group of its own the foreground one, and was killed before it could undo that. A
// foreground group with somebody in it is another's: the shell outside has it while this job is in the background.
void take_terminal_back(const UniqueFd& terminal) {
  pid_t foreground = terminal ? ::tcgetpgrp(terminal.get()) : -1;
  bool abandoned = foreground > 0 && ::kill(-foreground, 0) != 0 && errno == ESRCH;
  if (!abandoned) return;
  sigset_t output, before;
  ::sigemptyset(&output);
  ::sigaddset(&output, SIGTTOU);
  ::pthread_sigmask(SIG_BLOCK, &output, &before);
  ::tcsetpgrp(terminal.get(), ::getpgrp());
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

GuardedCommand::GuardedCommand(GuardedCommand&& other) noexcept
    : supervisor_(std::move(other.supervisor_)),
      sockets_(std::move(other.sockets_)),
      stock_(std::move(other.stock_)),
      terminal_(std::move(other.terminal_)),
      masked_(std::exchange(other.masked_, false)),
      mask_before_(other.mask_before_) {}

GuardedCommand::~GuardedCommand() {
  supervisor_ = {};
  if (masked_) ::pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
}

Result<GuardedCommand> GuardedCommand::prepare() {
  open_missing_standard_streams();
  if (auto safe = refuse_standard_streams_to_the_outside(); !safe) return std::unexpected(safe.error());
  GuardedCommand command;
  sigset_t forwarded = forwarded_signals();
  ::pthread_sigmask(SIG_BLOCK, &forwarded, &command.mask_before_);
  command.masked_ = true;
  ::signal(SIGCHLD, SIG_DFL);  // ignored, it would take the supervisor's exit status away
  auto prepared = prepare_somehow(command.mask_before_);
  if (!prepared) return std::unexpected(prepared.error());
  command.supervisor_ = std::move(prepared->supervisor);
  command.sockets_ = std::move(prepared->sockets);
  command.terminal_ = foreground_terminal();
  return command;
}

Result<void> GuardedCommand::start(const CommandSpec& spec) {
  auto packed = pack(spec);
  if (!packed) return std::unexpected(packed.error());
  const std::array<int, 2> descriptors{packed->get(), stock_.get()};
  auto sent = send_message(supervisor_.control(), Message(Word::start),
                           std::span(descriptors).first(stock_ ? descriptors.size() : 1));
  stock_.reset();
  auto answer = receive_message(supervisor_.control());
  if (!sent || !answer) {
    return fail(ErrorSource::internal, ErrorKind::reset,
                "the command's supervisor ended before it could start the command");
  }
  const Message& message = answer->message;
  if (message.word == Word::started) return {};
  ErrorKind kind = ErrorKind::invalid;
  if (message.value == kNotFound) kind = ErrorKind::unavailable;
  if (message.value == kNotExecutable) kind = ErrorKind::refused;
  return fail(ErrorSource::internal, kind, std::string(message.text_view()));
}

Result<UniqueFd> GuardedCommand::socket_stock() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return system_failure("making the channel for the namespace's sockets");
  }
  UniqueFd taken(ends[0]);
  stock_.reset(ends[1]);
  const int smallest = 1;  // the kernel's least: a few sockets are made ahead, not hundreds
  ::setsockopt(stock_.get(), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest);
  return taken;
}

int GuardedCommand::exit_code_of(const Error& start_error) {
  if (start_error.kind == ErrorKind::unavailable) return kNotFound;
  return start_error.kind == ErrorKind::refused ? kNotExecutable : kGuardFailed;
}

Result<int> GuardedCommand::wait() {
  sigset_t forwarded = forwarded_signals();
  UniqueFd signals(::signalfd(-1, &forwarded, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return system_failure("waiting for the command");
  std::array<pollfd, 3> waits{
      {{supervisor_.pidfd(), POLLIN, 0}, {supervisor_.control(), POLLIN, 0}, {signals.get(), POLLIN, 0}}};
  while (true) {
    if (::poll(waits.data(), waits.size(), -1) < 0) continue;
    if (waits[0].revents != 0) break;
    if (waits[2].revents != 0) forward(signals.get());
    // The channel ends a little before the process, which still has everything in its namespace to wait for.
    if (waits[1].revents != 0 && !stop_with_the_command()) waits[1].fd = -1;
  }
  take_terminal_back(terminal_);
  int status = supervisor_.reap();
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return fail(ErrorSource::internal, ErrorKind::reset,
              "the command's supervisor was killed (signal " + std::to_string(WTERMSIG(status)) +
                  "), and the kernel ended the command with it");
}

void GuardedCommand::forward(int signals) {
  signalfd_siginfo info{};
  while (::read(signals, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    this->signal(static_cast<int>(info.ssi_signo));
  }
}

bool GuardedCommand::stop_with_the_command() {
  auto received = receive_message(supervisor_.control());
  if (!received) return false;
  // Without a terminal there is no shell that would notice, and nobody who would continue the guard.
  if (received->message.word == Word::stopped && terminal_) ::kill(::getpid(), SIGSTOP);
  return true;
}

void GuardedCommand::signal(int number) {
  // The command may be gone already: then there is nobody to tell.
  [[maybe_unused]] auto sent = send_message(supervisor_.control(), Message(Word::signal, number));
}

}  // namespace sallyport::run
