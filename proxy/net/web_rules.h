#pragma once
// What public CAs promise besides RFC 5280, in the CA/Browser Forum's Baseline Requirements ("BR" in what is said to
// people), so far as it shows in the certificates of servers. A certificate that breaks it is not what that CA issues.

#include <openssl/types.h>

#include <optional>
#include <string>

#include "proxy/net/certificate_rules.h"

namespace sallyport::net {

// For chains that end in a root of the web: like why_unacceptable().
std::optional<std::string> why_not_of_the_web(X509* certificate, ChainPlace place);

}  // namespace sallyport::net
