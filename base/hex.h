#pragma once
// Bytes as lower-case hexadecimal digits.

#include <span>
#include <string>

namespace sallyport {

// Writes two digits for each byte, and returns what is behind them.
char* put_hex(char* at, std::span<const unsigned char> bytes);
std::string to_hex(std::span<const unsigned char> bytes);

}  // namespace sallyport
