// Tries one thing from inside a guarded command and says in one line what came of it: `NAME: ok …` or `NAME: ERRNO`.
//   run_test_probe WHAT [ARG…] [-- WHAT [ARG…]]…

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <nftables/libnftables.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace {

using sallyport::UniqueFd;
using Arguments = std::vector<std::string>;

std::string outcome(bool good, const std::string& text = "ok") { return good ? text : ::strerrorname_np(errno); }

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address address_of(const std::string& host, const std::string& port) {
  Address address;
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) std::abort();
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  address.length = found->ai_addrlen;
  ::freeaddrinfo(found);
  return address;
}

std::string read_to_end(int fd) {
  std::string text;
  char buffer[512];
  for (ssize_t count = 0; (count = ::read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(count));
  return text;
}

std::string tcp(const Arguments& a) {
  Address address = address_of(a[0], a[1]);
  UniqueFd socket(::socket(address.storage.ss_family, SOCK_STREAM, 0));
  timeval limit{5, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(socket.get(), address.get(), address.length) != 0) return outcome(false);
  return "ok " + read_to_end(socket.get());
}

std::string host_name_of(const Address& address) {
  char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";
  ::getnameinfo(reinterpret_cast<const sockaddr*>(&address.storage), address.length, host, sizeof host, port,
                sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
  return std::string(host) + " " + port;
}

// Not connected, so that an answer from another address than the one asked would be seen.
std::string udp(const Arguments& a) {
  Address address = address_of(a[0], a[1]);
  UniqueFd socket(::socket(address.storage.ss_family, SOCK_DGRAM, 0));
  std::string payload = a.size() > 2 ? a[2] : "sallyport-witness";
  if (::sendto(socket.get(), payload.data(), payload.size(), 0, address.get(), address.length) < 0)
    return outcome(false);
  pollfd wait{socket.get(), POLLIN, 0};
  if (::poll(&wait, 1, 2'000) != 1) return "silence";
  char buffer[512];
  Address from;
  from.length = sizeof from.storage;
  ssize_t count = ::recvfrom(socket.get(), buffer, sizeof buffer, 0, from.get(), &from.length);
  if (count < 0) return outcome(false);
  return "ok from " + host_name_of(from) + ": " + std::string(buffer, static_cast<std::size_t>(count));
}

std::string make_socket(const Arguments& a) {
  long fd =
      ::syscall(SYS_socket, std::strtol(a[0].c_str(), nullptr, 0), std::atol(a[1].c_str()), std::atol(a[2].c_str()));
  return outcome(fd >= 0);
}

std::string make_pair(const Arguments& a) {
  int ends[2];
  return outcome(::socketpair(std::atoi(a[0].c_str()), SOCK_STREAM, 0, ends) == 0);
}

#ifdef __x86_64__
// The system calls of a 32-bit program, which a 64-bit one can make too.
long call_i386(long number, long first, long second, long third) {
  long result = number;
  __asm__ volatile("int $0x80"
                   : "+a"(result)
                   : "b"(first), "c"(second), "d"(third)
                   : "memory", "r8", "r9", "r10", "r11");
  return result;
}

std::string outcome_i386(long result) {
  errno = static_cast<int>(-result);
  return outcome(result >= 0);
}

std::string socket_i386(const Arguments& a) {
  return outcome_i386(call_i386(359, std::atol(a[0].c_str()), SOCK_STREAM, 0));
}

std::string socketcall_i386(const Arguments& a) {
  void* low = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  auto* words = static_cast<std::int32_t*>(low);
  words[0] = std::atoi(a[0].c_str());
  words[1] = SOCK_STREAM;
  words[2] = 0;
  return outcome_i386(call_i386(102, 1, reinterpret_cast<long>(low), 0));
}

std::string socket_x32(const Arguments& a) {
  constexpr long kX32Bit = 0x4000'0000;
  return outcome(::syscall(kX32Bit | SYS_socket, std::atol(a[0].c_str()), SOCK_STREAM, 0) >= 0);
}
#endif

std::string type_into_terminal(const Arguments&) {
  char letter = 'x';
  constexpr unsigned long kHighBit = 1UL << 40;  // the kernel does not look at it; a careless filter does
  UniqueFd terminal(::open("/dev/tty", O_RDWR | O_NOCTTY));
  int fd = terminal ? terminal.get() : 0;
  std::string plain = outcome(::ioctl(fd, TIOCSTI, &letter) == 0);
  std::string masked = outcome(::syscall(SYS_ioctl, fd, TIOCSTI | kHighBit, &letter) == 0);
  return plain + " " + masked + " " + outcome(::ioctl(fd, TIOCLINUX, &letter) == 0);
}

std::string make_ring(const Arguments&) {
  io_uring_params parameters{};
  return outcome(::syscall(SYS_io_uring_setup, 4, &parameters) >= 0);
}

std::string request_key(const Arguments&) {
  return outcome(::syscall(SYS_request_key, "dns_resolver", "witness.example", "", 0) >= 0);
}

std::string flush_rules(const Arguments&) {
  nft_ctx* context = nft_ctx_new(NFT_CTX_DEFAULT);
  nft_ctx_buffer_error(context);
  bool done = nft_run_cmd_from_buffer(context, "flush ruleset; delete table inet sallyport") == 0;
  nft_ctx_free(context);
  return done ? "ok" : "refused";
}

std::string take_loopback_down(const Arguments&) {
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  return outcome(::ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0);
}

std::string new_user_namespace(const Arguments&) { return outcome(::unshare(CLONE_NEWUSER) == 0); }

std::string enter(const Arguments& a) {
  UniqueFd space(::open(a[0].c_str(), O_RDONLY | O_CLOEXEC));
  if (!space) return outcome(false);
  return outcome(::setns(space.get(), 0) == 0);
}

std::string attach(const Arguments& a) {
  std::string memory = "/proc/" + a[0] + "/mem";
  std::string traced = outcome(::ptrace(PTRACE_ATTACH, std::atoi(a[0].c_str()), nullptr, nullptr) == 0);
  UniqueFd opened(::open(memory.c_str(), O_RDWR));
  std::string readable = outcome(static_cast<bool>(opened));
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, std::atoi(a[0].c_str()), 0)));
  return traced + " " + readable + " " + outcome(::syscall(SYS_pidfd_getfd, process.get(), 3, 0) >= 0);
}

// A name that starts with @ is an abstract one.
std::string unix_connect(const Arguments& a) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, a[0].data(), std::min(a[0].size(), sizeof address.sun_path - 1));
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + a[0].size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  return outcome(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
}

