#pragma once
// The host of an endpoint as a policy may write it, in one spelling.

#include <optional>
#include <string>
#include <string_view>

#include "policy-engine/request/address.h"

namespace sallyport::document {

struct HostPattern {
  enum class Kind { exact, wildcard, any };
  Kind kind = Kind::exact;
  std::string text;                           // canonical: "api.example.com", "*.example.com", "192.0.2.1", "any"
  std::optional<request::IpAddress> address;  // of an IP literal
};

struct HostPatternError {
  std::string message;
  std::string hint;
};

// An exact host as request::parse_host takes it (without brackets), "*." and a name of at least two labels, or "any".
// Upper case and one trailing dot are made canonical; everything else that is not canonical is an error.
std::optional<HostPattern> parse_host_pattern(std::string_view text, HostPatternError& error);

}  // namespace sallyport::document
