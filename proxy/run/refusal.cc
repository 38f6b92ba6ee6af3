#include "proxy/run/refusal.h"

#include <unistd.h>

#include <fstream>
#include <optional>

namespace sallyport::run {
namespace {

struct Setting {
  const char* name;
  const char* path;
  bool (*forbids)(long value);
  const char* remedy;
};

constexpr Setting kSettings[] = {
    {"user.max_user_namespaces", "/proc/sys/user/max_user_namespaces", [](long value) { return value <= 0; },
     "sysctl -w user.max_user_namespaces=10000"},
    {"kernel.unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone",
     [](long value) { return value == 0; }, "sysctl -w kernel.unprivileged_userns_clone=1"},
    {"kernel.apparmor_restrict_unprivileged_userns", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
     [](long value) { return value != 0; },
     "an AppArmor profile for sallyport with `userns,`, or sysctl -w "
     "kernel.apparmor_restrict_unprivileged_userns=0"},
};

std::optional<long> read_setting(const char* path) {
  std::ifstream file(path);
  long value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

}  // namespace

std::string how_to_allow_namespaces() {
  std::string found;
  for (const Setting& setting : kSettings) {
    auto value = read_setting(setting.path);
    if (!value || !setting.forbids(*value)) continue;
    found +=
        std::string(found.empty() ? "" : "; ") + setting.name + " is " + std::to_string(*value) + ": " + setting.remedy;
  }
  if (found.empty()) {
    found =
        "allow user namespaces (sysctls kernel.unprivileged_userns_clone, "
        "kernel.apparmor_restrict_unprivileged_userns, "
        "user.max_user_namespaces; in a container its seccomp profile too)";
  }
  return ::geteuid() == 0 ? found + "; or give root CAP_SYS_ADMIN and CAP_NET_ADMIN here"
                          : found + "; or run sallyport as root";
}

}  // namespace sallyport::run
