#include "proxy/run/supervisor.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "proxy/run/confinement.h"
#include "proxy/run/descriptors.h"
#include "proxy/run/exec.h"
#include "proxy/run/mounts.h"
#include "proxy/run/namespace_network.h"
#include "proxy/run/redirect_rules.h"
#include "proxy/run/supervisor_channel.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

using Clock = std::chrono::steady_clock;

// A signal to the process group reaches guard, supervisor and command at once, and the guard's word about it arrives
// well within this.
constexpr std::chrono::milliseconds kGroupSignalWindow{500};

constexpr int kGuardIsGone = 125;

// The guard has nothing left to hear: everything in the namespace ends with this process.
[[noreturn]] void end_with(int code) { ::_exit(code); }

void die_with_the_guard() {
  // Sent when the guard's thread that made this process ends. Should it have ended before this line, the channel is
  // closed and the next read from it says so. A change of credentials resets it, so it is said again after each.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

Result<ListenerSet> make_namespace() {
  auto network = configure_loopback();
  if (!network) return std::unexpected(network.error());
  if (auto rules = install_redirect_rules(network->has_ipv6); !rules) return std::unexpected(rules.error());
  auto listeners = open_listeners(network->has_ipv6);
  if (!listeners) return std::unexpected(listeners.error());
  if (auto mounts = set_up_mounts(); !mounts) return std::unexpected(mounts.error());
  return listeners;
}

void hand_out(int control, const ListenerSet& listeners) {
  std::array<int, kDescriptorsPerMessageMax> descriptors{};
  std::size_t count = 0;
  int present = 0;
  for (std::size_t i = 0; i < listeners.size(); ++i) {
    if (!listeners[i]) continue;
    descriptors[count++] = listeners[i].get();
    present |= 1 << i;
  }
  if (!send_message(control, Message(Word::ready, present), std::span(descriptors).first(count)))
    end_with(kGuardIsGone);
}

// Waits for one word of the guard; its end ends this process.
Received expect(int control, Word word) {
  auto received = receive_message(control);
  if (!received || received->message.word != word) end_with(kGuardIsGone);
  return std::move(*received);
}

struct Started {
  pid_t command = -1;
  UniqueFd stock;  // where the guard takes sockets of this namespace from; empty where it wants none
};

Started start_command(int control, const sigset_t& mask) {
  Received order = expect(control, Word::start);
  if (order.descriptors.empty()) end_with(kGuardIsGone);
  auto spec = unpack(order.descriptors.front().get());
  if (!spec) {
    [[maybe_unused]] auto told = send_message(control, Message(Word::not_started, 125, spec.error().text));
    end_with(125);
  }
  apply_binds(spec->binds);
  if (auto shielded = apply_shields(spec->shields); !shielded) {  // fails closed: the command could set its own policy
    [[maybe_unused]] auto told = send_message(control, Message(Word::not_started, 125, shielded.error().text));
    end_with(125);
  }
  auto command = fork_command(*spec, mask);
  if (!command) {
    [[maybe_unused]] auto told =
        send_message(control, Message(Word::not_started, command.error().exit_code, command.error().error.text));
    end_with(command.error().exit_code);
  }
  return {*command, order.descriptors.size() > 1 ? std::move(order.descriptors[1]) : UniqueFd()};
}

// A TCP socket of this namespace. Whoever holds it can connect to the command's loopback, and to nothing else.
UniqueFd new_socket() {
  UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int off = 0;
  if (socket && ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0) return socket;
  return UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// From now on this process only watches. Readers of the command's output must see its end when the command closes it.
void give_up_everything() {
  drop_standard_streams();
  [[maybe_unused]] auto dropped =
      drop_capability_sets();  // the command could not use them in any case: it may not attach
  die_with_the_guard();
}

class Watch {
 public:
  Watch(int control, int signals, Started started)
      : control_(control), signals_(signals), command_(started.command), stock_(std::move(started.stock)) {}

  [[noreturn]] void run() {
    while (true) {
      reap();  // first: the command may have ended before the signal descriptor was asked
      const bool stocked = stock_ && !stock_trouble_;
      std::array<pollfd, 3> waits{
          {{control_, POLLIN, 0}, {signals_, POLLIN, 0}, {stocked ? stock_.get() : -1, POLLOUT, 0}}};
      if (::poll(waits.data(), waits.size(), std::exchange(stock_trouble_, false) ? kStockRetryMs : -1) < 0) continue;
      if (waits[1].revents != 0) take_signals();
      if (waits[0].revents != 0) take_word();
      if (waits[2].revents != 0) fill_stock();
    }
  }

 private:
  void reap() {
    int status = 0;
    for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0;) {
      if (pid != command_) continue;  // orphans of the command's
      if (!WIFSTOPPED(status)) end_with(shell_exit_code(status));
      [[maybe_unused]] auto told = send_message(control_, Message(Word::stopped, WSTOPSIG(status)));
    }
  }

  void take_signals() {
    signalfd_siginfo info{};
    while (::read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (info.ssi_signo < group_signals_.size()) group_signals_[info.ssi_signo] = Clock::now();
    }
  }

  // One more socket for the guard. It is the guard's descriptors that bound them: it takes one for each connection.
  void fill_stock() {
    const UniqueFd socket = new_socket();
    const int descriptor = socket.get();
    const bool sent = socket && send_message(stock_.get(), Message(Word::socket), std::span(&descriptor, 1));
    // Out of descriptors, or of what may be in flight: tried again later, and connections to the command wait.
    stock_trouble_ = !sent;
  }

  void take_word() {
    auto received = receive_message(control_);
    if (!received) end_with(kGuardIsGone);
    if (received->message.word == Word::signal) pass_on(received->message.value);
  }

  // The guard got a signal. If this process got it too, it went to the whole group, and the command has it unless it
  // has left.
  void pass_on(int number) {
    if (number <= 0 || static_cast<std::size_t>(number) >= group_signals_.size()) return;
    take_signals();
    auto seen = std::exchange(group_signals_[static_cast<std::size_t>(number)], Clock::time_point{});
    bool sent_to_group = Clock::now() - seen < kGroupSignalWindow;
    bool in_group = ::getpgid(command_) == ::getpgrp();
    if (sent_to_group && in_group) return;
    ::kill(command_, number);
  }

  static constexpr int kStockRetryMs = 50;

  int control_, signals_;
  pid_t command_;
  UniqueFd stock_;
  bool stock_trouble_ = false;
  std::array<Clock::time_point, 65> group_signals_{};
};

}  // namespace

int shell_exit_code(int status) {
  constexpr int kSignalBase = 128;
  return WIFSIGNALED(status) ? kSignalBase + WTERMSIG(status) : WEXITSTATUS(status);
}

void supervise(UniqueFd control, const sigset_t& mask) {
  die_with_the_guard();
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::signal(SIGCHLD, SIG_DFL);
  ::prctl(PR_SET_NAME, "sallyport-super", 0, 0, 0);
  control = close_all_but(std::move(control));
  expect(control.get(), Word::go);
  // The command has the same user: it must not attach to this process while it still has capabilities.
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  die_with_the_guard();
  {
    auto listeners = make_namespace();
    if (!listeners) {
      [[maybe_unused]] auto told = send_message(control.get(), Message(Word::failed, 0, listeners.error().text));
      end_with(kGuardIsGone);
    }
    hand_out(control.get(), *listeners);
  }
  UniqueFd signals(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  Started started = start_command(control.get(), mask);
  give_up_everything();
  if (!send_message(control.get(), Message(Word::started))) end_with(kGuardIsGone);
  Watch(control.get(), signals.get(), std::move(started)).run();
}

}  // namespace sallyport::run
