#pragma once
// Traces that real guards wrote, as rounds.

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "load/flow_accuracy/models.h"

namespace sallyport::flow_accuracy {

// By function; a round is one execution. Lines of code cannot be told from outside: flows are of one where they have
// the same method, host, action and path but for long numbers in a host, and numbers at the end of a path or what
// differs widely in it.
Result<std::map<std::string, std::vector<Round>>> read_rounds(const std::vector<std::string>& files);

// Of an application that was used once at a time: what came from one execution of its entry function to the next.
std::vector<Round> rounds_from(const std::map<std::string, std::vector<Round>>& by_function, const std::string& entry);

}  // namespace sallyport::flow_accuracy
