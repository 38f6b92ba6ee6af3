// Any bytes as a file of traces, and traces of any orders, overlaps and answers: what was read is written and read
// again, and what is learned or merged is a graph that has every trace, or an error that is not the learner's own.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy-engine/flow/learn.h"
#include "policy-engine/flow/trace_builder.h"
#include "policy-engine/flow/trace_file.h"
#include "tests/fuzz/require.h"

namespace {

using namespace sallyport;
using flow::v1alpha1::Trace;
using fuzz::require;

constexpr std::size_t kTracesMax = 40;

std::vector<Trace> read(std::string_view bytes) {
  std::vector<Trace> traces;
  bool cut = false;
  const auto take = [&](Trace&& trace) -> Result<void> {
    if (traces.size() < kTracesMax) traces.push_back(std::move(trace));
    return {};
  };
  const auto read = flow::read_traces(bytes, "fuzz", take, cut);
  require(read.has_value() || !read.error().text.empty(), "an error says something");
  return traces;
}

void check_written(const std::vector<Trace>& traces, flow::TraceForm form) {
  std::string bytes;
  for (const Trace& trace : traces) append_trace(bytes, trace, form, bytes.empty());
  require(read(bytes).size() == traces.size(), "what was read can be written, and read again");
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
  const std::vector<Trace> traces = read(bytes);
  check_written(traces, flow::TraceForm::json_lines);
  check_written(traces, flow::TraceForm::binary);
  check_learned(traces);
  return 0;
}
