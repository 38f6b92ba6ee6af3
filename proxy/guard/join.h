#pragma once
// What `sallyport run` and `sallyport-proxy` have in common where a controller gives the policy: their flags, and the
// link and membership that come of them.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy-engine/credentials/secret.h"
#include "proxy/guard/membership.h"
#include "proxy/link/remote_link.h"

namespace sallyport::guard {

// In the guard's own environment; never in the command's.
inline constexpr const char* kJoinTokenVariable = "SALLYPORT_JOIN_TOKEN";

struct JoinFlags {
  std::string controller, controller_ca, application, function, instance, join_token_file, service_account_token_file;
  // Whether a controller was asked for.
  bool given() const { return !controller.empty(); }
};

// What is wrong with them, before anything is made; nothing: they can be used. `others` are the flags that a controller
// excludes, and that are given: "--policy".
std::optional<std::string> objection_to(const JoinFlags& flags, const std::vector<std::string>& others);

// The same for --application, --function and --instance, where they are given.
std::optional<std::string> objection_to_names(const JoinFlags& flags);

class Joined {
 public:
  // Connects in the background. With `lib`, which outlives this, the guard's certificate comes from the controller;
  // null: it has a CA of its own. ErrorKind::invalid: the flags can't be used, or the token can't be read now. The
  // token of a file is read anew for each connection, as it may be replaced meanwhile.
  static Result<std::unique_ptr<Joined>> begin(const JoinFlags& flags, const PolicyContext& context,
                                               OSSL_LIB_CTX* lib = nullptr);

  Membership& membership() { return membership_; }

 private:
  Joined(Membership::Options options, std::optional<MemberCertificate> certificate)
      : membership_(std::move(options), std::move(certificate)) {}
  Membership membership_;  // outlives the link, whose handlers it has
  std::unique_ptr<link::RemoteLink> link_;
};

}  // namespace sallyport::guard
