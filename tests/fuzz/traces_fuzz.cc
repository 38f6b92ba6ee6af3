// Any bytes as a file of traces, and traces of any orders, overlaps and answers: what was read is written and read
// again, the same in pieces as at once and by our reader of JSON as by protobuf's; and what is learned or merged is a
// graph that has every trace, or an error that is not the learner's own.

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy-engine/flow/learn.h"
#include "policy-engine/flow/trace_builder.h"
#include "policy-engine/flow/trace_file.h"
#include "policy-engine/flow/trace_json.h"
#include "tests/fuzz/require.h"

namespace {

using namespace sallyport;
using flow::v1alpha1::Trace;
using fuzz::require;
using google::protobuf::util::MessageDifferencer;

constexpr std::size_t kTracesMax = 40;

struct Read {
  std::vector<Trace> traces;
  std::size_t count = 0;
  std::string error;
  bool cut = false;

  flow::TakeTrace take() {
    return [this](Trace&& trace) -> Result<void> {
      if (++count <= kTracesMax) traces.push_back(std::move(trace));
      return {};
    };
  }
  void end(const Result<void>& result) {
    if (!result) error = result.error().text;
    require(result.has_value() || !error.empty(), "an error says something");
  }
};

Read read(std::string_view bytes) {
  Read out;
  out.end(flow::read_traces(bytes, "fuzz", out.take(), out.cut));
  return out;
}

// Some bytes at a time, as from a pipe.
Read read_in_pieces(std::string_view bytes, std::size_t piece) {
  Read out;
  const auto some = [&](std::span<char> room) -> Result<std::size_t> {
    const std::string_view part = bytes.substr(0, std::min(piece, room.size()));
    std::ranges::copy(part, room.begin());
    bytes.remove_prefix(part.size());
    return part.size();
  };
  out.end(flow::read_trace_pieces(some, "fuzz", out.take(), out.cut));
  return out;
}

bool same(const Trace& a, const Trace& b) { return MessageDifferencer::Equals(a, b); }

void check_pieces(std::string_view bytes, std::size_t piece, const Read& whole) {
  const Read pieces = read_in_pieces(bytes, piece);
  require(pieces.error == whole.error && pieces.cut == whole.cut && pieces.count == whole.count,
          "cuts change nothing of how it ends");
  require(std::ranges::equal(pieces.traces, whole.traces, same), "cuts change no trace");
}

// The reader for what guards write takes nothing that protobuf refuses or reads as something else.
void check_plain_json(std::string_view bytes) {
  for (std::size_t lines = 0; !bytes.empty() && lines < kTracesMax; ++lines) {
    const std::string_view line = bytes.substr(0, bytes.find('\n'));
    bytes.remove_prefix(std::min(line.size() + 1, bytes.size()));
    Trace plain, full;
    if (!flow::read_plain_json(line, plain)) continue;
    require(google::protobuf::util::JsonStringToMessage(std::string(line), &full).ok(),
            "what is plain JSON is JSON to protobuf");
    require(same(plain, full), "what is plain JSON is the same trace to protobuf");
  }
}

void check_written(const std::vector<Trace>& traces, flow::TraceForm form) {
  std::string bytes;
  for (const Trace& trace : traces) append_trace(bytes, trace, form, bytes.empty());
  require(std::ranges::equal(read(bytes).traces, traces, same), "what was read can be written, and read again");
}

// One byte a flow: which of eight requests, how it was answered, and whether it began beside the one before.
std::vector<Trace> made_of(std::string_view bytes) {
  std::vector<Trace> traces;
  flow::TraceBuilder builder;
  bool first = true;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0xff) {
      traces.push_back(builder.done());
      builder = flow::TraceBuilder();
      first = true;
      if (traces.size() == kTracesMax) return traces;
      continue;
    }
    const char letter = static_cast<char>('A' + byte % 8);
    builder.get("a.example", std::string("/") + letter);
    switch (byte / 8 % 8) {
      case 0:
        builder.status(503);
        break;
      case 1:
        builder.failed();
        break;
      case 2:
        builder.redirects(307, "a.example", std::string("/") + static_cast<char>('A' + byte / 64));
        break;
      default:
        break;
    }
    if (byte >= 128 && !first) builder.beside();
    first = false;
  }
  traces.push_back(builder.done());
  return traces;
}

void check_learned(const std::vector<Trace>& traces) {
  flow::LearnOptions options;
  options.lcp_threshold = 20;
  const auto all = flow::learn(traces, options);
  require(all || all.error().source != ErrorSource::internal, "the graph has every trace that it was learned from");
  const std::vector<Trace> first(traces.begin(), traces.begin() + static_cast<std::ptrdiff_t>(traces.size() / 2));
  const std::vector<Trace> rest(traces.begin() + static_cast<std::ptrdiff_t>(traces.size() / 2), traces.end());
  const auto half = flow::learn(first, options);
  if (!half) return;
  const auto merged = flow::merge(half->graph, rest, options);
  require(merged || merged.error().source != ErrorSource::internal, "a merged graph has every trace that was merged");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    check_learned(made_of(bytes));
    return 0;
  }
  const Read whole = read(bytes);
  check_pieces(bytes, 1 + data[0] / 2, whole);
  check_plain_json(bytes);
  const std::vector<Trace>& traces = whole.traces;
  check_written(traces, flow::TraceForm::json_lines);
  check_written(traces, flow::TraceForm::binary);
  check_learned(traces);
  return 0;
}
