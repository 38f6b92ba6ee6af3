#pragma once
// One exchange from its head to its record.

#include "proxy/guard/chain.h"
#include "proxy/guard/worker.h"

namespace sallyport::guard {

// Decides the request that `slot.server` has read, relays it or answers the denial, and submits exactly one record.
// After it the caller asks slot.server.can_continue().
net::Task<void> serve_exchange(Worker& worker, const ConnectionFacts& facts, ExchangeSlot& slot);

// Answers a request that could not be read (400, 408, 431, 501), and submits its record.
net::Task<void> serve_malformed(Worker& worker, const ConnectionFacts& facts, ExchangeSlot& slot,
                                const http1::RequestFailure& failure);

}  // namespace sallyport::guard
