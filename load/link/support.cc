// Measured calls, other processes and lines of JSON.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>

#include "load/link/link_load.h"
#include "proxy/net/test_peer.h"

namespace sallyport::load {

double Calls::percentile(double part) const {
  if (microseconds.empty()) return 0;
  std::vector<double> sorted = microseconds;
  const auto at = sorted.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(sorted.size() - 1));
  std::nth_element(sorted.begin(), at, sorted.end());
  return *at;
}

Child::Child(std::vector<std::string> arguments) {
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::execv(pointers[0], pointers.data());
  std::perror(pointers[0]);
  ::_exit(127);
}

Child::~Child() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Child::signal(int number) const { ::kill(pid_, number); }

double Child::cpu_seconds() const {
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

double Child::resident_mib() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/statm");
  std::uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 20);
}

std::uint16_t free_port() {
  const net::testing::Listener listener;
  return listener.port();
}

void print(const std::string& measure, const std::vector<std::pair<std::string, double>>& figures) {
  std::printf("{\"measure\":\"%s\"", measure.c_str());
  for (const auto& [name, value] : figures) std::printf(",\"%s\":%.*f", name.c_str(), value < 100 ? 2 : 0, value);
  std::printf("}\n");
  std::fflush(stdout);
}

}  // namespace sallyport::load
