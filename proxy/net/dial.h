#pragma once
// From a destination to a connected socket: resolution, the check of every address, and the race between them.

#include <memory>

#include "proxy/net/upstream.h"

namespace sallyport::net {

// Resolves the request's host (or takes its literal), drops the addresses that its endpoint does not allow, and
// connects to the others with staggered starts, the first to connect winning (RFC 8305 section 5). A refused address is
// never dialled; when none is left the reason is address_not_allowed. The address that was checked is the one that is
// dialled.
//
// `own_listeners`: of the guard, which are never dialled either; then the reason is loop.
//
// Where the policy has an upstream proxy for it, the proxy's address is dialled instead, whatever it is, and the proxy
// is asked to connect to the name. Then nobody here knows where the name leads; only a literal address is still
// checked.
Task<UpstreamResult> dial(Loop& loop, Resolver& resolver, const UpstreamRequest& request,
                          std::span<const LocalAddr> own_listeners, Deadline deadline);

// The upstream proxy that the policy has for this request, or null.
const document::UpstreamProxy* proxy_of(const UpstreamRequest& request);

}  // namespace sallyport::net
