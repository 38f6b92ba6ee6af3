#pragma once
// For tests: an Update that can be put in force, for the function "checkout".

#include <string>

#include "controller/api/link.pb.h"

namespace sallyport::guard::testing {

inline policy::v1alpha1::EgressPolicy policy_named(const std::string& name) {
  policy::v1alpha1::EgressPolicy policy;
  policy.set_api_version("sallyport.dev/v1alpha1");
  policy.set_kind("EgressPolicy");
  policy.mutable_metadata()->set_name(name);
  policy.mutable_spec();
  return policy;
}

inline controller::v1alpha1::Update update_of(std::uint64_t generation) {
  controller::v1alpha1::Update update;
  update.set_generation(generation);
  *update.mutable_policy() = policy_named("checkout");
  update.set_entry_check(controller::v1alpha1::ENTRY_CHECK_NONE);
  update.set_on_controller_loss(controller::v1alpha1::ON_CONTROLLER_LOSS_DENY);
  return update;
}

}  // namespace sallyport::guard::testing
