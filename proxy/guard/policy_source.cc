#include "proxy/guard/policy_source.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/limits.h"
#include "base/read_file.h"
#include "policy-engine/flow/graph_document.h"

namespace sallyport::guard {
namespace {

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

const std::string& opened_as(const OpenedAs& paths, const std::string& file) {
  const auto found = paths.find(file);
  return found == paths.end() ? file : found->second;
}

// The directory, not the file: editors and ConfigMaps replace the file, and a watch on it would follow the old one.
bool watch_directories(int inotify, const std::string& path) {
  constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE;
  std::filesystem::path directory = std::filesystem::path(path).parent_path();
  if (directory.empty()) directory = ".";
  if (inotify_add_watch(inotify, directory.c_str(), kEvents) < 0) return false;
  // Where the path is a link, also the directory in which its target lies.
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(path, error);
  if (!error && target.parent_path() != directory) inotify_add_watch(inotify, target.parent_path().c_str(), kEvents);
  return true;
}

}  // namespace

Result<credentials::Secret> read_secret(const document::SecretRef& reference, PolicyFile& policy) {
  if (!reference.env.empty()) policy.secret_variables.push_back(reference.env);
  if (!reference.file.empty()) policy.secret_files.push_back(reference.file);
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

bool same_file(const std::string& a, const std::string& b) {
  struct stat one{}, other{};
  return ::stat(a.c_str(), &one) == 0 && ::stat(b.c_str(), &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

std::shared_ptr<const flow::Graph> read_graph(const std::string& policy_path, const document::Snapshot& policy,
                                              const PolicyContext& context, std::chrono::system_clock::time_point now,
                                              std::vector<document::Diagnostic>& diagnostics) {
  const document::FlowRule* rule = policy.flow();
  if (rule == nullptr) return nullptr;
  const auto complain = [&](bool warning, std::string message, std::string hint) {
    diagnostics.push_back({policy_path, rule->line, 1, std::move(message), std::move(hint), warning});
  };
  const std::string file = graph_file_of(policy_path, *rule);
  Result<std::string> text = read_file(opened_as(context.opened_as, file), limits::kPolicyBytesMax);
  if (!text) {
    complain(false, "the flow graph: " + text.error().text, "learn one with sallyport flow learn, or name its file");
    return nullptr;
  }
  return accept_graph(flow::load_graph(*text, file), file, policy_path, policy, context, now, diagnostics);
}

std::shared_ptr<const flow::Graph> accept_graph(flow::GraphLoad load, const std::string& name,
                                                const std::string& policy_name, const document::Snapshot& policy,
                                                const PolicyContext& context, std::chrono::system_clock::time_point now,
                                                std::vector<document::Diagnostic>& diagnostics) {
  const document::FlowRule& rule = *policy.flow();
  const auto complain = [&](bool warning, std::string message, std::string hint) {
    diagnostics.push_back({policy_name, rule.line, 1, std::move(message), std::move(hint), warning});
  };
  diagnostics.insert(diagnostics.end(), load.diagnostics.begin(), load.diagnostics.end());
  if (!load.graph) return nullptr;
  if (load.graph->function() != policy.function()) {
    complain(false, "the flow graph " + name + " is for the function '" + load.graph->function() + "'",
             "this policy is for '" + policy.function() + "'");
    return nullptr;
  }
  const std::string& digest = load.graph->image_digest();
  if (context.image_digest.empty() || digest.empty() || digest == context.image_digest) return load.graph;
  const bool relaxed = rule.relaxed(now);
  complain(relaxed, "the flow graph " + name + " is for the image " + digest + ", and this is " + context.image_digest,
           relaxed ? "until relaxUntil it only records"
                   : "learn the new image's graph; relaxUntil lets the old one record what it would refuse meanwhile");
  return relaxed ? load.graph : nullptr;
}

std::string graph_file_of(const std::string& policy_path, const document::FlowRule& rule) {
  return std::filesystem::path(policy_path).parent_path() / rule.graph_file;
}

PolicyFile read_policy(const std::string& path, const PolicyContext& context, const document::Snapshot* previous) {
  PolicyFile file;
  Result<std::string> text = read_file(opened_as(context.opened_as, path), limits::kPolicyBytesMax);
  if (!text) {
    document::Diagnostic unreadable;
    unreadable.file = path;
    unreadable.message = text.error().text;
    file.diagnostics.push_back(std::move(unreadable));
    return file;
  }
  document::SecretReader reader = [&file](const document::SecretRef& reference) {
    return read_secret(reference, file);
  };
  document::LoadResult loaded = document::load_policy(*text, path, reader, context.mode, previous);
  file.snapshot = std::move(loaded.snapshot);
  file.diagnostics = std::move(loaded.diagnostics);
  if (file.snapshot && file.snapshot->flow() != nullptr) {
    file.graph_file = graph_file_of(path, *file.snapshot->flow());
    file.graph = read_graph(path, *file.snapshot, context, std::chrono::system_clock::now(), file.diagnostics);
    if (!file.graph) file.snapshot.reset();
  }
  if (file.snapshot) check_files(path, file);
  return file;
}

Result<std::unique_ptr<PolicyWatcher>> PolicyWatcher::watch(std::vector<std::string> files, OpenedAs opened_as,
                                                            Changed changed) {
  UniqueFd inotify(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const bool watching = inotify && stop && std::ranges::all_of(files, [&](const std::string& file) {
                          return watch_directories(inotify.get(), file);
                        });
  if (!watching) {
    return fail(ErrorSource::internal, ErrorKind::unavailable,
                "can't watch " + files.front() + " for changes of the policy: " + std::strerror(errno));
  }
  return std::unique_ptr<PolicyWatcher>(new PolicyWatcher(std::move(files), std::move(opened_as), std::move(inotify),
                                                          std::move(stop), std::move(changed)));
}

PolicyWatcher::PolicyWatcher(std::vector<std::string> files, OpenedAs opened_as, UniqueFd inotify, UniqueFd stop,
                             Changed changed)
    : files_(std::move(files)),
      opened_as_(std::move(opened_as)),
      version_(version()),
      inotify_(std::move(inotify)),
      stop_(std::move(stop)),
      changed_(std::move(changed)),
      thread_([this] { run(); }) {}

std::string PolicyWatcher::version() const {
  std::string out;
  for (const std::string& file : files_) out += version_of(file) + version_of(opened_as(opened_as_, file));
  return out;
}

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
    const std::string now = version();
    if (std::exchange(version_, now) == now) continue;
    std::vector<std::string> files = changed_();
    if (files == files_) continue;
    files_ = std::move(files);
    version_ = version();
    // One that can't be watched is looked at when another changes.
    for (const std::string& file : files_) watch_directories(inotify_.get(), file);
  }
}

}  // namespace sallyport::guard
