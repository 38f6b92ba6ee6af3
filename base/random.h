#pragma once
// Randomness from the kernel: no state in this process that a fork or a copied machine could repeat.

#include <span>

namespace sallyport {

// False if the machine has none to give.
[[nodiscard]] bool random_bytes(std::span<unsigned char> bytes);

}  // namespace sallyport
