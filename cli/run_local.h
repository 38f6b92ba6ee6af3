#pragma once
// `sallyport run --data DIR`: the command's guard is a member of an application whose controller is in this process.

#include <memory>
#include <string>

#include "cli/local_controller.h"

namespace sallyport::cli {

struct LocalRun {
  std::string folder;
  std::string application;  // empty: kLocalApplication
  std::string function;     // empty: the policy's
  std::string policy_file;  // empty: the policy that is kept there
};

struct LocalMember {
  std::unique_ptr<LocalController> controller;
  guard::MemberOf of;
  guard::Membership* membership = nullptr;  // the controller's
};

// Puts the policy in force that is named, and registers the guard. What is wrong with a policy, and what the controller
// has to say later, goes to `say`, from any thread. ErrorKind::invalid: the folder or the policy can't be used.
Result<LocalMember> begin_local(const LocalRun& run, const guard::PolicyContext& context,
                                const LocalController::Say& say);

}  // namespace sallyport::cli
