#pragma once
// The request side of the chain: what may be sent, to whom, with which credential. No sockets. The stages run in a
// fixed order, and the first denial ends it: destination → canonical target → API action → endpoint rule → credentials
// → hygiene.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "policy-engine/credentials/binding.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/host.h"
#include "policy-engine/request/target.h"
#include "proxy/guard/record.h"

namespace sallyport::guard {

struct InboundPort;

// What the connection says of its destination before any request.
struct ConnectionFacts {
  request::Scheme scheme = request::Scheme::https;
  // From SNI, else from the name behind the synthetic address, else the address that was dialled. With https the only
  // host that requests may name; with http what a request without Host (HTTP/1.0) means.
  request::Host host;
  std::uint16_t port = 0;
  // With http too, requests may name no other host: the client has said it already, to the explicit proxy.
  bool one_host = false;
  // Set where the connection leads to the function, and does not come from it.
  const InboundPort* inbound = nullptr;
};

// Where an allowed request goes. Filled by settle() and decide(), kept for the life of the exchange.
struct Route {
  std::shared_ptr<const document::Snapshot> policy;  // keeps endpoint and binding alive
  const document::Endpoint* endpoint = nullptr;      // null in learn and audit when none matches
  request::Scheme scheme = request::Scheme::https;
  std::string host;
  std::optional<request::IpAddress> literal;
  std::uint16_t port = 0;
  std::string authority;   // what is sent as Host: the port is left out when it is the scheme's default
  request::Target target;  // what is sent
  const document::Endpoint* reading = nullptr;  // says how target and action are read; null: nobody does
  std::string action;                           // of the API; empty: none
  int rule = -1;
  const credentials::Binding* binding = nullptr;  // injected
  document::Destination destination() const { return {scheme, host, port}; }
};

struct Verdict {
  Outcome outcome = Outcome::deny;  // allow, would_deny or deny
  Reason reason = Reason::none;
  std::string text;
};

// The first stages: one destination, and a canonical target. What would have to be guessed at is denied in every mode:
// a target or host without canonical form, hosts that contradict each other. Nothing: decide() is next.
std::optional<Verdict> settle(const ConnectionFacts& facts, std::shared_ptr<const document::Snapshot> policy,
                              const request::RequestHead& head, Route& route);

// The same for a message to the function, which may name any host: whoever sends it has reached the function under
// that. Encoded slashes may stand in its path, as what they mean is the function's business; they are not decoded.
std::optional<Verdict> settle_inbound(const ConnectionFacts& facts, std::shared_ptr<const document::Snapshot> policy,
                                      const request::RequestHead& head, Route& route);

// Whether the action of a settled request stands in its body, so that all of it must be here before decide(). Not for
// one that would be denied whatever its action.
bool needs_body(const Route& route, const request::RequestHead& head);

// The other stages. Edits `head` (credential, stripped fields) when the verdict lets the request through. An action
// that can be read in more than one way is denied in every mode, too. `websocket`: the request asks for one, which its
// endpoint may forbid. `body`: all of it, where needs_body() asked.
Verdict decide(request::RequestHead& head, Route& route, bool websocket, std::string_view body);

// The limits that a request counts for, which decide() has let through: takes one of each, or says which one has none
// and how long that is so, and takes none. In learn and audit the request is sent all the same, and counts where it
// can.
struct Excess {
  Verdict verdict;
  std::chrono::milliseconds retry_after{0};
};
std::optional<Excess> exceeds_limits(const Route& route, std::string_view method, std::chrono::nanoseconds now);

// Takes out what only a guard may send. decide() has done it for what it lets through.
void clean_request(request::RequestHead& head);
// The same of a message to the function. Overrides of its method stay: no rule of this guard is about that.
void clean_inbound(request::RequestHead& head);

// Response side: takes out what must not reach the function (Alt-Svc, which would lead around the guard).
void clean_response(request::ResponseHead& head);

}  // namespace sallyport::guard
