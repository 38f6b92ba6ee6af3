#pragma once
// A hash by which a request is known again: one that is sent again after a failure must be the same in every byte. The
// function chooses what is hashed, so that it may not know how.

#include <cstdint>

#include "policy-engine/flow/operation.h"

namespace sallyport::flow {

// A polynomial over the integers modulo 2^61 - 1 whose coefficients are the bytes, seven at a time, at a random point:
// two operations of together n bytes have the same hash at n / 7 + 6 of its points at most (Carter and Wegman).
class OperationHash {
 public:
  // Once, before it is used. False where the machine has no randomness.
  [[nodiscard]] bool choose_point();

  // Of host, path and query: method and action are those of the pattern that the operation matches.
  std::uint64_t operator()(const Operation& operation) const;

 private:
  std::uint64_t point_ = 0;
};

}  // namespace sallyport::flow
