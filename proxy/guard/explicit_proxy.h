#pragma once
// What a client says to the explicit proxy, for places where nothing can be redirected: which destination it means. The
// policy decides of it as if the connection had been redirected; nothing here connects to anything.

#include <cstdint>
#include <expected>

#include "policy-engine/request/head.h"
#include "policy-engine/request/host.h"
#include "proxy/guard/chain.h"
#include "proxy/http1/server_exchange.h"
#include "proxy/net/original_destination.h"

namespace sallyport::guard {

struct ProxyDestination {
  request::Host host;
  std::uint16_t port = 0;
};

// Of a head from parse_connect(). The port must be there, and Host may say nothing else than the target. `local` is the
// accepted socket's address: the guard's own listener as destination is refused, and so is what the guard itself asked
// its upstream proxy for.
std::expected<ProxyDestination, http1::RequestFailure> destination_of_connect(const request::RequestHead& head,
                                                                              const net::LocalAddr& local);

// Of any other request: its target must be in absolute-form with the scheme http, as https needs a CONNECT. Each
// request of a connection names its own destination.
std::expected<ConnectionFacts, http1::RequestFailure> facts_of_absolute_form(const request::RequestHead& head,
                                                                             const net::LocalAddr& local);

}  // namespace sallyport::guard
