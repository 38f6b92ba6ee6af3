#include "proxy/guard/record.h"

#include <array>
#include <charconv>

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

void append_number(std::string& out, std::uint64_t value) {
  std::array<char, 20> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  out.append(digits.data(), end);
}

void append_number(std::string& out, std::string_view name, std::uint64_t value) {
  out += ",\"";
  out += name;
  out += "\":";
  append_number(out, value);
}

// So many digits, with zeros in front.
void append_digits(std::string& out, std::uint64_t value, std::size_t count) {
  out.append(count, '0');
  for (std::size_t i = out.size(); count-- > 0; value /= 10) out[--i] = static_cast<char>('0' + value % 10);
}

// Milliseconds with three decimals, without the locale.
void append_milliseconds(std::string& out, std::string_view name, std::chrono::microseconds value) {
  const auto count = static_cast<std::uint64_t>(value.count());
  append_number(out, name, count / 1000);
  out += '.';
  append_digits(out, count % 1000, 3);
}

void append_time(std::string& out, std::chrono::system_clock::time_point time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const auto of_day = static_cast<std::uint64_t>(std::chrono::floor<std::chrono::milliseconds>(time - day).count());
  append_digits(out, static_cast<std::uint64_t>(static_cast<int>(date.year())), 4);
  out += '-';
  append_digits(out, static_cast<unsigned>(date.month()), 2);
  out += '-';
  append_digits(out, static_cast<unsigned>(date.day()), 2);
  out += 'T';
  append_digits(out, of_day / 3'600'000, 2);
  out += ':';
  append_digits(out, of_day / 60'000 % 60, 2);
  out += ':';
  append_digits(out, of_day / 1000 % 60, 2);
  out += '.';
  append_digits(out, of_day % 1000, 3);
  out += 'Z';
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
  append_time(out, record.time);
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
