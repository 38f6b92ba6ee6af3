#include "load/flow_accuracy/recorded.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/limits.h"
#include "load/flow_accuracy/reference.h"
#include "policy-engine/flow/trace_file.h"

namespace sallyport::flow_accuracy {

namespace {

using flow::v1alpha1::Flow;
using flow::v1alpha1::Trace;

constexpr std::size_t kNamesMax = 8;  // different segments in one place: more are data

// Long numbers are data.
std::string host_of(const std::string& host) {
  constexpr std::size_t kLong = 6;
  std::string out;
  for (std::size_t at = 0; at < host.size();) {
    const std::size_t end = std::min(host.find_first_not_of("0123456789", at), host.size());
    if (end - at >= kLong) {
      out += '#';
      at = end;
    } else {
      out += host[at++];
    }
  }
  return out;
}

class Lines {
 public:
  explicit Lines(const std::vector<Round>& rounds) {
    for (const Round& round : rounds) {
      for (const Flow& flow : round[0].trace.flows()) study(flow);
    }
  }

  std::string of(const Flow& flow) const {
    std::string out = call_of(flow);
    const auto segments = segments_of(flow.operation().path());
    for (std::size_t depth = 0; depth < segments.size(); ++depth) {
      const bool number = segments[depth].find_first_not_of("0123456789") == std::string::npos;
      const bool last = depth + 1 == segments.size();
      const bool data = values_.at({call_of(flow), depth}).size() > kNamesMax || (number && last);
      out += "/" + (data ? "#" : segments[depth]);
    }
    return out;
  }

 private:
  static std::string call_of(const Flow& flow) {
    const auto& operation = flow.operation();
    return operation.method() + " " + host_of(operation.host()) + " " + operation.action();
  }

  void study(const Flow& flow) {
    const auto segments = segments_of(flow.operation().path());
    for (std::size_t depth = 0; depth < segments.size(); ++depth) {
      auto& values = values_[{call_of(flow), depth}];
      if (values.size() <= kNamesMax) values.insert(segments[depth]);
    }
  }

  std::map<std::pair<std::string, std::size_t>, std::set<std::string>> values_;
};

auto began(const Execution* execution) {
  return std::pair(execution->trace.began().seconds(), execution->trace.began().nanos());
}

}  // namespace

std::vector<Round> rounds_from(const std::map<std::string, std::vector<Round>>& by_function, const std::string& entry) {
  std::vector<const Execution*> all;
  for (const auto& [function, rounds] : by_function) {
    for (const Round& round : rounds) all.push_back(&round[0]);
  }
  std::ranges::sort(all, {}, began);
  std::vector<Round> out;
  for (const Execution* execution : all) {
    if (out.empty() || execution->trace.function() == entry) out.emplace_back();
    out.back().push_back(*execution);
  }
  return out;
}

Result<std::map<std::string, std::vector<Round>>> read_rounds(const std::vector<std::string>& files) {
  std::map<std::string, std::vector<Round>> out;
  for (const std::string& file : files) {
    bool cut = false;
    const auto take = [&](Trace&& trace) -> Result<void> {
      // As the learner: without an end, or mixed with others, an execution shows nothing.
      if (trace.end() != flow::v1alpha1::EXECUTION_END_COMPLETE || !trace.attributed()) return {};
      std::vector<Round>& rounds = out[trace.function()];
      rounds.push_back({{std::move(trace), {}}});
      return {};
    };
    if (auto read = flow::read_trace_file(file, take, cut); !read) return std::unexpected(read.error());
  }
  for (auto& [function, rounds] : out) {
    const Lines lines(rounds);
    for (Round& round : rounds) {
      for (const Flow& flow : round[0].trace.flows()) round[0].lines.push_back(lines.of(flow));
    }
  }
  return out;
}

}  // namespace sallyport::flow_accuracy
