#pragma once
// Decided ↔ what a store keeps of it.

#include <string>
#include <string_view>

#include "base/error.h"
#include "controller/state/types.h"

namespace sallyport::controller {

std::string to_bytes(const Decided& decided);

// ErrorKind::malformed: it is none. A state that is built up again without it would allow more than it may.
Result<Decided> read_decided(std::string_view bytes);

}  // namespace sallyport::controller
