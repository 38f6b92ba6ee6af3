#include "policy-engine/flow/application_graph.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/limits.h"

namespace sallyport::flow {

namespace {

using std::chrono::milliseconds;

milliseconds time_or(bool given, const std::string& text, milliseconds otherwise) {
  return given ? parse_time_span(text).value_or(otherwise) : otherwise;
}

}  // namespace

Result<milliseconds> parse_time_span(std::string_view text) {
  const auto refuse = [] {
    return fail(ErrorSource::policy, ErrorKind::invalid,
                "write a number and ms, s, m or h, as in 90s; at most " +
                    std::to_string(limits::kApplicationTimeMax / std::chrono::hours(1)) + "h");
  };
  constexpr std::array<std::pair<std::string_view, std::int64_t>, 4> kUnits = {
      {{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}}};
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || text.front() == '0' || text.front() == '-') return refuse();
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  const auto* const found = std::ranges::find(kUnits, unit, &std::pair<std::string_view, std::int64_t>::first);
  constexpr std::int64_t kMost = milliseconds(limits::kApplicationTimeMax).count();
  if (found == kUnits.end() || count > kMost / found->second) return refuse();
  return milliseconds(count * found->second);
}

ApplicationGraph::ApplicationGraph(const v1alpha1::ApplicationGraph& document) {
  const v1alpha1::ApplicationGraphSpec& spec = document.spec();
  application_ = spec.has_application() ? spec.application() : document.metadata().name();
  functions_.resize(static_cast<std::size_t>(spec.functions_size()));
  for (int i = 0; i < spec.functions_size(); ++i) {
    const v1alpha1::ApplicationFunction& source = spec.functions(i);
    names_.emplace(source.name(), static_cast<std::uint32_t>(i));
    Function& function = functions_[static_cast<std::size_t>(i)];
    function.name = source.name();
    function.entry = source.entry();
    function.instances_max = source.instances_max();
  }
  for (int i = 0; i < spec.functions_size(); ++i) {
    for (const v1alpha1::Predecessor& source : spec.functions(i).after()) {
      add_edge(static_cast<std::uint32_t>(i), source);
    }
  }
}

void ApplicationGraph::add_edge(std::uint32_t to, const v1alpha1::Predecessor& source) {
  ApplicationEdge edge;
  edge.from = function_of(source.function());
  if (edge.from == kNone) return;  // not in a good document; what has no edge fails closed
  edge.to = to;
  edge.leads_to = source.has_leads_to() ? parse_times(source.leads_to()).value_or(Times{}) : Times{};
  edge.redeliveries = std::min(source.redeliveries(), limits::kRedeliveriesMax);
  edge.redelivery_window =
      time_or(source.has_redelivery_window(), source.redelivery_window(), limits::kRedeliveryWindow);
  edge.within = time_or(source.has_within(), source.within(), limits::kFollowWithin);
  const auto index = static_cast<std::uint32_t>(edges_.size());
  Function& from = functions_[edge.from];
  if (!source.has_through()) {
    from.direct.push_back(index);
  } else {
    Result<Pattern> pattern = parse_pattern(source.through(), source.action());
    if (!pattern) return;
    // The same pattern may lead to several functions, and is one symbol.
    const auto next = static_cast<std::uint32_t>(from.behind.size());
    std::uint32_t symbol = next;
    for (std::uint32_t i = 0; i < next && symbol == next; ++i) {
      const Pattern& other = *edges_[from.behind[i].front()].through;
      if (other.action == pattern->action && other.to_string() == pattern->to_string()) symbol = i;
    }
    if (symbol == next) {
      from.patterns.add(*pattern, symbol);
      from.behind.emplace_back();
    }
    from.behind[symbol].push_back(index);
    functions_[to].after.push_back(index);
    edge.through = std::move(*pattern);
  }
  edges_.push_back(std::move(edge));
}

std::uint32_t ApplicationGraph::function_of(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? kNone : found->second;
}

std::uint32_t ApplicationGraph::direct_edge(std::uint32_t from, std::uint32_t to) const {
  // In the order of the functions that they lead to, as they were added.
  const std::vector<std::uint32_t>& direct = functions_[from].direct;
  const auto found = std::ranges::lower_bound(direct, to, {}, [&](std::uint32_t edge) { return edges_[edge].to; });
  return found != direct.end() && edges_[*found].to == to ? *found : kNone;
}

void ApplicationGraph::find_edges(std::uint32_t from, const Operation& operation,
                                  std::vector<std::uint32_t>& out) const {
  out.clear();
  const Function& function = functions_[from];
  if (function.behind.empty()) return;
  for (const std::uint32_t symbol : function.patterns.find_all(operation)) {
    for (const std::uint32_t edge : function.behind[symbol]) {
      const auto same = [&](std::uint32_t other) { return edges_[other].to == edges_[edge].to; };
      if (std::ranges::none_of(out, same)) out.push_back(edge);
    }
  }
}

}  // namespace sallyport::flow
