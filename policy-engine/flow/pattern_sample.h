#pragma once
// Requests that a pattern stands for, to tell whether two patterns share any.

#include <string>

#include "policy-engine/flow/operation.h"
#include "policy-engine/flow/pattern.h"

namespace sallyport::flow {

// One of two requests that a pattern stands for, which are as far apart as its placeholders are wide.
class Sample {
 public:
  Sample(const Pattern& pattern, bool second);
  // Views of this and of the pattern.
  Operation operation() const { return {pattern_.method, host_, path_, query_, pattern_.action}; }

 private:
  const Pattern& pattern_;
  std::string host_, path_, query_;
};

// Whether a placeholder stands in one of the last two labels of the host: then anybody can have such a host.
bool is_anybodys(const Pattern& pattern);

}  // namespace sallyport::flow
