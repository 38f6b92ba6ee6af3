#pragma once
// From a destination to a connected socket: resolution, the check of every address, and the race between them.

#include <memory>

#include "proxy/net/upstream.h"

namespace sallyport::net {

// Resolves the request's host (or takes its literal), drops the addresses that its endpoint does not allow, and
// connects to the others with staggered starts, the first to connect winning (RFC 8305 section 5). A refused address is
// never dialled; when none is left the reason is address_not_allowed. The address that was checked is the one that is
// dialled.
Task<UpstreamResult> dial(Loop& loop, Resolver& resolver, const UpstreamRequest& request, Deadline deadline);

}  // namespace sallyport::net
