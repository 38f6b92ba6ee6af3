#include "policy-engine/flow/learning/trace_check.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "policy-engine/flow/image_digest.h"

namespace sallyport::flow::learning {

namespace {

using google::protobuf::Duration;
using v1alpha1::Flow;
using v1alpha1::Operation;

constexpr std::size_t kNameBytesMax = 253;
constexpr std::size_t kTargetBytesMax = 65'536;
constexpr std::int64_t kDurationSecondsMax = 315'576'000'000;  // of protobuf
constexpr std::int32_t kNanosMax = 999'999'999;

std::unexpected<Error> invalid(std::string text) {
  return fail(ErrorSource::policy, ErrorKind::invalid, std::move(text));
}

constexpr bool is_graphic(char c) { return c > 0x20 && c < 0x7f; }
constexpr bool is_control(char c) { return (c >= 0 && c < 0x20) || c == 0x7f; }

// To the end also where an earlier byte is wrong: nearly all traces are right, and there is no branch for each byte.
template <auto kRight>
bool all_bytes(std::string_view text) {
  static constexpr auto kTable = [] {
    std::array<bool, 256> out{};
    for (std::size_t c = 0; c < out.size(); ++c) out[c] = kRight(static_cast<char>(c));
    return out;
  }();
  bool out = true;
  for (const char c : text) out &= kTable[static_cast<unsigned char>(c)];
  return out;
}

bool is_method(std::string_view text) {
  return !text.empty() && text.size() <= limits::kMethodBytesMax &&
         all_bytes<[](char c) { return is_graphic(c) && !(c >= 'a' && c <= 'z'); }>(text);
}

// "api.example.com", "api.example.com:8443", "http://api.example.com", "[2001:db8::1]:8443".
bool is_host(std::string_view text) {
  constexpr std::string_view kPlain = "http://";
  if (text.starts_with(kPlain)) text.remove_prefix(kPlain.size());
  return !text.empty() && text.size() <= kNameBytesMax + 6 && all_bytes<[](char c) {
    return is_graphic(c) && !(c >= 'A' && c <= 'Z') && c != '/' && c != '?' && c != '{' && c != '}' && c != '*';
  }>(text);
}

// "" or what is wrong.
std::string mistake_of(const Operation& operation) {
  if (!is_method(operation.method())) return "the method must be upper-case letters";
  if (!is_host(operation.host())) return "the host must be a lower-case name or address, with a port at most";
  if (!operation.path().starts_with('/')) return "the path must begin with \"/\"";
  if (operation.path().size() + operation.query().size() > kTargetBytesMax) return "path and query are too long";
  if (!all_bytes<is_graphic>(operation.path()) || operation.path().find('?') != std::string::npos) {
    return "the path must be canonical: printable, and without the query";
  }
  if (!all_bytes<is_graphic>(operation.query())) return "the query must be canonical";
  if (operation.action().size() > limits::kActionBytesMax ||
      !all_bytes<[](char c) { return !is_control(c); }>(operation.action())) {
    return "the action is too long, or has control characters";
  }
  return "";
}

bool is_duration(const Duration& duration) {
  if (duration.seconds() < -kDurationSecondsMax || duration.seconds() > kDurationSecondsMax) return false;
  if (duration.nanos() < -kNanosMax || duration.nanos() > kNanosMax) return false;
  return duration.seconds() == 0 || duration.nanos() == 0 || (duration.seconds() < 0) == (duration.nanos() < 0);
}

// As a policy and a graph name it.
bool is_function(std::string_view text) {
  const auto is_end = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= kNameBytesMax && is_end(text.front()) && is_end(text.back()) &&
         std::ranges::all_of(text, [&](char c) { return is_end(c) || c == '.' || c == '-'; });
}

std::string mistake_of(const Flow& flow) {
  if (!flow.has_operation()) return "there is no operation";
  if (auto mistake = mistake_of(flow.operation()); !mistake.empty()) return mistake;
  if (flow.has_redirect()) {
    if (auto mistake = mistake_of(flow.redirect()); !mistake.empty()) return "in the redirect, " + mistake;
  }
  if (!is_duration(flow.began()) || !is_duration(flow.ended())) return "a time is out of range";
  if (flow.status() > 999) return "the status is none";
  return "";
}

void set_nanoseconds(Duration& duration, std::int64_t value) {
  duration.set_seconds(value / 1'000'000'000);
  duration.set_nanos(static_cast<std::int32_t>(value % 1'000'000'000));
}

}  // namespace

Result<void> check_trace(const v1alpha1::Trace& trace) {
  if (!is_function(trace.function())) {
    return invalid("the function is none: it is up to 253 of a-z, 0-9, '.' and '-', a letter or digit at both ends");
  }
  if (!trace.image_digest().empty() && !is_image_digest(trace.image_digest())) {
    return invalid("the image digest is none: it is sha256: and 64 hexadecimal digits in lower case");
  }
  if (!is_duration(trace.duration())) return invalid("the duration is out of range");
  if (trace.has_inbound()) {
    if (auto mistake = mistake_of(trace.inbound()); !mistake.empty())
      return invalid("in the inbound request, " + mistake);
  }
  for (int i = 0; i < trace.flows_size(); ++i) {
    if (auto mistake = mistake_of(trace.flows(i)); !mistake.empty()) {
      return invalid("flow " + std::to_string(i + 1) + ": " + mistake);
    }
  }
  return {};
}

std::int64_t nanoseconds(const Duration& duration) {
  constexpr std::int64_t kSecondsMax = std::numeric_limits<std::int64_t>::max() / 1'000'000'000 - 1;
  return std::clamp(duration.seconds(), -kSecondsMax, kSecondsMax) * 1'000'000'000 + duration.nanos();
}

bool repair_clock(v1alpha1::Trace& trace) {
  bool changed = false;
  for (Flow& flow : *trace.mutable_flows()) {
    const std::int64_t began = std::max<std::int64_t>(nanoseconds(flow.began()), 0);
    const std::int64_t ended = std::max(nanoseconds(flow.ended()), began);
    changed |= began != nanoseconds(flow.began()) || ended != nanoseconds(flow.ended());
    set_nanoseconds(*flow.mutable_began(), began);
    set_nanoseconds(*flow.mutable_ended(), ended);
  }
  const auto& flows = trace.flows();
  const auto began = [&](int i) { return nanoseconds(flows[i].began()); };
  std::vector<int> order(static_cast<std::size_t>(flows.size()));
  std::iota(order.begin(), order.end(), 0);
  if (std::ranges::is_sorted(order, {}, began)) return changed;
  std::ranges::sort(order, {}, [&](int i) { return std::pair(began(i), i); });
  google::protobuf::RepeatedPtrField<Flow> sorted;
  for (const int i : order) sorted.Add()->Swap(trace.mutable_flows(i));
  trace.mutable_flows()->Swap(&sorted);
  return true;
}

}  // namespace sallyport::flow::learning
