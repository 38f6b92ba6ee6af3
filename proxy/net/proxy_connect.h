#pragma once
// A tunnel through a proxy of the policy: CONNECT (RFC 9110 section 9.3.6), and nothing else of HTTP.

#include <expected>
#include <string>

#include "policy-engine/document/snapshot.h"
#include "proxy/net/stream.h"
#include "proxy/net/upstream_tls.h"

namespace sallyport::net {

// On a stream that was just connected to the proxy. `authority` is "host:port", IPv6 in brackets. Not one byte behind
// the proxy's answer is read: the server may have spoken already. Fails with upstream_proxy, or credential_unavailable;
// the stream is useless then.
Task<std::expected<void, UpstreamFailure>> connect_through(Stream& stream, const document::UpstreamProxy& proxy,
                                                           std::string authority, Deadline deadline);

// The name that this process has in the Via of what it asks a proxy for (RFC 9110 section 7.6.3). A request that comes
// in with it has been asked for by this process: it goes round in a circle. Names this process, guards nothing.
const std::string& via_pseudonym();

}  // namespace sallyport::net
