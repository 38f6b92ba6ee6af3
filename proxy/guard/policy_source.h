#pragma once
// The policy file of a guard: reading it with its secrets, and noticing that it has changed.

#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "base/unique_fd.h"
#include "policy-engine/document/load.h"

namespace sallyport::guard {

struct PolicyFile {
  std::shared_ptr<const document::Snapshot> snapshot;  // null if there was any error
  std::vector<document::Diagnostic> diagnostics;
  std::vector<std::string>
      secret_variables;                   // variables of the environment that secrets were read from: not the command's
  std::vector<std::string> secret_files;  // files that secrets were read from: not for the command's eyes
};

// Reads the file and the secrets that it names. `mode` overrides the document's. An unreadable file is a diagnostic
// like any other: the path, what the system said, and what to do. `previous` is the policy that is replaced, if one is.
PolicyFile read_policy(const std::string& path, std::optional<document::Mode> mode,
                       const document::Snapshot* previous = nullptr);
// The same, opened by another path (/proc/self/fd/N) than the one that diagnostics name.
PolicyFile read_policy(const std::string& path, const std::string& opened_as, std::optional<document::Mode> mode,
                       const document::Snapshot* previous);

// Whether both paths lead to one file now.
bool same_file(const std::string& a, const std::string& b);

// Calls back, on a thread of its own, when the file has changed: written in place and closed, replaced by rename, or a
// link on the way to it switched (as Kubernetes does with ConfigMaps). Bursts are joined, and what happens to other
// files of its directory, such as the records that are written there, is nothing. With `opened_as` also when only what
// that leads to has changed.
class PolicyWatcher {
 public:
  static Result<std::unique_ptr<PolicyWatcher>> watch(const std::string& path, std::function<void()> changed,
                                                      const std::string& opened_as = {});
  ~PolicyWatcher();

 private:
  PolicyWatcher(std::string path, std::string opened_as, UniqueFd inotify, UniqueFd stop,
                std::function<void()> changed);
  void run();
  std::string path_, opened_as_;
  std::string version_;  // of the file when it was last looked at
  UniqueFd inotify_, stop_;
  std::function<void()> changed_;
  std::thread thread_;
};

}  // namespace sallyport::guard
