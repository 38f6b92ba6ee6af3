#pragma once
// A text as a scalar of YAML.

#include <string>
#include <string_view>

namespace sallyport::flow {

// Without quotes where no reader of YAML could take it for something else; in a list fewer bytes are free.
std::string scalar(std::string_view text, bool in_list);

}  // namespace sallyport::flow
