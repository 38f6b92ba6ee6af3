#include "load/flow_accuracy/reference.h"

#include <algorithm>

namespace sallyport::flow_accuracy {

namespace {

using flow::v1alpha1::Flow;

constexpr std::size_t kConstantsMax = 4;  // what has more values than these is somebody's data

std::map<std::string, std::size_t> counts_of(const Execution& execution) {
  std::map<std::string, std::size_t> out;
  for (const std::string& line : execution.lines) ++out[line];
  return out;
}

bool is_noise(const Flow& flow, const std::string& line) {
  const bool failed = flow.status() == 0 || flow.status() == 408 || flow.status() == 425 || flow.status() == 429 ||
                      flow.status() >= 500;
  return failed || line.ends_with(kRedirected);
}

}  // namespace

std::vector<std::string> segments_of(const std::string& path) {
  std::vector<std::string> out;
  for (std::size_t at = 1; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    out.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

Execution without_noise(const Execution& execution) {
  Execution out;
  out.trace = execution.trace;
  out.trace.clear_flows();
  for (std::size_t i = 0; i < execution.lines.size(); ++i) {
    const Flow& flow = execution.trace.flows(static_cast<int>(i));
    if (is_noise(flow, execution.lines[i])) continue;
    Flow& copy = *out.trace.add_flows();
    copy = flow;
    copy.set_status(200);
    copy.clear_redirect();
    out.lines.push_back(execution.lines[i]);
  }
  return out;
}

void Reference::add(const Execution& benign) {
  std::set<std::string> earlier;
  for (std::size_t i = 0; i < benign.lines.size(); ++i) {
    const std::string& line = benign.lines[i];
    for (const std::string& other : earlier) before_.emplace(other, line);
    earlier.insert(line);
    const auto segments = segments_of(benign.trace.flows(static_cast<int>(i)).operation().path());
    for (std::size_t depth = 0; depth < segments.size(); ++depth) {
      auto& values = segments_[{line, depth}];
      if (values.size() <= kConstantsMax) values.insert(segments[depth]);
    }
  }
  const auto counts = counts_of(benign);
  for (const auto& [line, count] : counts) {
    // None before had it.
    const auto [known, made] = counts_.try_emplace(line, Counts{executions_ == 0 ? count : 0, count});
    if (made) continue;
    known->second.least = std::min(known->second.least, count);
    known->second.most = std::max(known->second.most, count);
  }
  for (auto& [line, known] : counts_) {
    if (!counts.contains(line)) known.least = 0;
  }
  ++executions_;
}

std::string Reference::difference(const Execution& execution) const {
  const auto counts = counts_of(execution);
  for (const auto& [line, count] : counts) {
    if (!counts_.contains(line)) return "operation";
  }
  for (const auto& [line, known] : counts_) {
    const auto found = counts.find(line);
    const std::size_t count = found == counts.end() ? 0 : found->second;
    if (count < known.least || count > known.most) return "count";
  }
  std::set<std::string> earlier;
  for (const std::string& line : execution.lines) {
    for (const std::string& other : earlier) {
      if (!before_.contains({other, line})) return "order";
    }
    earlier.insert(line);
  }
  return "";
}

bool Reference::has_constant(const std::string& line, std::size_t segment) const {
  const auto found = segments_.find({line, segment});
  return found != segments_.end() && found->second.size() <= kConstantsMax;
}

}  // namespace sallyport::flow_accuracy
