#pragma once
// Methods of requests (RFC 9110 section 9.1), as far as every reader of them has to agree.

#include <cstddef>

namespace sallyport::request {

// The longest that is registered has 16. Longer ones are not supported: no trace could have them.
inline constexpr std::size_t kMethodBytesMax = 32;

}  // namespace sallyport::request
