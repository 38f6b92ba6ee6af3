#include "policy-engine/flow/trace_json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <system_error>

namespace sallyport::flow {

namespace {

using google::protobuf::Duration;
using google::protobuf::Timestamp;
using v1alpha1::Flow;
using v1alpha1::Operation;
using v1alpha1::Trace;

// Keys without their first quote, in the order of the schema.
constexpr std::array<std::string_view, 9> kTraceKeys = {
    "function\":", "imageDigest\":", "execution\":", "began\":",     "duration\":",
    "inbound\":",  "flows\":",       "end\":",       "attributed\":"};
constexpr std::array<std::string_view, 8> kFlowKeys = {
    "operation\":", "began\":", "ended\":", "status\":", "end\":", "redirect\":", "bytesUp\":", "bytesDown\":"};
constexpr std::array<std::string_view, 5> kOperationKeys = {"method\":", "host\":", "path\":", "query\":", "action\":"};

constexpr std::uint64_t kDurationSecondsMax = 315'576'000'000;  // of protobuf
constexpr std::size_t kNanosDigits = 9;

// Bytes that stand in a JSON string for themselves. No others than ASCII, so that nothing needs to be valid UTF-8.
constexpr auto kPlain = [] {
  std::array<bool, 256> out{};
  for (std::size_t c = 0x20; c < 0x7f; ++c) out[c] = c != '"' && c != '\\';
  return out;
}();

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Reader {
 public:
  explicit Reader(std::string_view line) : at_(line.data()), end_(line.data() + line.size()) {}

  bool read(Trace& trace) {
    return object(kTraceKeys, [&](std::size_t key) { return trace_field(key, trace); }) && at_ == end_;
  }

 private:
  bool take(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  bool take(std::string_view text) {
    if (!std::string_view(at_, end_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  // Each key once at most and in their order: there is no question what a second one would mean.
  template <class Field>
  bool object(std::span<const std::string_view> keys, Field field) {
    if (!take('{')) return false;
    if (take('}')) return true;
    for (std::size_t key = 0; take('"'); ++key) {
      while (key < keys.size() && !take(keys[key])) ++key;
      if (key == keys.size() || !field(key)) return false;
      if (!take(',')) return take('}');
    }
    return false;
  }

  // Valid until the line ends.
  bool text(std::string_view& out) {
    if (!take('"')) return false;
    const char* const close = std::find_if(at_, end_, [](char c) { return !kPlain[static_cast<unsigned char>(c)]; });
    if (close == end_ || *close != '"') return false;
    out = {at_, close};
    at_ = close + 1;
    return true;
  }

  bool string(std::string& out) {
    std::string_view found;
    if (!text(found)) return false;
    out.assign(found);
    return true;
  }

  // Without zeros in front.
  template <class Number>
  bool number(Number& out) {
    if (end_ - at_ > 1 && *at_ == '0' && is_digit(at_[1])) return false;
    const auto [behind, error] = std::from_chars(at_, end_, out);
    if (error != std::errc()) return false;
    at_ = behind;
    return true;
  }

  bool quoted(std::uint64_t& out) { return take('"') && number(out) && take('"'); }

  // ".066071671", or nothing.
  bool fraction(std::int32_t& nanos) {
    nanos = 0;
    if (!take('.')) return true;
    std::size_t digits = 0;
    for (; at_ != end_ && is_digit(*at_) && digits < kNanosDigits; ++digits) nanos = nanos * 10 + (*at_++ - '0');
    if (digits == 0) return false;
    for (; digits < kNanosDigits; ++digits) nanos *= 10;
    return true;
  }

  // "0.066071671s"
  bool duration(Duration& out) {
    std::uint64_t seconds = 0;
    std::int32_t nanos = 0;
    if (!take('"') || !number(seconds) || seconds >= kDurationSecondsMax) return false;
    if (!fraction(nanos) || !take("s\"")) return false;
    out.set_seconds(static_cast<std::int64_t>(seconds));
    out.set_nanos(nanos);
    return true;
  }

  // `digits` of them, whatever they begin with.
  bool padded(std::size_t digits, unsigned& out) {
    if (static_cast<std::size_t>(end_ - at_) < digits || !std::all_of(at_, at_ + digits, is_digit)) return false;
    std::from_chars(at_, at_ + digits, out);
    at_ += digits;
    return true;
  }

  // "2026-11-22T14:32:57.379564718Z"
  bool timestamp(Timestamp& out) {
    unsigned year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
    std::int32_t nanos = 0;
    if (!take('"') || !padded(4, year) || !take('-') || !padded(2, month) || !take('-') || !padded(2, day))
      return false;
    if (!take('T') || !padded(2, hour) || !take(':') || !padded(2, minute) || !take(':') || !padded(2, second)) {
      return false;
    }
    if (!fraction(nanos) || !take("Z\"")) return false;
    const std::chrono::year_month_day date(std::chrono::year(static_cast<int>(year)), std::chrono::month(month),
                                           std::chrono::day(day));
    if (year == 0 || !date.ok() || hour > 23 || minute > 59 || second > 59) return false;
    const auto days = std::chrono::sys_days(date).time_since_epoch().count();
    out.set_seconds(((std::int64_t{days} * 24 + hour) * 60 + minute) * 60 + second);
    out.set_nanos(nanos);
    return true;
  }

  bool operation(Operation& out) {
    return object(kOperationKeys, [&](std::size_t key) {
      switch (key) {
        case 0:
          return string(*out.mutable_method());
        case 1:
          return string(*out.mutable_host());
        case 2:
          return string(*out.mutable_path());
        case 3:
          return string(*out.mutable_query());
        default:
          return string(*out.mutable_action());
      }
    });
  }

  bool flow_end(Flow& out) {
    std::string_view name;
    v1alpha1::FlowEnd value = v1alpha1::FLOW_END_UNSPECIFIED;
    if (!text(name)) return false;
    if (name == "FLOW_END_ANSWERED") {
      value = v1alpha1::FLOW_END_ANSWERED;
    } else if (name == "FLOW_END_FAILED") {
      value = v1alpha1::FLOW_END_FAILED;
    } else if (name == "FLOW_END_DENIED") {
      value = v1alpha1::FLOW_END_DENIED;
    } else {
      return false;
    }
    out.set_end(value);
    return true;
  }

  bool execution_end(Trace& out) {
    std::string_view name;
    v1alpha1::ExecutionEnd value = v1alpha1::EXECUTION_END_UNSPECIFIED;
    if (!text(name)) return false;
    if (name == "EXECUTION_END_COMPLETE") {
      value = v1alpha1::EXECUTION_END_COMPLETE;
    } else if (name == "EXECUTION_END_TIMEOUT") {
      value = v1alpha1::EXECUTION_END_TIMEOUT;
    } else if (name == "EXECUTION_END_CUT") {
      value = v1alpha1::EXECUTION_END_CUT;
    } else {
      return false;
    }
    out.set_end(value);
    return true;
  }

  bool flow_field(std::size_t key, Flow& out) {
    std::uint32_t status = 0;
    std::uint64_t bytes = 0;
    switch (key) {
      case 0:
        return operation(*out.mutable_operation());
      case 1:
        return duration(*out.mutable_began());
      case 2:
        return duration(*out.mutable_ended());
      case 3:
        if (!number(status)) return false;
        out.set_status(status);
        return true;
      case 4:
        return flow_end(out);
      case 5:
        return operation(*out.mutable_redirect());
      case 6:
        if (!quoted(bytes)) return false;
        out.set_bytes_up(bytes);
        return true;
      default:
        if (!quoted(bytes)) return false;
        out.set_bytes_down(bytes);
        return true;
    }
  }

  bool flows(Trace& out) {
    if (!take('[')) return false;
    if (take(']')) return true;
    do {
      Flow& flow = *out.add_flows();
      if (!object(kFlowKeys, [&](std::size_t key) { return flow_field(key, flow); })) return false;
    } while (take(','));
    return take(']');
  }

  bool trace_field(std::size_t key, Trace& out) {
    switch (key) {
      case 0:
        return string(*out.mutable_function());
      case 1:
        return string(*out.mutable_image_digest());
      case 2:
        return string(*out.mutable_execution());
      case 3:
        return timestamp(*out.mutable_began());
      case 4:
        return duration(*out.mutable_duration());
      case 5:
        return operation(*out.mutable_inbound());
      case 6:
        return flows(out);
      case 7:
        return execution_end(out);
      default:
        out.set_attributed(take("true"));
        return out.attributed() || take("false");
    }
  }

  const char* at_;
  const char* const end_;
};

}  // namespace

bool read_plain_json(std::string_view line, Trace& trace) { return Reader(line).read(trace); }

}  // namespace sallyport::flow
