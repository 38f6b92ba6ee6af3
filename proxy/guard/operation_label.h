#pragma once
// What flow graphs and traces call an exchange: api/flow.proto's Operation, from what the chain has settled.

#include <optional>
#include <string>
#include <string_view>

#include "policy-engine/api/flow.pb.h"
#include "policy-engine/flow/operation.h"
#include "proxy/guard/chain.h"

namespace sallyport::guard {

// The query as the endpoint's rule for it says.
std::string query_label(std::string_view query, document::QueryRule rule);

// The texts of an operation, kept as long as its views are needed.
class OperationLabel {
 public:
  // Of a request that the chain has decided.
  OperationLabel(const Route& route, std::string_view method);
  flow::Operation view() const { return {method_, host_, path_, query_, action_}; }

 private:
  std::string method_, host_, path_, query_, action_;
};

// Where a redirect leads a client that follows it (RFC 9110 section 15.4), from the answer to a request of that route.
// Nothing: no redirect, not exactly one Location, or a target that has no canonical form.
std::optional<flow::v1alpha1::Operation> redirect_of(const Route& route, std::string_view method,
                                                     const request::ResponseHead& response);

}  // namespace sallyport::guard
