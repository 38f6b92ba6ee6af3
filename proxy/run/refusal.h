#pragma once
// What to tell a person whose kernel does not let them make namespaces.

#include <string>

namespace sallyport::run {

// Looks at the settings that are known to forbid it and names those that do; general advice when none is found.
std::string how_to_allow_namespaces();

}  // namespace sallyport::run
