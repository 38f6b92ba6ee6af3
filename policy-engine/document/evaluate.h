#pragma once
// What would happen to one request that a person writes down: the same canonical forms and the same decisions as on the
// guard's path, in the same order.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/reason.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/host.h"
#include "policy-engine/request/target.h"

namespace sallyport::document {

struct Evaluation {
  std::string method;
  request::Scheme scheme = request::Scheme::https;
  request::Host host;
  std::uint16_t port = 0;
  std::string action;        // of the API; empty: none
  request::Target target;    // canonical; empty if it cannot be made so
  bool tcp = false;          // the connection is, or would have to be, relayed unread: no method, no target
  RequestDecision decision;  // its reason may also be malformed_target, unsupported_method or address_not_allowed
  std::string text;          // why it is denied; empty when it is allowed

  // The canonical URL, which is what would be sent; without the port where it is the scheme's own. Empty without a
  // target.
  std::string url() const;
};

// `request` is "POST https://api.example.com/v1/charges": a method, one space, an absolute URL with http or https,
// and where the endpoint has `operations`, behind another space, the action that the request has. An error only where
// it is not of this form. "tcp://db.example.com:5432" asks for a connection that is neither TLS nor HTTP. A host or
// path that the guard would refuse as malformed is an evaluation that denies. The mode is not applied.
Result<Evaluation> evaluate(const Snapshot& snapshot, std::string_view request);

}  // namespace sallyport::document