// A server of the command's own, reached over `address`.
std::string own_server(const Arguments& a) {
  Address wildcard = address_of(a[0].contains(':') ? "::" : "0.0.0.0", "8080");
  Address address = address_of(a[0], "8080");
  UniqueFd listening(::socket(address.storage.ss_family, SOCK_STREAM, 0));
  const int on = 1;
  ::setsockopt(listening.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(listening.get(), wildcard.get(), wildcard.length) != 0 || ::listen(listening.get(), 1) != 0)
    return outcome(false);
  UniqueFd client(::socket(address.storage.ss_family, SOCK_STREAM, 0));
  if (::connect(client.get(), address.get(), address.length) != 0) return outcome(false);
  UniqueFd server(::accept(listening.get(), nullptr, nullptr));
  bool sent = ::send(server.get(), "own", 3, 0) == 3;
  server.reset();
  return outcome(sent) + " " + read_to_end(client.get());
}

std::string own_datagrams(const Arguments& a) {
  Address address = address_of(a[0], "8081");
  UniqueFd server(::socket(address.storage.ss_family, SOCK_DGRAM, 0)),
      client(::socket(address.storage.ss_family, SOCK_DGRAM, 0));
  if (::bind(server.get(), address.get(), address.length) != 0) return outcome(false);
  if (::sendto(client.get(), "own", 3, 0, address.get(), address.length) != 3) return outcome(false);
  pollfd wait{server.get(), POLLIN, 0};
  return outcome(::poll(&wait, 1, 2'000) == 1);
}

std::string status(const Arguments&) {
  std::ifstream file("/proc/self/status");
  std::string text;
  for (std::string line; std::getline(file, line);) {
    std::replace(line.begin(), line.end(), '\t', ' ');
    if (line.starts_with("Cap") || line.starts_with("NoNewPrivs") || line.starts_with("Seccomp:") ||
        line.starts_with("Groups") || line.starts_with("Sig") || line.starts_with("Uid")) {
      text += line + "\n";
    }
  }
  return text;
}

std::string descriptors(const Arguments&) {
  std::string text;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    std::string target = std::filesystem::read_symlink(entry.path(), error);
    if (target.contains("/proc/")) continue;  // the descriptor of this very listing
    text += entry.path().filename().string() + " ";
  }
  return text;
}

std::string resolve(const Arguments& a) {
  addrinfo hints{};
  hints.ai_flags = AI_ADDRCONFIG;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  int error = ::getaddrinfo(a[0].c_str(), "443", &hints, &found);
  return error == 0 ? "ok" : ::gai_strerror(error);
}

std::string write_setting(const Arguments& a) {
  UniqueFd file(::open(a[0].c_str(), O_WRONLY));
  return outcome(static_cast<bool>(file));
}

volatile sig_atomic_t signals_seen = 0;

std::string await_signals(const Arguments& a) {
  int number = std::atoi(a[0].c_str());
  struct sigaction action{};
  action.sa_handler = [](int) { signals_seen = signals_seen + 1; };
  ::sigaction(number, &action, nullptr);
  std::puts("waiting");
  std::fflush(stdout);
  for (int i = 0; i < 100 && signals_seen == 0; ++i) ::usleep(50'000);
  ::usleep(700'000);  // a second one would come soon
  return std::to_string(signals_seen);
}

using Try = std::string (*)(const Arguments&);
const std::map<std::string, Try> kTries = {
    {"tcp", &tcp},
    {"udp", &udp},
    {"socket", &make_socket},
    {"socketpair", &make_pair},
#ifdef __x86_64__
    {"socket-i386", &socket_i386},
    {"socketcall-i386", &socketcall_i386},
    {"socket-x32", &socket_x32},
#endif
    {"type", &type_into_terminal},
    {"ring", &make_ring},
    {"request-key", &request_key},
    {"flush", &flush_rules},
    {"link-down", &take_loopback_down},
    {"new-user-namespace", &new_user_namespace},
    {"enter", &enter},
    {"attach", &attach},
    {"own-server", &own_server},
    {"own-datagrams", &own_datagrams},
    {"status", &status},
    {"descriptors", &descriptors},
    {"resolve", &resolve},
    {"write", &write_setting},
    {"await-signals", &await_signals},
    {"unix", &unix_connect},
};

}  // namespace

int main(int count, char** values) {
  for (int at = 1; at < count; ++at) {
    std::string what = values[at++];
    Arguments arguments;
    for (; at < count && std::strcmp(values[at], "--") != 0; ++at) arguments.emplace_back(values[at]);
    auto found = kTries.find(what);
    if (found == kTries.end()) return 2;
    std::printf("%s: %s\n", what.c_str(), found->second(arguments).c_str());
    std::fflush(stdout);
  }
  return 0;
}
