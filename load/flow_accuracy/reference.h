#pragma once
// What is known of a function's benign executions, apart from any graph: which lines of code they run, how often, and
// in which order. Whether an execution is an attack that can be told from all of them is decided by this.

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "load/flow_accuracy/models.h"

namespace sallyport::flow_accuracy {

// Without failures that were sent again and without redirects: executions that differ in these only are one.
Execution without_noise(const Execution& execution);

class Reference {
 public:
  void add(const Execution& benign);

  // In what the execution differs from every benign one: "operation", a line that none has; "count", a line more or
  // less often than in any; "order", one line before another that never came before it. Empty: in nothing.
  std::string difference(const Execution& execution) const;

  bool has_constant(const std::string& line, std::size_t segment) const;

 private:
  struct Counts {
    std::size_t least = 0, most = 0;
  };

  std::size_t executions_ = 0;
  std::map<std::string, Counts> counts_;
  std::set<std::pair<std::string, std::string>> before_;
  std::map<std::pair<std::string, std::size_t>, std::set<std::string>> segments_;  // of the paths of a line
};

std::vector<std::string> segments_of(const std::string& path);

}  // namespace sallyport::flow_accuracy
