// A guard without a proxy, for the tests of this folder: runs a command under guard, answers on the namespace's
// sockets, and writes a line to descriptor 3 for everything that it sees.
//   run_test_guard [--user UID] [--scratch] [--bind SOURCE TARGET] [--variable NAME=VALUE] -- COMMAND [ARG…]

#include <arpa/inet.h>
#include <grp.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include "base/harden.h"
#include "proxy/run/guarded_command.h"
#include "proxy/run/scratch_directory.h"
#include "proxy/run/standard_streams.h"

extern char** environ;

namespace {

using namespace sallyport;
using namespace sallyport::run;

constexpr int kLog = 3;

void log_line(const std::string& line) {
  std::string text = line + "\n";
  [[maybe_unused]] ssize_t written = ::write(kLog, text.data(), text.size());
}

std::string name_of(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  return "[" + std::string(text) + "]:" + std::to_string(ntohs(v6.sin6_port));
}

std::string original_destination(int fd, bool ipv6) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  int level = ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
  int option = ipv6 ? IP6T_SO_ORIGINAL_DST : SO_ORIGINAL_DST;
  if (::getsockopt(fd, level, option, &address, &length) != 0) return std::string("none: ") + std::strerror(errno);
  return name_of(address);
}

// Says where the connection wanted to go, to the log and to the command, and then gives back what it reads, once.
void answer_connection(const std::string& listener, int listening, bool ipv6) {
  UniqueFd connection(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection) return;
  std::string text = listener + " " + original_destination(connection.get(), ipv6);
  log_line(text);
  ::send(connection.get(), text.data(), text.size(), MSG_NOSIGNAL);
  ::shutdown(connection.get(), SHUT_WR);
}

void answer_datagram(const std::string& listener, int fd) {
  std::array<char, 2048> bytes{};
  sockaddr_storage from{};
  socklen_t length = sizeof from;
  ssize_t count = ::recvfrom(fd, bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
  if (count < 0) return;
  std::string text = listener + " " + std::string(bytes.data(), static_cast<std::size_t>(count));
  log_line(text);
  ::sendto(fd, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&from), length);
}

void serve(const NamespaceSockets& sockets) {
  std::array<pollfd, 6> waits{{{sockets.tcp4.get(), POLLIN, 0},
                               {sockets.tcp6.get(), POLLIN, 0},
                               {sockets.dns_tcp4.get(), POLLIN, 0},
                               {sockets.dns_tcp6.get(), POLLIN, 0},
                               {sockets.dns_udp4.get(), POLLIN, 0},
                               {sockets.dns_udp6.get(), POLLIN, 0}}};
  while (::poll(waits.data(), waits.size(), -1) >= 0) {
    if (waits[0].revents != 0) answer_connection("tcp4", waits[0].fd, false);
    if (waits[1].revents != 0) answer_connection("tcp6", waits[1].fd, true);
    if (waits[2].revents != 0) answer_connection("dns-tcp4", waits[2].fd, false);
    if (waits[3].revents != 0) answer_connection("dns-tcp6", waits[3].fd, true);
    if (waits[4].revents != 0) answer_datagram("dns-udp4", waits[4].fd);
    if (waits[5].revents != 0) answer_datagram("dns-udp6", waits[5].fd);
  }
}

struct Options {
  int user = -1;
  bool scratch = false;
  CommandSpec spec;
};

Options parse(char** arguments) {
  Options options;
  for (char** variable = environ; *variable != nullptr; ++variable) options.spec.environment.emplace_back(*variable);
  while (*arguments != nullptr && std::strcmp(*arguments, "--") != 0) {
    std::string flag = *arguments++;
    if (flag == "--user") options.user = std::atoi(*arguments++);
    if (flag == "--scratch") options.scratch = true;
    if (flag == "--variable") options.spec.environment.insert(options.spec.environment.begin(), *arguments++);
    if (flag == "--bind") {
      std::string source = *arguments++;
      options.spec.binds.push_back({source, *arguments++});
    }
  }
  for (++arguments; *arguments != nullptr; ++arguments) options.spec.argv.emplace_back(*arguments);
  return options;
}

bool become(int user) {
  const gid_t groups[] = {static_cast<gid_t>(user), 12'345};
  auto id = static_cast<uid_t>(user);
  return ::setgroups(2, groups) == 0 && ::setresgid(id, id, id) == 0 && ::setresuid(id, id, id) == 0;
}

std::string milliseconds_since(std::chrono::steady_clock::time_point begin) {
  return std::to_string(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
}

int complain(const Error& error, int code) {
  log_line("error " + error.text);
  return code;
}

std::string process_of(int pidfd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(pidfd));
  for (std::string word; info >> word;) {
    if (word == "Pid:" && info >> word) return word;
  }
  return "?";
}

int run_command(const Options& options) {
  auto begin = std::chrono::steady_clock::now();
  auto command = GuardedCommand::prepare();
  if (!command) return complain(command.error(), 125);
  log_line("prepared in ms " + milliseconds_since(begin));
  log_line("supervisor " + process_of(command->pidfd()));
  std::thread([&sockets = command->sockets()] { serve(sockets); }).detach();
  if (auto hardened = harden_process(); !hardened) return complain(hardened.error(), 125);
  begin = std::chrono::steady_clock::now();
  if (auto started = command->start(options.spec); !started) {
    return complain(started.error(), GuardedCommand::exit_code_of(started.error()));
  }
  log_line("started in ms " + milliseconds_since(begin));
  if (auto released = release_standard_streams(); !released) return complain(released.error(), 125);
  auto code = command->wait();
  return code ? *code : complain(code.error(), 125);
}

}  // namespace

int main(int, char** arguments) {
  Options options = parse(arguments + 1);
  if (options.user >= 0 && !become(options.user)) return 125;
  ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // as it is for a program that an ordinary user started
  if (!options.scratch) ::_exit(run_command(options));
  int code = 0;
  {
    auto scratch = ScratchDirectory::make();
    if (!scratch) ::_exit(complain(scratch.error(), 125));
    log_line("scratch " + scratch->path().string());
    std::ofstream(scratch->path() / "bundle.pem") << "not a certificate";
    options.spec.environment.insert(options.spec.environment.begin(), "SCRATCH=" + scratch->path().string());
    code = run_command(options);
  }
  ::_exit(code);  // the serving thread never ends
}
