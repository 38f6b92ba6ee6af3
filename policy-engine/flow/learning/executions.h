#pragma once
// Traces in the form in which they are learned from: operations are numbers, and what only belongs to another flow, its
// retries and its redirects, is part of that flow. A tenth of the traces' size.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy-engine/api/flow.pb.h"
#include "policy-engine/flow/learning/text_numbers.h"
#include "policy-engine/flow/operation.h"

namespace sallyport::flow::learning {

using OperationId = std::uint32_t;
using ExecutionId = std::uint32_t;

// Each operation once. Views of it stay valid.
class OperationTable {
 public:
  // Past limits::kLearnOperationsMax: ErrorKind::limit.
  Result<OperationId> id_of(const v1alpha1::Operation& operation);
  std::size_t size() const { return operations_.size(); }
  const Operation& operator[](OperationId id) const { return operations_[id]; }

 private:
  std::string_view keep(std::string_view key);

  TextNumbers ids_;                                // by key
  std::vector<Operation> operations_;              // views of the keys
  std::string key_;                                // of the one that is looked for
  std::vector<std::unique_ptr<char[]>> key_room_;  // the keys, many in each
  std::size_t room_left_ = 0;                      // in the last
  char* room_ = nullptr;
};

// One flow, with what followed from its answers.
struct Exchange {
  OperationId operation = 0;
  std::uint32_t reach = 0;      // the first exchange of its execution that began after this one had ended
  std::uint32_t redirects = 0;  // into Executions::chain(); 0: none
  std::uint16_t retries = 0;
  bool failed = false;  // its last answer was one that a client may try again after
};

class Executions {
 public:
  // `trace` has passed check_trace. Those that cannot be learned from are counted in left_out(). ErrorKind::invalid:
  // another function than `function` (where that is empty: than the first one's), another image than the first one's.
  // ErrorKind::limit.
  Result<void> add(v1alpha1::Trace&& trace, const std::string& function);

  const std::string& function() const { return function_; }
  const std::string& image_digest() const { return image_digest_; }
  const OperationTable& operations() const { return operations_; }
  std::size_t size() const { return ends_.size(); }
  std::span<const Exchange> operator[](ExecutionId id) const;
  // The operations to which an answer redirected, one after the other.
  const std::vector<OperationId>& chain(std::uint32_t redirects) const { return chains_[redirects]; }
  std::size_t chains() const { return chains_.size(); }

  std::uint64_t left_out() const { return incomplete_ + unattributed_ + too_long_; }
  std::uint64_t incomplete() const { return incomplete_; }
  std::uint64_t unattributed() const { return unattributed_; }
  std::uint64_t too_long() const { return too_long_; }
  std::uint64_t other_functions() const { return other_functions_; }
  std::uint64_t repaired() const { return repaired_; }  // clocks
  std::uint64_t denied() const { return denied_; }      // flows that the guard refused, which are not learned

 private:
  Result<bool> usable(v1alpha1::Trace& trace, const std::string& function);
  Result<void> add_flows(const v1alpha1::Trace& trace);

  std::string function_;
  std::string image_digest_;
  bool any_image_ = false;
  OperationTable operations_;
  std::vector<Exchange> exchanges_;
  std::vector<std::size_t> ends_;  // of each execution in exchanges_
  std::vector<std::vector<OperationId>> chains_ = {{}};
  std::uint64_t incomplete_ = 0;
  std::uint64_t unattributed_ = 0;
  std::uint64_t too_long_ = 0;
  std::uint64_t other_functions_ = 0;
  std::uint64_t repaired_ = 0;
  std::uint64_t denied_ = 0;
};

}  // namespace sallyport::flow::learning
