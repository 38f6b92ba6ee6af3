#pragma once
// One exchange from its head to its record.

#include "proxy/guard/chain.h"
#include "proxy/guard/worker.h"

namespace sallyport::guard {

// Decides the request that `exchange` has read, relays it or answers the denial, and submits exactly one record. What
// else it needs is in `slot`. What is allowed is served in the place of `connection`, and told 503 where that has and
// gets none; null: the exchange has a place of its own.
net::Task<void> serve_exchange(Worker& worker, const ConnectionFacts& facts, http::Exchange& exchange,
                               ExchangeSlot& slot, ConnectionLease* connection);

// Answers a request that could not be read (400, 408, 431, 501), and submits its record.
net::Task<void> serve_malformed(Worker& worker, const ConnectionFacts& facts, http::Exchange& exchange,
                                ExchangeSlot& slot, const http::RequestFailure& failure);

}  // namespace sallyport::guard
