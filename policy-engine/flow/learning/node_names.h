#pragma once
// Names for nodes, which a person reads in reviews and denials: what is asked for, in a few words.

#include <set>
#include <string>
#include <vector>

#include "policy-engine/flow/learning/sequences.h"
#include "policy-engine/flow/pattern.h"

namespace sallyport::flow::learning {

// "get-orders", "put-item": the action, or the method and the last segment that is constant, or the host.
std::string name_of(const Pattern& pattern);
// Of a step: of its requests.
std::string name_of(const Body& body, const std::vector<Pattern>& patterns);

// Gives out each name once: "get-orders", "get-orders-2".
class UniqueNames {
 public:
  std::string take(const std::string& name);

 private:
  std::set<std::string, std::less<>> taken_ = {"exit"};
};

}  // namespace sallyport::flow::learning
