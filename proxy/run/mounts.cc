#include "proxy/run/mounts.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/unique_fd.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

namespace fs = std::filesystem;

// Where a file system in memory is mounted while its files are bound to their places; the new /proc comes afterwards.
// Nobody else is in this mount namespace, so nobody misses /proc meanwhile, and nothing is left to clean up.
constexpr const char* kStaging = "/proc";

// Loopback, port 53: the redirect takes it to the guard. No search domains: the host's would be appended to names and
// sent out. EDNS costs a query nothing here, and `trust-ad` and the like mean nothing to the guard.
constexpr std::string_view kResolvConf = "nameserver 127.0.0.1\noptions edns0\n";

bool write_file(const std::string& path, std::string_view text) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
  return file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// Covers what `target` is in the end, through symbolic links. Nothing happens where there is no such path, or the
// kernel refuses.
void cover(const std::string& source, const std::string& target) {
  std::error_code error;
  fs::path resolved = fs::canonical(target, error);
  if (error || resolved == "/") return;
  ::mount(source.c_str(), resolved.c_str(), nullptr, MS_BIND | MS_REC, nullptr);
}

bool fill_staging() {
  if (::mount("sallyport", kStaging, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=1m") != 0) return false;
  const std::string staging = kStaging;
  bool made = write_file(staging + "/resolv.conf", kResolvConf) && write_file(staging + "/nothing", "") &&
              ::mkdir((staging + "/empty").c_str(), 0555) == 0 && ::mkdir((staging + "/resolve").c_str(), 0555) == 0;
  // The directory of systemd-resolved has its sockets and the files that /etc/resolv.conf usually points to.
  for (const char* name : {"resolv.conf", "stub-resolv.conf"}) {
    made = made && write_file(staging + "/resolve/" + name, kResolvConf);
  }
  // The files belong to the command's user: read-only, or it could change them for itself and be confused.
  return made &&
         ::mount(nullptr, kStaging, nullptr, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0;
}

std::optional<std::string> variable_of_this_process(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

void cover_host_services() {
  const std::string staging = kStaging;
  if (fill_staging()) {
    cover(staging + "/resolve", "/run/systemd/resolve");
    Covers covers = paths_to_cover(&variable_of_this_process);
    for (const std::string& path : covers.directories) cover(staging + "/empty", path);
    for (const std::string& path : covers.files) cover(staging + "/nothing", path);
    cover(staging + "/resolv.conf", "/etc/resolv.conf");
  }
  ::umount2(kStaging, MNT_DETACH);
}

// The kernel refuses this where parts of /proc are covered, as in most containers: the old one stays, which shows the
// processes outside, but lets nobody touch them.
void mount_own_proc() { ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr); }

bool make_read_only(const char* path) {
  if (::mount(path, path, nullptr, MS_BIND | MS_REC, nullptr) != 0) return false;
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  return ::syscall(SYS_mount_setattr, AT_FDCWD, path, AT_RECURSIVE, &attributes, sizeof attributes) == 0;
}

// Root without capabilities still owns the kernel's knobs, and some of them name programs that the kernel starts
// outside of every namespace (kernel.core_pattern, kernel.modprobe, uevent_helper).
void protect_kernel_settings() {
  if (::geteuid() != 0) return;
  for (const char* path : {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"}) {
    make_read_only(path);
  }
}

// unix:path=/run/user/1000/bus,guid=… and several of them with semicolons between.
std::vector<std::string> bus_paths(std::string_view addresses) {
  std::vector<std::string> paths;
  constexpr std::string_view kPrefix = "unix:path=";
  for (std::size_t at = addresses.find(kPrefix); at != std::string_view::npos; at = addresses.find(kPrefix, at + 1)) {
    std::string_view path = addresses.substr(at + kPrefix.size());
    paths.emplace_back(path.substr(0, path.find_first_of(",;")));
  }
  return paths;
}

// Variables with the path of a socket whose owner runs commands for whoever connects: "/path", "/path,…", "unix:/path",
// "unix:///path".
constexpr const char* kSocketVariables[] = {
    "TMUX",        "NVIM",           "KITTY_LISTEN_ON", "WEZTERM_UNIX_SOCKET", "VSCODE_IPC_HOOK_CLI",
    "DOCKER_HOST", "CONTAINER_HOST", "BUILDKIT_HOST"};

std::optional<std::string> socket_path(std::string_view value) {
  std::size_t begin = value.find('/');
  bool local = begin == 0 || value.starts_with("unix:");
  if (!local || begin == std::string_view::npos) return std::nullopt;
  std::string_view path = value.substr(begin);
  path.remove_prefix(std::min(path.find_first_not_of('/') - 1, path.size()));
  return std::string(path.substr(0, path.find(',')));
}

void cover_name_services(Covers& covers) {
  // nscd, avahi, and the system bus, on which resolved answers too.
  covers.directories = {"/run/nscd", "/var/run/nscd", "/run/avahi-daemon", "/run/dbus", "/var/run/dbus"};
}

// Services that run what they are told to in the host's namespaces, or fetch it: systemd (StartTransientUnit),
// container engines, virtual machines, snapd, Nix, Tailscale, the Windows side of WSL, terminal multiplexers and
// editors, X (which types into other windows).
void cover_services_of_the_machine(Covers& covers) {
  for (const char* path :
       {"/run/docker", "/run/containerd", "/run/podman", "/run/crio", "/run/buildkit", "/run/libvirt", "/var/lib/lxd",
        "/var/snap/lxd/common/lxd", "/var/lib/incus", "/run/incus", "/run/k3s", "/run/tailscale",
        "/nix/var/nix/daemon-socket", "/tmp/.X11-unix", "/run/WSL", "/run/screen"}) {
    covers.directories.emplace_back(path);
  }
  for (const char* path : {"/run/docker.sock", "/run/snapd.socket", "/run/snapd-snap.socket", "/run/systemd/private"}) {
    covers.files.emplace_back(path);
  }
}

void cover_services_of_the_user(Covers& covers, const Variable& variable) {
  if (auto runtime = variable("XDG_RUNTIME_DIR")) {
    for (const char* name :
         {"/systemd", "/podman", "/docker", "/dbus-1", "/containerd-rootless", "/buildkit", "/emacs"}) {
      covers.directories.push_back(*runtime + name);
    }
    for (const char* name : {"/bus", "/docker.sock", "/gnupg/S.dirmngr"}) covers.files.push_back(*runtime + name);
  }
  if (auto home = variable("HOME")) {
    covers.files.push_back(*home + "/.gnupg/S.dirmngr");  // it fetches keys over the network for whoever asks
    covers.directories.push_back(*home + "/.docker/run");
    covers.directories.push_back(*home + "/.screen");
  }
  if (auto bus = variable("DBUS_SESSION_BUS_ADDRESS")) {
    for (std::string& path : bus_paths(*bus)) covers.files.push_back(std::move(path));
  }
  covers.directories.push_back(variable("TMUX_TMPDIR").value_or("/tmp") + "/tmux-" + std::to_string(::getuid()));
  for (const char* name : kSocketVariables) {
    auto value = variable(name);
    auto path = value ? socket_path(*value) : std::nullopt;
    if (path) covers.files.push_back(std::move(*path));
  }
}

bool cover_file(const char* path) { return ::mount("/dev/null", path, nullptr, MS_BIND, nullptr) == 0; }

bool cover_directory(const char* path) {
  return ::mount("sallyport", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0555,size=4k") == 0;
}

}  // namespace

Covers paths_to_cover(const Variable& variable) {
  Covers covers;
  cover_name_services(covers);
  cover_services_of_the_machine(covers);
  cover_services_of_the_user(covers, variable);
  return covers;
}

Result<void> set_up_mounts() {
  // Slave and not private: what the host unmounts is not held by the command for hours.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return system_failure("keeping mounts to the namespace");
  cover_host_services();
  mount_own_proc();
  protect_kernel_settings();
  return {};
}

// A mount point cannot be unlinked, renamed or replaced by those who see it as one, and those in user namespaces of
// their own cannot take it away.
Result<void> apply_shields(std::span<const Shield> shields) {
  for (const Shield& shield : shields) {
    std::error_code error;
    const fs::path resolved = fs::canonical(shield.path, error);
    if (error == std::errc::no_such_file_or_directory) continue;
    const auto type = error ? fs::file_type::unknown : fs::status(resolved, error).type();
    const bool directory = type == fs::file_type::directory;
    if (!error && !directory && type != fs::file_type::regular && type != fs::file_type::socket) continue;
    bool done = !error && shield.kind == Shield::Kind::read_only && make_read_only(resolved.c_str());
    // Also where the kernel (before 5.12) can't make one mount read-only.
    if (!done && !error) done = directory ? cover_directory(resolved.c_str()) : cover_file(resolved.c_str());
    if (!done) {
      return system_failure("keeping " + shield.path + " from the command", error ? error.value() : errno);
    }
  }
  return {};
}

void apply_binds(std::span<const Bind> binds) {
  for (const Bind& bind : binds) cover(bind.source, bind.target);
}

}  // namespace sallyport::run
