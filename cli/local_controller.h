#pragma once
// The controller inside this process, on a folder that nobody else uses meanwhile (--data DIR): to look at what is kept
// there and to change it, and for the one guard of `sallyport run`.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/controller_client.h"
#include "policy-engine/document/load.h"
#include "proxy/guard/membership.h"

namespace sallyport::cli {

// The application that the guard is of where nobody says another.
inline constexpr const char* kLocalApplication = "local";

class LocalController {
 public:
  // Of alarms and changes, from any thread.
  using Say = std::function<void(const std::string& text)>;

  // Makes the folder if it is missing. ErrorKind::invalid, unavailable: it is of a newer version, or in use.
  static Result<std::unique_ptr<LocalController>> open(const std::string& folder, Say say);
  LocalController(const LocalController&) = delete;
  LocalController& operator=(const LocalController&) = delete;
  ~LocalController();

  // A call of the admin API, by an editor called "local".
  Result<ControllerReply> call(const ControllerCall& call);

  // What the guard's function is given: a policy's text, and that of its flow graph, or empty. Each is a new version
  // where it differs from the newest. The application is made if there is none. With an error among the diagnostics,
  // which name the files, the policy is not in force.
  struct Documents {
    std::string policy_file, policy, graph_file, graph;
  };
  Result<std::vector<document::Diagnostic>> put(const guard::MemberOf& of, const Documents& documents);

  // Registers this process's guard, in the background. Once; the membership lives as long as this.
  Result<guard::Membership*> join(const guard::MemberOf& of, const guard::PolicyContext& context);

 private:
  struct Parts;
  explicit LocalController(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace sallyport::cli
