#include "proxy/guard/record.h"

#include <ctime>

#include "proxy/guard/json.h"

namespace sallyport::guard {
namespace {

constexpr char kHex[] = "0123456789abcdef";

void append_field(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += ",\"";
  out += name;
  out += "\":";
  append_json_string(out, value);
}

void append_number(std::string& out, std::string_view name, std::uint64_t value) {
  out += ",\"";
  out += name;
  out += "\":";
  out += std::to_string(value);
}

// Milliseconds with three decimals, without the locale.
void append_milliseconds(std::string& out, std::string_view name, std::chrono::microseconds value) {
  append_number(out, name, static_cast<std::uint64_t>(value.count() / 1000));
  std::string fraction = std::to_string(value.count() % 1000);
  out += '.';
  out.append(3 - fraction.size(), '0');
  out += fraction;
}

std::string time_text(std::chrono::system_clock::time_point time) {
  auto since_epoch = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  std::time_t whole_seconds = static_cast<std::time_t>(since_epoch / 1000);
  std::tm parts{};
  gmtime_r(&whole_seconds, &parts);
  char text[40];
  std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.", &parts);
  std::string result(text, size);
  std::string fraction = std::to_string(since_epoch % 1000);
  result.append(3 - fraction.size(), '0');
  return result + fraction + "Z";
}

}  // namespace

std::string_view to_string(RecordKind kind) {
  switch (kind) {
    case RecordKind::exchange:
      return "exchange";
    case RecordKind::connection:
      return "connection";
    case RecordKind::dns:
      return "dns";
  }
  return "exchange";
}

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::allow:
      return "allow";
    case Outcome::deny:
      return "deny";
    case Outcome::would_deny:
      return "would-deny";
    case Outcome::error:
      return "error";
  }
  return "error";
}

std::string id_text(std::uint64_t id) {
  std::string text(16, '0');
  for (std::size_t i = 16; i-- > 0; id >>= 4) text[i] = kHex[id & 15];
  return text;
}

std::string to_json(const Record& record, const std::string& function) {
  std::string out;
  out.reserve(384);
  out += "{\"time\":\"";
  out += time_text(record.time);
  out += "\",\"id\":\"";
  out += id_text(record.id);
  out += '"';
  append_field(out, "kind", to_string(record.kind));
  append_field(out, "function", function);
  append_field(out, "mode", document::to_string(record.mode));
  append_field(out, "decision", to_string(record.outcome));
  append_field(out, "reason", to_string(record.reason));
  if (record.scheme) append_field(out, "scheme", *record.scheme == request::Scheme::https ? "https" : "http");
  append_field(out, "host", record.host);
  if (record.port != 0) append_number(out, "port", record.port);
  append_field(out, "method", record.method);
  append_field(out, "path", record.path);
  append_field(out, "endpoint", record.endpoint);
  if (record.rule >= 0) append_number(out, "rule", static_cast<std::uint64_t>(record.rule));
  append_field(out, "credential", record.credential);
  if (record.status != 0) append_number(out, "status", static_cast<std::uint64_t>(record.status));
  if (record.kind != RecordKind::dns) {
    append_number(out, "bytes_up", record.bytes_up);
    append_number(out, "bytes_down", record.bytes_down);
    append_milliseconds(out, "duration_ms", record.duration);
  }
  if (record.first_byte) append_milliseconds(out, "first_byte_ms", *record.first_byte);
  append_field(out, "upstream", record.upstream);
  if (!record.upstream.empty()) out += record.reused ? ",\"reused\":true" : ",\"reused\":false";
  append_field(out, "protocol", record.protocol);
  append_field(out, "text", record.text);
  out += '}';
  return out;
}

}  // namespace sallyport::guard
