#pragma once
// Bytes as hexadecimal digits, which are written in lower case and read in either.

#include <span>
#include <string>

namespace sallyport {

// Writes two digits for each byte, and returns what is behind them.
char* put_hex(char* at, std::span<const unsigned char> bytes);
std::string to_hex(std::span<const unsigned char> bytes);

// -1: it is no hexadecimal digit.
constexpr int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace sallyport
