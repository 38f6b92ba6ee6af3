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

// Of a request that the chain has decided. The operation's texts are this one's or the route's: both must outlive it.
class OperationLabel {
 public:
  OperationLabel(const Route& route, std::string_view method);
  OperationLabel(const OperationLabel&) = delete;
  OperationLabel& operator=(const OperationLabel&) = delete;
  const flow::Operation& view() const { return operation_; }

 private:
  std::string host_, query_;  // where they are not as they stand in the route
  flow::Operation operation_;
};

// Where a redirect leads a client that follows it (RFC 9110 section 15.4), from the answer to a request of that route.
// Nothing: no redirect, not exactly one Location, or a target that has no canonical form.
std::optional<flow::v1alpha1::Operation> redirect_of(const Route& route, std::string_view method,
                                                     const request::ResponseHead& response);

}  // namespace sallyport::guard
