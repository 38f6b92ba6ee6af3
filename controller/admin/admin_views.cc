#include "controller/admin/admin_views.h"

#include <google/protobuf/util/json_util.h>

#include <array>

#include "base/hex.h"

namespace sallyport::controller {

namespace {

std::string hex_of(std::string_view bytes) {
  return to_hex({reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()});
}

std::string id_of(std::uint64_t id) {
  std::array<unsigned char, sizeof id> bytes{};
  for (std::size_t i = sizeof id; i-- > 0; id >>= 8) bytes[i] = static_cast<unsigned char>(id & 0xFF);
  return to_hex(bytes);
}

std::string_view to_string(v1alpha1::Decision decision) {
  switch (decision) {
    case v1alpha1::DECISION_ALLOW:
      return "allow";
    case v1alpha1::DECISION_DENY:
      return "deny";
    case v1alpha1::DECISION_WOULD_DENY:
      return "would-deny";
    case v1alpha1::DECISION_ERROR:
      return "error";
    default:
      return "";
  }
}

std::string_view to_string(v1alpha1::ExchangeKind kind) {
  switch (kind) {
    case v1alpha1::EXCHANGE_KIND_INBOUND:
      return "inbound";
    case v1alpha1::EXCHANGE_KIND_CONNECTION:
      return "connection";
    case v1alpha1::EXCHANGE_KIND_DNS:
      return "dns";
    default:
      return "exchange";
  }
}

std::string_view to_string(flow::v1alpha1::ExecutionEnd end) {
  switch (end) {
    case flow::v1alpha1::EXECUTION_END_COMPLETE:
      return "complete";
    case flow::v1alpha1::EXECUTION_END_TIMEOUT:
      return "timeout";
    case flow::v1alpha1::EXECUTION_END_CUT:
      return "cut";
    default:
      return "";
  }
}

void set_operation(v1alpha1::EventView& out, const flow::v1alpha1::Operation& operation) {
  out.set_method(operation.method());
  out.set_host(operation.host());
  out.set_path(operation.path());
  out.set_action(operation.action());
}

void set_exchange(v1alpha1::EventView& out, const v1alpha1::Exchange& exchange) {
  out.set_kind(std::string(to_string(exchange.kind())));
  out.set_decision(std::string(to_string(exchange.decision())));
  out.set_reason(exchange.reason());
  out.set_id(id_of(exchange.id()));
  out.set_execution(hex_of(exchange.execution()));
  out.set_request(hex_of(exchange.request_id()));
  set_operation(out, exchange.operation());
  out.set_endpoint(exchange.endpoint());
  out.set_credential(exchange.credential());
  out.set_node(exchange.node());
  out.set_to_function(exchange.to_function());
  out.set_status(exchange.status());
  out.set_bytes_up(exchange.bytes_up());
  out.set_bytes_down(exchange.bytes_down());
  out.set_duration_us(exchange.duration_us());
  out.set_upstream(exchange.upstream());
  out.set_text(exchange.text());
}

}  // namespace

std::string to_json(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string out;
  // It fails for bytes that are no UTF-8 alone, which no field of these messages has.
  if (!google::protobuf::util::MessageToJsonString(message, &out, options).ok()) return "{}";
  return out;
}

void set_time(google::protobuf::Timestamp& out, Time time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  out.set_seconds(seconds.time_since_epoch().count());
  out.set_nanos(static_cast<std::int32_t>((time - seconds).count() * 1'000'000));
}

v1alpha1::GuardView view_of(const Guard& guard) {
  v1alpha1::GuardView out;
  out.set_id(to_hex(guard.row.id));
  out.set_application(guard.row.application);
  out.set_function(guard.row.function);
  out.set_instance(guard.row.instance);
  out.set_credential(guard.row.subject);
  set_time(*out.mutable_registered(), guard.row.registered);
  set_time(*out.mutable_seen(), guard.seen);
  out.set_state(guard.link != LinkId{} ? "connected" : guard.running ? "silent" : "gone");
  out.set_generation(guard.generation);
  out.set_refusal(guard.refusal);
  out.set_executions_open(static_cast<std::uint32_t>(guard.executions_open));
  return out;
}

v1alpha1::TokenView view_of(const JoinToken& token) {
  v1alpha1::TokenView out;
  out.set_id(token.id);
  out.set_application(token.application);
  out.set_function(token.function);
  set_time(*out.mutable_made(), token.made);
  if (token.ends) set_time(*out.mutable_ends(), *token.ends);
  out.set_revoked(token.revoked);
  return out;
}

v1alpha1::AlarmView view_of(const AlarmRow& alarm) {
  v1alpha1::AlarmView out;
  out.set_kind(alarm.kind);
  out.set_application(alarm.application);
  out.set_function(alarm.function);
  out.set_about(alarm.about);
  set_time(*out.mutable_first(), alarm.first);
  set_time(*out.mutable_last(), alarm.last);
  out.set_count(alarm.count);
  out.set_text(alarm.text);
  return out;
}

v1alpha1::AuditView view_of(const AuditRow& row) {
  v1alpha1::AuditView out;
  set_time(*out.mutable_time(), row.time);
  out.set_who(row.who);
  out.set_what(row.what);
  out.set_about(row.about);
  out.set_detail(row.detail);
  return out;
}

v1alpha1::DocumentView view_of(const Document& document) {
  v1alpha1::DocumentView out;
  out.set_version(static_cast<std::uint32_t>(document.version));
  set_time(*out.mutable_time(), document.time);
  out.set_author(document.author);
  out.set_removed(document.text.empty());
  return out;
}

v1alpha1::EventView view_of(const EventBatch& batch, const v1alpha1::Event& event) {
  v1alpha1::EventView out;
  *out.mutable_time() = event.time();
  out.set_function(batch.function);
  out.set_guard(to_hex(batch.guard));
  out.set_sequence(event.sequence());
  switch (event.what_case()) {
    case v1alpha1::Event::kExchange:
      set_exchange(out, event.exchange());
      break;
    case v1alpha1::Event::kExecutionBegan:
      out.set_kind("execution-began");
      out.set_execution(hex_of(event.execution_began().execution()));
      out.set_request(hex_of(event.execution_began().request_id()));
      set_operation(out, event.execution_began().inbound());
      out.set_sender(event.execution_began().sender().function());
      break;
    case v1alpha1::Event::kFlowBegan:
      out.set_kind("flow-began");
      out.set_id(id_of(event.flow_began().id()));
      out.set_execution(hex_of(event.flow_began().execution()));
      out.set_request(hex_of(event.flow_began().request_id()));
      set_operation(out, event.flow_began().operation());
      out.set_to_function(event.flow_began().to_function());
      break;
    case v1alpha1::Event::kExecutionEnded:
      out.set_kind("execution-ended");
      out.set_execution(hex_of(event.execution_ended().execution()));
      out.set_request(hex_of(event.execution_ended().request_id()));
      out.set_end(std::string(to_string(event.execution_ended().end())));
      out.set_duration_us(event.execution_ended().duration_us());
      out.set_text(event.execution_ended().incomplete());
      break;
    case v1alpha1::Event::kLost:
      out.set_kind("lost");
      out.set_text(std::to_string(event.lost().events()) + " events, " + std::to_string(event.lost().denials()) +
                   " of them denials");
      break;
    case v1alpha1::Event::WHAT_NOT_SET:
      out.set_kind("unknown");
      break;
  }
  return out;
}

v1alpha1::PutAnswer view_of(const Controller::Put& put) {
  v1alpha1::PutAnswer out;
  out.set_version(static_cast<std::uint32_t>(put.version));
  for (const document::Diagnostic& each : put.diagnostics) {
    v1alpha1::DiagnosticView& view = *out.add_diagnostics();
    view.set_line(each.line);
    view.set_column(each.column);
    view.set_message(each.message);
    view.set_hint(each.hint);
    view.set_warning(each.warning);
  }
  return out;
}

v1alpha1::FunctionView view_of(const Controller::FunctionFigures& function) {
  v1alpha1::FunctionView out;
  out.set_name(function.name);
  out.set_instances(static_cast<std::uint32_t>(function.instances));
  if (function.instances_max > 0) out.set_instances_max(function.instances_max);
  const Catalog::Versions& versions = function.versions;
  if (versions.policy > 0) out.set_policy_version(static_cast<std::uint32_t>(versions.policy));
  if (versions.graph > 0) out.set_graph_version(static_cast<std::uint32_t>(versions.graph));
  if (versions.mode) out.set_mode(std::string(document::to_string(*versions.mode)));
  return out;
}

v1alpha1::LimitView view_of(const Controller::LimitFigures& limit) {
  v1alpha1::LimitView out;
  const v1alpha1::Limit& rule = limit.limit.limit;
  out.set_name(rule.name());
  out.set_scope(rule.scope() == v1alpha1::LIMIT_SCOPE_FUNCTION ? "function" : "application");
  for (const std::string& function : limit.limit.functions) out.add_functions(function);
  for (const auto& operation : rule.operations()) out.add_requests(operation.request());
  out.set_per_second(rule.per_second());
  out.set_burst(rule.burst());
  for (const Tracker::Bucket& bucket : limit.buckets) {
    v1alpha1::LimitBucketView& view = *out.add_buckets();
    view.set_function(bucket.function);
    view.set_available(bucket.figures.available);
    view.set_leased(bucket.figures.leased);
    view.set_halted(bucket.figures.halted);
    view.set_retry_after_ms(static_cast<std::uint32_t>(bucket.figures.retry_after.count()));
  }
  return out;
}

}  // namespace sallyport::controller
