#include "base/hex.h"

#include <array>
#include <cstddef>
#include <cstring>

namespace sallyport {

namespace {

// The two digits of each byte: an identifier is written in each record.
constexpr auto kPairs = [] {
  constexpr char kDigits[] = "0123456789abcdef";
  std::array<std::array<char, 2>, 256> out{};
  for (std::size_t byte = 0; byte < out.size(); ++byte) out[byte] = {kDigits[byte >> 4], kDigits[byte & 15]};
  return out;
}();

}  // namespace

char* put_hex(char* at, std::span<const unsigned char> bytes) {
  for (const unsigned char byte : bytes) {
    std::memcpy(at, kPairs[byte].data(), 2);
    at += 2;
  }
  return at;
}

std::string to_hex(std::span<const unsigned char> bytes) {
  std::string out(2 * bytes.size(), '0');
  put_hex(out.data(), bytes);
  return out;
}

}  // namespace sallyport
