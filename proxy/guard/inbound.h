#pragma once
// Messages to the function (m_in) and its answers (m_out), where the guard stands before it: each such exchange is an
// execution (docs/executions.md). They are relayed by the same code as requests of the function, with the roles turned
// round: who has connected to the guard is the client, and the function the server.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/api/flow.pb.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/address.h"
#include "policy-engine/request/head.h"
#include "proxy/guard/chain.h"
#include "proxy/net/original_destination.h"

namespace sallyport::guard {

// A port of the function that others reach through the guard only.
struct InboundPort {
  explicit InboundPort(std::uint16_t function_port);
  std::uint16_t port;                 // on the function's loopback
  document::Endpoint endpoint;        // what connecting to it goes by: it is of no policy
  bool from_this_machine_too = true;  // who connects from an address of this machine may be somebody else
};

// How the function is called where a host has a name: in records, in errors. No host can be called so.
inline constexpr std::string_view kFunctionHost = "the function";
// Where its ports are; connected to in this order.
std::span<const request::IpAddress> function_addresses();

// What --publish and --inbound say: where the guard listens, and for which port of the function.
struct Publication {
  std::vector<std::string> listen;  // "127.0.0.1:8080", "[::1]:8080"
  std::uint16_t port = 0;
};
// `[ADDRESS:]HOSTPORT:PORT`, as container engines have it: without an address, all of this machine's.
// ErrorKind::invalid.
Result<Publication> parse_publication(std::string_view text);
// `ADDRESS:PORT=PORT`. ErrorKind::invalid.
Result<Publication> parse_inbound(std::string_view text);

// Why a connection to the listener of a port is not served; nothing: it is. Where the function shares its addresses
// with the guard (a pod), it must not begin executions of itself.
std::optional<std::string> objection_to(const InboundPort& port, int connection);

// The trace-id that the function is to pass on with what it sends (W3C Trace Context). Where the message has none that
// is good, it gets one, with or without the flag that asks for sampling. Nothing when this machine has no randomness:
// the requests of the execution are then told apart by less.
std::optional<std::string> settle_trace(request::HeaderList& headers, bool sampled);

// What flow graphs call the message. Nothing for OPTIONS *: it asks the server and has no path, so that no graph can
// have it.
std::optional<flow::v1alpha1::Operation> inbound_operation(const Route& route, std::string_view method);

}  // namespace sallyport::guard
