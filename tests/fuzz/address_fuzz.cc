// Addresses: the C library's parser agrees about every input, and what is printed is read back. Prefixes likewise.

#include <arpa/inet.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "policy-engine/request/address.h"
#include "tests/fuzz/require.h"

namespace sallyport::request {
namespace {

using fuzz::require;

std::optional<IpAddress> by_libc(std::string_view text) {
  const std::string terminated(text);
  if (terminated.find('\0') != std::string::npos) return std::nullopt;
  std::array<std::uint8_t, 4> v4{};
  if (inet_pton(AF_INET, terminated.c_str(), v4.data()) == 1) return IpAddress::from_v4(v4);
  std::array<std::uint8_t, 16> v6{};
  if (inet_pton(AF_INET6, terminated.c_str(), v6.data()) == 1) return IpAddress::from_v6(v6);
  return std::nullopt;
}

void check_address(const IpAddress& address) {
  require(IpAddress::parse(address.to_string()) == address, "what is printed is read back");
  const std::optional<IpAddress> v4 = address.embedded_v4();
  if (v4 && !special_range(*v4).empty()) require(!special_range(address).empty(), "an embedded address is looked at");
}

void check_prefix(std::string_view text) {
  const Result<Cidr> cidr = Cidr::parse(text);
  if (!cidr) return;
  const Result<Cidr> again = Cidr::parse(cidr->to_string());
  require(again && *again == *cidr, "a prefix that is printed is read back");
  const std::optional<IpAddress> network = IpAddress::parse(text.substr(0, text.find('/')));
  require(network && cidr->contains(*network), "a prefix contains its network");
}

}  // namespace
}  // namespace sallyport::request

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::request;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::optional<IpAddress> address = IpAddress::parse(text);
  require(address == by_libc(text), "the C library agrees");
  if (address) check_address(*address);
  if (size == 16) {
    std::array<std::uint8_t, 16> bytes{};
    text.copy(reinterpret_cast<char*>(bytes.data()), bytes.size());
    check_address(IpAddress::from_v6(bytes));
  }
  check_prefix(text);
  return 0;
}
