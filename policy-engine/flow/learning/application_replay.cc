#include "policy-engine/flow/learning/application_replay.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <tuple>

namespace sallyport::flow::learning {

namespace {

struct Happening {
  std::int64_t at = 0;
  const Sent* sent = nullptr;  // null: an execution begins
  std::uint32_t function = 0;
};

struct Open {
  std::int64_t began = 0;
  std::uint32_t used = 0;
};

class ApplicationReplay {
 public:
  ApplicationReplay(const ApplicationGraph& graph, const Histories& histories)
      : graph_(graph), histories_(histories), open_(graph.edges().size()) {}

  Result<void> run(const std::map<std::string, std::vector<bool>>& explicit_ones) {
    std::vector<Happening> all;
    for (const auto& [name, history] : histories_.functions()) {
      const std::uint32_t function = graph_.function_of(name);
      for (const Sent& sent : history.sent) {
        if (sent.taken) all.push_back({sent.span.began, &sent, function});
      }
      const std::vector<bool>& tagged = explicit_ones.at(name);
      for (std::size_t i = 0; i < history.begun.size(); ++i) {
        if (!tagged[i]) all.push_back({history.begun[i].span.began, nullptr, function});
      }
    }
    // What is sent at the same time has not led to the execution.
    std::ranges::sort(all, {},
                      [](const Happening& each) { return std::tuple(each.at, each.sent != nullptr, each.function); });
    for (const Happening& each : all) {
      if (each.sent != nullptr) {
        begin_flow(each);
      } else if (!begin_execution(each)) {
        return fail(ErrorSource::policy, ErrorKind::invalid,
                    "what was learned would refuse an execution of '" + graph_.name_of(each.function) +
                        "': requests of another kind match its patterns, too; write its part by hand");
      }
    }
    for (std::size_t edge = 0; edge < open_.size(); ++edge) {
      for (const Open& flow : open_[edge]) {
        if (!expire(edge, flow)) return missing(edge);
      }
    }
    if (missing_) return missing(*missing_);
    return {};
  }

 private:
  void begin_flow(const Happening& each) {
    graph_.find_edges(each.function, histories_.operations()[each.sent->operation], edges_);
    for (const std::uint32_t edge : edges_) open_[edge].push_back({each.at, 0});
  }

  bool begin_execution(const Happening& each) {
    std::deque<Open>* oldest = nullptr;
    std::size_t of = 0;
    for (const std::uint32_t edge : graph_.edges_through_services(each.function)) {
      const auto within = std::chrono::nanoseconds(graph_.edges()[edge].within).count();
      std::deque<Open>& flows = open_[edge];
      while (!flows.empty() && flows.front().began + within <= each.at) {
        if (!expire(edge, flows.front())) missing_ = edge;
        flows.pop_front();
      }
      if (flows.empty() || (oldest != nullptr && oldest->front().began <= flows.front().began)) continue;
      oldest = &flows;
      of = edge;
    }
    if (oldest == nullptr) return graph_.is_entry(each.function);
    if (++oldest->front().used == graph_.edges()[of].leads_to.most) oldest->pop_front();
    return true;
  }

  // Whether a flow that leads to nothing more has led to enough.
  bool expire(std::size_t edge, const Open& flow) const {
    return flow.used >= graph_.edges()[edge].leads_to.least || graph_.is_entry(graph_.edges()[edge].to);
  }

  std::unexpected<Error> missing(std::size_t edge) const {
    return fail(ErrorSource::policy, ErrorKind::invalid,
                "what was learned would miss an execution of '" + graph_.name_of(graph_.edges()[edge].to) +
                    "': requests of another kind match its patterns, too; write its part by hand");
  }

  const ApplicationGraph& graph_;
  const Histories& histories_;
  std::vector<std::deque<Open>> open_;  // by edge: the oldest first
  std::vector<std::uint32_t> edges_;
  std::optional<std::size_t> missing_;
};

}  // namespace

Result<void> check_application(const ApplicationGraph& graph, const Histories& histories,
                               const std::map<std::string, std::vector<bool>>& explicit_ones) {
  return ApplicationReplay(graph, histories).run(explicit_ones);
}

}  // namespace sallyport::flow::learning
