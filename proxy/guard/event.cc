#include "proxy/guard/event.h"

#include <chrono>

#include "policy-engine/document/diagnostics.h"

namespace sallyport::guard {
namespace {

using document::printable;

void set(google::protobuf::Timestamp& out, std::chrono::system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  out.set_seconds(whole.time_since_epoch().count());
  out.set_nanos(static_cast<std::int32_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time - whole).count()));
}

link_api::Event event_at(std::chrono::system_clock::time_point time) {
  link_api::Event event;
  set(*event.mutable_time(), time);
  return event;
}

link_api::ExchangeKind kind_of(RecordKind kind) {
  switch (kind) {
    case RecordKind::exchange:
      return link_api::EXCHANGE_KIND_OUTBOUND;
    case RecordKind::inbound:
      return link_api::EXCHANGE_KIND_INBOUND;
    case RecordKind::connection:
      return link_api::EXCHANGE_KIND_CONNECTION;
    case RecordKind::dns:
      return link_api::EXCHANGE_KIND_DNS;
    case RecordKind::execution:
      break;
  }
  return link_api::EXCHANGE_KIND_UNSPECIFIED;
}

link_api::Decision decision_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::allow:
      return link_api::DECISION_ALLOW;
    case Outcome::deny:
      return link_api::DECISION_DENY;
    case Outcome::would_deny:
      return link_api::DECISION_WOULD_DENY;
    case Outcome::error:
      return link_api::DECISION_ERROR;
  }
  return link_api::DECISION_UNSPECIFIED;
}

policy::v1alpha1::Mode mode_of(document::Mode mode) {
  switch (mode) {
    case document::Mode::learn:
      return policy::v1alpha1::MODE_LEARN;
    case document::Mode::audit:
      return policy::v1alpha1::MODE_AUDIT;
    case document::Mode::enforce:
      return policy::v1alpha1::MODE_ENFORCE;
  }
  return policy::v1alpha1::MODE_UNSPECIFIED;
}

flow::v1alpha1::ExecutionEnd end_of(std::string_view end) {
  if (end == "complete") return flow::v1alpha1::EXECUTION_END_COMPLETE;
  if (end == "timeout") return flow::v1alpha1::EXECUTION_END_TIMEOUT;
  return flow::v1alpha1::EXECUTION_END_CUT;
}

// Of what was refused before it had an operation, and of connections without HTTP: what is known of where it led.
flow::v1alpha1::Operation destination_of(const Record& record) {
  flow::v1alpha1::Operation out;
  const bool plain = record.scheme == request::Scheme::http;
  const std::uint16_t usual = plain ? 80 : 443;
  std::string host = (plain ? "http://" : "") + record.host;
  if (record.port != 0 && record.port != usual) host += ":" + std::to_string(record.port);
  out.set_method(record.method);
  out.set_host(record.host.empty() ? "" : host);
  out.set_path(record.path);
  out.set_action(record.action);
  return out;
}

void make_readable(flow::v1alpha1::Operation& operation) {
  for (std::string* text : {operation.mutable_method(), operation.mutable_host(), operation.mutable_path(),
                            operation.mutable_query(), operation.mutable_action()}) {
    *text = printable(*text);
  }
}

void set_operation(flow::v1alpha1::Operation& out, const Record& record) {
  out = record.operation ? *record.operation : destination_of(record);
  make_readable(out);
}

void set_trace(flow::v1alpha1::Trace& out, const flow::v1alpha1::Trace& trace) {
  out = trace;
  if (out.has_inbound()) make_readable(*out.mutable_inbound());
  for (flow::v1alpha1::Flow& flow : *out.mutable_flows()) {
    make_readable(*flow.mutable_operation());
    if (flow.has_redirect()) make_readable(*flow.mutable_redirect());
  }
}

void set_ended(link_api::ExecutionEnded& out, const Record& record) {
  if (record.execution) out.set_execution(bytes_of(*record.execution));
  if (record.request) out.set_request_id(bytes_of(*record.request));
  out.set_end(end_of(record.end));
  out.set_flows(record.flows);
  out.set_duration_us(static_cast<std::uint64_t>(record.duration.count()));
  if (record.reason == Reason::flow_incomplete) out.set_incomplete(printable(record.text));
  if (record.trace) set_trace(*out.mutable_trace(), *record.trace);
}

void set_exchange(link_api::Exchange& out, const Record& record) {
  out.set_kind(kind_of(record.kind));
  out.set_decision(decision_of(record.outcome));
  out.set_reason(std::string(to_string(record.reason)));
  out.set_id(record.id);
  if (record.execution) out.set_execution(bytes_of(*record.execution));
  if (record.request) out.set_request_id(bytes_of(*record.request));
  set_operation(*out.mutable_operation(), record);
  out.set_endpoint(record.endpoint);
  out.set_credential(record.credential);
  out.set_node(printable(record.node));
  out.set_attribution(std::string(record.attribution));
  out.set_to_function(record.to_function);
  out.set_status(static_cast<std::uint32_t>(record.status));
  out.set_bytes_up(record.bytes_up);
  out.set_bytes_down(record.bytes_down);
  out.set_duration_us(static_cast<std::uint64_t>(record.duration.count()));
  out.set_upstream(record.upstream);
  out.set_text(printable(record.text));
  out.set_mode(mode_of(record.mode));
}

}  // namespace

std::string bytes_of(const ExecutionId& id) { return {reinterpret_cast<const char*>(id.data()), id.size()}; }

link_api::Sender sender_of(const tag::Tag& tag) {
  link_api::Sender sender;
  sender.set_function(tag.function);
  sender.set_guard_id(bytes_of(tag.guard));
  sender.set_request_id(bytes_of(tag.request));
  return sender;
}

link_api::Event event_now() { return event_at(std::chrono::system_clock::now()); }

link_api::Event event_of(const Record& record) {
  link_api::Event event = event_at(record.time);
  if (record.kind == RecordKind::execution) {
    set_ended(*event.mutable_execution_ended(), record);
  } else {
    set_exchange(*event.mutable_exchange(), record);
  }
  return event;
}

link_api::Event flow_began_of(const Record& record) {
  link_api::Event event = event_now();
  link_api::FlowBegan& out = *event.mutable_flow_began();
  if (record.execution) out.set_execution(bytes_of(*record.execution));
  if (record.request) out.set_request_id(bytes_of(*record.request));
  set_operation(*out.mutable_operation(), record);
  out.set_to_function(record.to_function);
  out.set_id(record.id);
  return event;
}

}  // namespace sallyport::guard
