#include "policy-engine/flow/operation_hash.h"

#include <array>
#include <cstring>
#include <string_view>

#include "base/random.h"

namespace sallyport::flow {

namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kPrime = (std::uint64_t{1} << 61) - 1;
constexpr std::size_t kWordBytes = 7;  // less than the prime, whatever they are

// a · b modulo the prime, of which b is less: 2^61 is 1 there, so that what is above 61 bits is added to what is below.
std::uint64_t product(std::uint64_t a, std::uint64_t b) {
  const Wide whole = Wide{a} * b;
  const std::uint64_t once = (static_cast<std::uint64_t>(whole) & kPrime) + static_cast<std::uint64_t>(whole >> 61);
  const std::uint64_t twice = (once & kPrime) + (once >> 61);
  return twice >= kPrime ? twice - kPrime : twice;
}

// Horner's scheme. The length comes first, so that no byte may go from one text to the next.
std::uint64_t with(std::uint64_t value, std::uint64_t point, std::string_view text) {
  const auto add = [&](std::uint64_t word) { value = product(value + word, point); };
  add(text.size());
  for (; text.size() >= kWordBytes; text.remove_prefix(kWordBytes)) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data(), kWordBytes);
    add(word);
  }
  std::uint64_t rest = 0;
  for (const char byte : text) rest = rest << 8 | static_cast<unsigned char>(byte);
  add(rest);
  return value;
}

}  // namespace

bool OperationHash::choose_point() {
  std::array<unsigned char, sizeof point_> bytes{};
  if (!random_bytes(bytes)) return false;
  std::memcpy(&point_, bytes.data(), sizeof point_);
  point_ %= kPrime;
  return true;
}

std::uint64_t OperationHash::operator()(const Operation& operation) const {
  std::uint64_t value = 1;
  for (const std::string_view text : {operation.host, operation.path, operation.query}) {
    value = with(value, point_, text);
  }
  return value;
}

}  // namespace sallyport::flow
