#pragma once
// Whole files, with errors for people.

#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport {

// At most `bytes_max`; "-" is standard input. Errors name the path, what the system said, and what to do.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max);

// Replaces the file: written beside it, then renamed, so that no reader sees half of it.
Result<void> write_file(const std::string& path, std::string_view text, unsigned mode = 0644);

}  // namespace sallyport
