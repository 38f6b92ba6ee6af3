#pragma once
// The policy file of a guard: reading it with its secrets and its flow graph, and noticing that it has changed.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "policy-engine/document/load.h"
#include "policy-engine/flow/graph.h"
#include "policy-engine/flow/graph_document.h"

namespace sallyport::guard {

// By which path a file is opened (/proc/self/fd/N), where that is not its own: the guarded command could put another
// one into its place. Diagnostics name the file by its own.
using OpenedAs = std::map<std::string, std::string, std::less<>>;

struct PolicyContext {
  std::optional<document::Mode> mode;  // overrides the document's
  std::string image_digest;            // of the image that the function runs from; empty: not known
  OpenedAs opened_as;
  bool graph_stays = false;  // a changed policy may not name another flow graph than the one that it named at the start
};

struct PolicyFile {
  std::shared_ptr<const document::Snapshot> snapshot;  // null if there was any error
  std::shared_ptr<const flow::Graph> graph;            // null where the policy names none
  std::vector<document::Diagnostic> diagnostics;
  std::string graph_file;  // that the policy names, also where there was an error
  std::vector<std::string>
      secret_variables;                   // variables of the environment that secrets were read from: not the command's
  std::vector<std::string> secret_files;  // files that secrets were read from: not for the command's eyes
};

// Reads the file, the secrets and the flow graph that it names. An unreadable file is a diagnostic like any other: the
// path, what the system said, and what to do. `previous` is the policy that is replaced, if one is.
// The file that the rule names: beside the policy, unless its path is absolute.
std::string graph_file_of(const std::string& policy_path, const document::FlowRule& rule);

PolicyFile read_policy(const std::string& path, const PolicyContext& context = {},
                       const document::Snapshot* previous = nullptr);

// The flow graph that a policy names, null where it names none. Errors: it cannot be read or used, is another
// function's, or of another image than the one that runs, unless the policy relaxes it at `now`.
std::shared_ptr<const flow::Graph> read_graph(const std::string& policy_path, const document::Snapshot& policy,
                                              const PolicyContext& context, std::chrono::system_clock::time_point now,
                                              std::vector<document::Diagnostic>& diagnostics);

// The same of a graph that has been read, and is called `name`.
std::shared_ptr<const flow::Graph> accept_graph(flow::GraphLoad load, const std::string& name,
                                                const std::string& policy_name, const document::Snapshot& policy,
                                                const PolicyContext& context, std::chrono::system_clock::time_point now,
                                                std::vector<document::Diagnostic>& diagnostics);

// Of a file or a variable, which `policy` is told of.
Result<credentials::Secret> read_secret(const document::SecretRef& reference, PolicyFile& policy);
// Files that connections will need: better missed now than by the first request. Without one of them the policy can't
// be used. Reading them again later still fails closed.
void check_files(const std::string& policy_name, PolicyFile& policy);

// Whether both paths lead to one file now.
bool same_file(const std::string& a, const std::string& b);

// Calls back, on a thread of its own, when one of the files has changed: written in place and closed, replaced by
// rename, or a link on the way to it switched (as Kubernetes does with ConfigMaps). Bursts are joined, and what happens
// to other files of their directories, such as the records that are written there, is nothing. A file that is opened by
// another path has changed, too, when only what that leads to has.
class PolicyWatcher {
 public:
  // Gives back which files are watched from then on.
  using Changed = std::function<std::vector<std::string>()>;
  static Result<std::unique_ptr<PolicyWatcher>> watch(std::vector<std::string> files, OpenedAs opened_as,
                                                      Changed changed);
  ~PolicyWatcher();

 private:
  PolicyWatcher(std::vector<std::string> files, OpenedAs opened_as, UniqueFd inotify, UniqueFd stop, Changed changed);
  void run();
  std::string version() const;
  std::vector<std::string> files_;
  OpenedAs opened_as_;
  std::string version_;  // of the files when they were last looked at
  UniqueFd inotify_, stop_;
  Changed changed_;
  std::thread thread_;
};

}  // namespace sallyport::guard
