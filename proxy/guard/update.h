#pragma once
// An Update of the controller → what the guard puts in force, all of it or nothing.

#include <memory>
#include <string>

#include "controller/api/link.pb.h"
#include "proxy/guard/policy_source.h"
#include "proxy/guard/terms.h"

namespace sallyport::guard {

// As whom the guard has registered.
struct MemberOf {
  std::string application;
  std::string function;
};

struct UpdateLoad {
  PolicyFile policy;                   // without a snapshot where the update can't be used
  std::shared_ptr<const Terms> terms;  // null with it
  std::string refusal;                 // why it can't, for a person; limits::kRefusalBytesMax at most
};

// The secrets and keys in `update` are wiped. Refused: what a policy, a graph or terms are refused for, a policy of
// another function, a flow rule without a graph. `previous` and `previous_terms` are what is in force, or null.
UpdateLoad read_update(link_api::Update&& update, const MemberOf& member, const PolicyContext& context,
                       const document::Snapshot* previous, const Terms* previous_terms, const HaltOf& halt_of);

}  // namespace sallyport::guard
