#pragma once
// One connection of the function, from accept to close: the table of contents of the guard's path.

#include "proxy/guard/worker.h"

namespace sallyport::guard {

// Original destination → sniff → decide → TLS → requests, each exchange in serve_exchange(). Ends when the connection
// does.
net::Task<void> serve_connection(Worker& worker, UniqueFd fd);

// One connection to the explicit proxy. After a CONNECT it goes the same way from sniffing on, for that host only; else
// each request says its destination in its target.
net::Task<void> serve_proxied(Worker& worker, UniqueFd fd);

// One connection of somebody who wants to reach the function: HTTP/1, or HTTP/2 by prior knowledge, without TLS.
net::Task<void> serve_inbound(Worker& worker, const InboundPort& port, UniqueFd fd);

}  // namespace sallyport::guard
