#pragma once
// Traces in the form in which the application graph is learned from them: what each function has begun and sent, and
// when.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy-engine/api/flow.pb.h"
#include "policy-engine/flow/learning/causes.h"
#include "policy-engine/flow/learning/executions.h"

namespace sallyport::flow::learning {

// The method, host and path of a request, by which a message and what was sent are known as one.
using Address = OperationId;
inline constexpr Address kNoAddress = UINT32_MAX;

struct Begun {
  Span span;
  Address message = kNoAddress;  // kNoAddress: no request of HTTP
};

struct Sent {
  Span span;
  OperationId operation = 0;
  Address address = 0;
  bool taken = false;  // by its service: what is refused, or fails, leads to nothing
};

// One function's. What is wrong with an execution as an example for others does not matter here: that it began, and
// what was sent, is true in any case.
struct History {
  Executions executions;  // those that patterns are learned from
  std::vector<Begun> begun;
  std::vector<Sent> sent;
};

class Histories {
 public:
  // ErrorKind::invalid: a trace without a time, or that Executions refuses. ErrorKind::limit.
  Result<void> add(v1alpha1::Trace&& trace);
  // In the order of time; what a function did before its first message is left out: it is no execution to the
  // application. Once, behind the last trace.
  void finish();

  const std::map<std::string, History>& functions() const { return functions_; }
  const OperationTable& operations() const { return operations_; }

 private:
  Result<Address> address_of(const v1alpha1::Operation& operation);

  std::map<std::string, History> functions_;
  OperationTable operations_;
  std::size_t flows_ = 0;
};

}  // namespace sallyport::flow::learning
