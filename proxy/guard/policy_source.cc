#include "proxy/guard/policy_source.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/limits.h"
#include "base/read_file.h"

namespace sallyport::guard {
namespace {

Result<credentials::Secret> read_secret(const document::SecretRef& reference) {
  if (!reference.env.empty()) {
    const char* value = std::getenv(reference.env.c_str());
    if (value == nullptr) {
      return fail(
          ErrorSource::policy, ErrorKind::unavailable,
          "the environment variable " + reference.env + " is not set; set it for sallyport, not for the command");
    }
    return credentials::Secret::from_source(value, reference.env);
  }
  Result<std::string> text = read_file(reference.file, limits::kSecretBytesMax);
  if (!text) return std::unexpected(text.error());
  Result<credentials::Secret> secret = credentials::Secret::from_source(*text, reference.file);
  OPENSSL_cleanse(text->data(), text->size());
  return secret;
}

// What tells one content of a file from the next: another file behind the path, or the same one written again.
std::string version_of(const std::string& path) {
  struct stat file{};
  if (::stat(path.c_str(), &file) != 0) return {};  // gone: that is a change as well
  std::string version;
  for (const auto part : {static_cast<std::int64_t>(file.st_dev), static_cast<std::int64_t>(file.st_ino), file.st_size,
                          file.st_mtim.tv_sec, file.st_mtim.tv_nsec}) {
    version += std::to_string(part) + ' ';
  }
  return version;
}

// Files that connections will need: better missed now than by the first request. Reading them again later still fails
// closed.
void check_files(const std::string& path, PolicyFile& policy) {
  auto check = [&](const document::Endpoint& endpoint, const char* field, const std::string& file) {
    if (file.empty() || ::access(file.c_str(), R_OK) == 0) return;
    document::Diagnostic missing;
    missing.file = path;
    missing.line = endpoint.line;
    missing.column = 1;
    missing.message =
        "endpoint '" + endpoint.name + "': " + field + ": can't read " + file + ": " + std::strerror(errno);
    policy.diagnostics.push_back(std::move(missing));
  };
  const std::size_t before = policy.diagnostics.size();
  for (const document::Endpoint& endpoint : policy.snapshot->endpoints()) {
    check(endpoint, "caBundle", endpoint.ca_bundle_file);
    check(endpoint, "crl", endpoint.crl_file);
    check(endpoint, "clientCertificate", endpoint.client_certificate_file);
    check(endpoint, "clientCertificate's key", endpoint.client_key_file);
    if (!endpoint.client_key_file.empty()) policy.secret_files.push_back(endpoint.client_key_file);
  }
  if (policy.diagnostics.size() > before) policy.snapshot.reset();
}

}  // namespace

bool same_file(const std::string& a, const std::string& b) {
  struct stat one{}, other{};
  return ::stat(a.c_str(), &one) == 0 && ::stat(b.c_str(), &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

PolicyFile read_policy(const std::string& path, std::optional<document::Mode> mode,
                       const document::Snapshot* previous) {
  return read_policy(path, path, mode, previous);
}

PolicyFile read_policy(const std::string& path, const std::string& opened_as, std::optional<document::Mode> mode,
                       const document::Snapshot* previous) {
  Result<std::string> text = read_file(opened_as, limits::kPolicyBytesMax);
  if (!text) {
    document::Diagnostic unreadable;
    unreadable.file = path;
    unreadable.message = text.error().text;
    return {nullptr, {unreadable}, {}, {}};
  }
  PolicyFile file;
  document::SecretReader reader = [&file](const document::SecretRef& reference) {
    if (!reference.env.empty()) file.secret_variables.push_back(reference.env);
    if (!reference.file.empty()) file.secret_files.push_back(reference.file);
    return read_secret(reference);
  };
  document::LoadResult loaded = document::load_policy(*text, path, reader, mode, previous);
  file.snapshot = std::move(loaded.snapshot);
  file.diagnostics = std::move(loaded.diagnostics);
  if (file.snapshot) check_files(path, file);
  return file;
}

Result<std::unique_ptr<PolicyWatcher>> PolicyWatcher::watch(const std::string& path, std::function<void()> changed,
                                                            const std::string& opened_as) {
  UniqueFd inotify(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  std::filesystem::path directory = std::filesystem::path(path).parent_path();
  if (directory.empty()) directory = ".";
  constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE;
  // The directory, not the file: editors and ConfigMaps replace the file, and a watch on it would follow the old one.
  bool watching = inotify && stop && inotify_add_watch(inotify.get(), directory.c_str(), kEvents) >= 0;
  // Where the path is a link, also the directory in which its target lies.
  std::error_code error;
  std::filesystem::path target = std::filesystem::canonical(path, error);
  if (watching && !error && target.parent_path() != directory) {
    inotify_add_watch(inotify.get(), target.parent_path().c_str(), kEvents);
  }
  if (!watching) {
    return fail(ErrorSource::internal, ErrorKind::unavailable,
                "can't watch " + directory.string() + " for changes of the policy: " + std::strerror(errno));
  }
  return std::unique_ptr<PolicyWatcher>(new PolicyWatcher(path, opened_as.empty() ? path : opened_as,
                                                          std::move(inotify), std::move(stop), std::move(changed)));
}

PolicyWatcher::PolicyWatcher(std::string path, std::string opened_as, UniqueFd inotify, UniqueFd stop,
                             std::function<void()> changed)
    : path_(std::move(path)),
      opened_as_(std::move(opened_as)),
      version_(version_of(path_) + version_of(opened_as_)),
      inotify_(std::move(inotify)),
      stop_(std::move(stop)),
      changed_(std::move(changed)),
      thread_([this] { run(); }) {}

PolicyWatcher::~PolicyWatcher() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void PolicyWatcher::run() {
  using Clock = std::chrono::steady_clock;
  pollfd descriptors[2] = {{inotify_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
  std::optional<Clock::time_point> look_at_latest;  // set while a change waits
  while (true) {
    // After an event the directory should be quiet for a moment: an editor makes several for one save. But not without
    // end: whoever can write beside the policy must not be able to put it off.
    int timeout_ms = look_at_latest ? static_cast<int>(limits::kPolicySettleDelay.count()) : -1;
    int ready = poll(descriptors, 2, timeout_ms);
    if (ready < 0 && errno != EINTR) return;
    if (descriptors[1].revents != 0) return;
    if (ready > 0 && descriptors[0].revents != 0) {
      alignas(inotify_event) char events[4096];
      while (read(inotify_.get(), events, sizeof events) > 0) {
        if (!look_at_latest) look_at_latest = Clock::now() + limits::kPolicySettleMax;
      }
    }
    if (!look_at_latest || (ready != 0 && Clock::now() < *look_at_latest)) continue;
    look_at_latest.reset();
    std::string version = version_of(path_) + version_of(opened_as_);
    if (std::exchange(version_, version) != version) changed_();
  }
}

}  // namespace sallyport::guard
