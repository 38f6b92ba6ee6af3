#pragma once
// Why a server's certificate was not good enough: the reason for records, and a sentence for people.

#include <string_view>

#include "proxy/net/server_rules.h"
#include "proxy/net/upstream_tls.h"

namespace sallyport::net {

// `roots` says where the trusted roots came from.
UpstreamFailure explain_certificate(const ChainVerdict& verdict, std::string_view roots, const TlsTarget& target);

}  // namespace sallyport::net
