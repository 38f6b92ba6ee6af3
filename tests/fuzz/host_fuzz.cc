// Hosts: what is accepted has one spelling, of the allowed alphabet only, and is an address exactly when it looks like
// one.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "policy-engine/request/host.h"
#include "tests/fuzz/require.h"

namespace sallyport::request {
namespace {

using fuzz::require;

void check_host(const Host& host) {
  const Result<Host> again = parse_host(host.name, false);
  require(again && *again == host, "canonical means canonical");
  require(host.address == IpAddress::parse(host.name), "an address is an address to everybody");
  require(!host.name.empty() && host.name.size() <= 253, "a name fits into DNS");
  if (host.address) {
    require(host.address->to_string() == host.name, "an address has its canonical text");
    return;
  }
  require(host.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_.") == std::string_view::npos,
          "a name has no other bytes");
  require(host.name.front() != '.' && host.name.back() != '.' && host.name.find("..") == std::string_view::npos,
          "no label is empty");
}

void check_text(std::string_view text) {
  for (const bool bracketed : {false, true}) {
    if (const Result<Host> host = parse_host(text, bracketed)) check_host(*host);
  }
  const Result<Authority> authority = parse_authority(text);
  if (!authority) return;
  check_host(authority->host);
  require(text.find('@') == std::string_view::npos, "there is no user information");
  require(!authority->port || *authority->port != 0, "port 0 is no port");
}

}  // namespace
}  // namespace sallyport::request

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sallyport::request::check_text({reinterpret_cast<const char*>(data), size});
  return 0;
}
