#include "proxy/guard/inbound.h"

#include <array>
#include <charconv>

#include "base/hex.h"
#include "base/random.h"
#include "policy-engine/request/host.h"
#include "proxy/guard/execution_table.h"
#include "proxy/guard/operation_label.h"

namespace sallyport::guard {
namespace {

constexpr std::string_view kTraceParent = "traceparent", kTraceState = "tracestate";

std::optional<std::uint16_t> port_of(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || port == 0 || text.front() == '0') return std::nullopt;
  return port;
}

std::unexpected<Error> no_publication(std::string_view text, std::string_view form) {
  return fail(ErrorSource::policy, ErrorKind::invalid, "'" + std::string(text) + "' is not " + std::string(form));
}

bool is_address_and_port(std::string_view text) {
  const auto authority = request::parse_authority(text);
  return authority && authority->host.address && authority->port;
}

}  // namespace

InboundPort::InboundPort(std::uint16_t function_port) : port(function_port) {
  endpoint.name = "inbound";
  endpoint.host_pattern = kFunctionHost;
  endpoint.scheme = request::Scheme::http;
  endpoint.ports = {function_port};
}

std::span<const request::IpAddress> function_addresses() {
  static const std::array<request::IpAddress, 2> kLoopback{
      request::IpAddress::from_v4({127, 0, 0, 1}),
      request::IpAddress::from_v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})};
  return kLoopback;
}

Result<Publication> parse_publication(std::string_view text) {
  constexpr std::string_view kForm =
      "[ADDRESS:]HOSTPORT:PORT, as in 8080:80 or 127.0.0.1:8080:80 (an IPv6 address in brackets)";
  const std::size_t last = text.rfind(':');
  if (last == std::string_view::npos) return no_publication(text, kForm);
  const auto port = port_of(text.substr(last + 1));
  const std::string_view where = text.substr(0, last);
  const bool with_address = where.find(':') != std::string_view::npos;
  if (!port || !(with_address ? is_address_and_port(where) : port_of(where).has_value())) {
    return no_publication(text, kForm);
  }
  if (with_address) return Publication{{std::string(where)}, *port};
  return Publication{{"0.0.0.0:" + std::string(where), "[::]:" + std::string(where)}, *port};
}

Result<Publication> parse_inbound(std::string_view text) {
  constexpr std::string_view kForm = "ADDRESS:PORT=PORT, as in 0.0.0.0:18080=8080";
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return no_publication(text, kForm);
  const std::string_view where = text.substr(0, equals);
  const auto port = port_of(text.substr(equals + 1));
  if (!port || !is_address_and_port(where)) return no_publication(text, kForm);
  if (request::parse_authority(where)->port == port) {
    return no_publication(text, "of two ports: the function can't listen where the guard does");
  }
  return Publication{{std::string(where)}, *port};
}

std::optional<std::string> objection_to(const InboundPort& port, int connection) {
  if (port.from_this_machine_too) return std::nullopt;
  const auto local = net::local_address(connection);
  const auto peer = net::peer_address(connection);
  if (!local || !peer) return "it is gone already";
  // A peer's address that is this machine's: somebody beside the guard, and that is the function. Or the guard itself,
  // with a request of the function.
  if (net::is_own_listener({peer->address, local->port}, *local)) {
    return "a connection from this very machine: the function begins no executions of itself";
  }
  const auto meant = net::original_destination(connection);
  const bool redirected = meant && meant->port != local->port;
  if (redirected && meant->port != port.port) {
    return "it was made to port " + std::to_string(meant->port) + ", and this listener is for port " +
           std::to_string(port.port);
  }
  return std::nullopt;
}

std::optional<std::string> settle_trace(request::HeaderList& headers, bool sampled) {
  if (std::optional<std::string> given = trace_id_of(headers)) return given;
  // What cannot be read, or is there twice, says nothing (section 3.2.2.3 of the recommendation: the trace is begun
  // anew), and neither does a state that belongs to it.
  headers.erase(kTraceParent);
  headers.erase(kTraceState);
  std::array<unsigned char, 16> trace{};
  std::array<unsigned char, 8> parent{};
  if (!random_bytes(trace) || !random_bytes(parent)) return std::nullopt;
  trace.back() |= 1;  // all zeros mean no trace, and no parent
  parent.back() |= 1;
  std::string id = to_hex(trace);
  headers.add_owned(kTraceParent, "00-" + id + "-" + to_hex(parent) + (sampled ? "-01" : "-00"));
  return id;
}

std::optional<flow::v1alpha1::Operation> inbound_operation(const Route& route, std::string_view method) {
  if (!route.target.text.starts_with('/')) return std::nullopt;
  const OperationLabel label(route, method);
  const flow::Operation view = label.view();
  flow::v1alpha1::Operation operation;
  operation.set_method(std::string(view.method));
  operation.set_host(std::string(view.host));
  operation.set_path(std::string(view.path));
  return operation;
}

}  // namespace sallyport::guard
