#include "proxy/guard/record.h"

#include <charconv>
#include <cstring>

#include "base/hex.h"
#include "proxy/guard/json.h"

namespace sallyport::guard {
namespace {

constexpr char kHex[] = "0123456789abcdef";

// What a line takes besides the strings of its record: names of fields, numbers, enumerations.
constexpr std::size_t kFixedBytesMax = 1'024;

// Writes into memory that is known to have the room: a record is made of some eighty pieces.
class Line {
 public:
  explicit Line(char* at) : at_(at) {}

  void raw(std::string_view text) {
    std::memcpy(at_, text.data(), text.size());
    at_ += text.size();
  }
  // `name` with what is around it: ,"host":
  void text(std::string_view name, std::string_view value) {
    if (value.empty()) return;
    raw(name);
    at_ = put_json_string(at_, value);
  }
  // One of this program's own words, in which there is nothing to escape.
  void word(std::string_view name, std::string_view value) {
    if (value.empty()) return;
    raw(name);
    *at_++ = '"';
    raw(value);
    *at_++ = '"';
  }
  void number(std::string_view name, std::uint64_t value) {
    raw(name);
    at_ = std::to_chars(at_, at_ + 20, value).ptr;
  }
  // Milliseconds with three decimals, without the locale.
  void milliseconds(std::string_view name, std::chrono::microseconds value) {
    const auto count = static_cast<std::uint64_t>(value.count());
    number(name, count / 1000);
    *at_++ = '.';
    digits(count % 1000, 3);
  }
  // So many digits, with zeros in front.
  void digits(std::uint64_t value, std::size_t count) {
    at_ += count;
    for (std::size_t i = 1; i <= count; ++i, value /= 10) *(at_ - i) = static_cast<char>('0' + value % 10);
  }
  void id(std::uint64_t value) {
    for (int shift = 60; shift >= 0; shift -= 4) *at_++ = kHex[(value >> shift) & 15];
  }
  void hex(std::string_view name, const ExecutionId& id) {
    raw(name);
    *at_++ = '"';
    at_ = put_hex(at_, id);
    *at_++ = '"';
  }
  void time(std::chrono::system_clock::time_point time) {
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date(day);
    const auto of_day = static_cast<std::uint64_t>(std::chrono::floor<std::chrono::milliseconds>(time - day).count());
    digits(static_cast<std::uint64_t>(static_cast<int>(date.year())), 4);
    *at_++ = '-';
    digits(static_cast<unsigned>(date.month()), 2);
    *at_++ = '-';
    digits(static_cast<unsigned>(date.day()), 2);
    *at_++ = 'T';
    digits(of_day / 3'600'000, 2);
    *at_++ = ':';
    digits(of_day / 60'000 % 60, 2);
    *at_++ = ':';
    digits(of_day / 1000 % 60, 2);
    *at_++ = '.';
    digits(of_day % 1000, 3);
    *at_++ = 'Z';
  }
  char* end() const { return at_; }

 private:
  char* at_;
};

char* write_json(char* at, const Record& record, std::string_view function) {
  Line line(at);
  line.raw("{\"time\":\"");
  line.time(record.time);
  line.raw("\",\"id\":\"");
  line.id(record.id);
  line.raw("\"");
  line.word(",\"kind\":", to_string(record.kind));
  line.text(",\"function\":", function);
  line.word(",\"mode\":", document::to_string(record.mode));
  line.word(",\"decision\":", to_string(record.outcome));
  line.word(",\"reason\":", to_string(record.reason));
  if (record.scheme) line.word(",\"scheme\":", *record.scheme == request::Scheme::https ? "https" : "http");
  line.text(",\"host\":", record.host);
  if (record.port != 0) line.number(",\"port\":", record.port);
  line.text(",\"method\":", record.method);
  line.text(",\"path\":", record.path);
  line.text(",\"action\":", record.action);
  line.text(",\"endpoint\":", record.endpoint);
  if (record.rule >= 0) line.number(",\"rule\":", static_cast<std::uint64_t>(record.rule));
  line.text(",\"credential\":", record.credential);
  if (record.status != 0) line.number(",\"status\":", static_cast<std::uint64_t>(record.status));
  if (record.kind != RecordKind::dns && record.kind != RecordKind::execution) {
    line.number(",\"bytes_up\":", record.bytes_up);
    line.number(",\"bytes_down\":", record.bytes_down);
  }
  if (record.kind != RecordKind::dns) line.milliseconds(",\"duration_ms\":", record.duration);
  if (record.first_byte) line.milliseconds(",\"first_byte_ms\":", *record.first_byte);
  line.text(",\"upstream\":", record.upstream);
  if (!record.upstream.empty()) line.raw(record.reused ? ",\"reused\":true" : ",\"reused\":false");
  line.word(",\"protocol\":", record.protocol);
  if (record.execution) line.hex(",\"execution\":", *record.execution);
  line.word(",\"attributed\":", record.attribution);
  line.text(",\"node\":", record.node);
  line.word(",\"end\":", record.end);
  if (record.kind == RecordKind::execution) line.number(",\"flows\":", record.flows);
  line.text(",\"text\":", record.text);
  line.raw("}");
  return line.end();
}

std::size_t json_bytes_max(const Record& record, std::string_view function) {
  std::size_t strings = 0;
  for (const std::string* text : {&record.host, &record.method, &record.path, &record.action, &record.endpoint,
                                  &record.credential, &record.upstream, &record.text, &record.node}) {
    strings += json_string_bytes_max(*text);
  }
  return kFixedBytesMax + strings + json_string_bytes_max(function);
}

}  // namespace

std::string_view to_string(RecordKind kind) {
  switch (kind) {
    case RecordKind::exchange:
      return "exchange";
    case RecordKind::inbound:
      return "inbound";
    case RecordKind::connection:
      return "connection";
    case RecordKind::dns:
      return "dns";
    case RecordKind::execution:
      return "execution";
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
  Line(text.data()).id(id);
  return text;
}

void append_json(std::string& out, const Record& record, std::string_view function) {
  const std::size_t before = out.size();
  out.resize_and_overwrite(before + json_bytes_max(record, function), [&](char* bytes, std::size_t) {
    return static_cast<std::size_t>(write_json(bytes + before, record, function) - bytes);
  });
}

}  // namespace sallyport::guard
