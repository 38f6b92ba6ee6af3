#pragma once
// The hosts that a CA may issue certificates for, as name constraints say it (RFC 5280 section 4.2.1.10).

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sallyport::ca {

// Canonical names, each with all that is below it, and IP addresses; sorted. Empty: none. Nothing at all: any host.
using PermittedHosts = std::optional<std::vector<std::string>>;

bool permits(const PermittedHosts& permitted, std::string_view host);
// Whether everything that `wanted` permits is permitted.
bool covers(const PermittedHosts& permitted, const PermittedHosts& wanted);

}  // namespace sallyport::ca
