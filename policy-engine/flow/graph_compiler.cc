#include "policy-engine/flow/graph_compiler.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <utility>

#include "base/limits.h"

namespace sallyport::flow {

namespace {

bool parse_count(std::string_view text, std::uint32_t& count) {
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  const bool zeros = text.size() > 1 && text.front() == '0';
  if (!digits || zeros) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  return error == std::errc() && end == text.data() + text.size() && count <= limits::kFlowTimesMax;
}

Times times_or(bool given, const std::string& text, std::uint32_t least, Times otherwise) {
  return given ? parse_times(text, least).value_or(otherwise) : otherwise;
}

// How many requests of one visit can be under way, or failed, at once: with those that were sent again.
std::size_t requests_at_once(const CompiledNode& node) {
  std::uint64_t most = 0;
  for (const CompiledStep& step : node.steps) {
    most = node.kind == NodeKind::group ? std::max<std::uint64_t>(most, step.times.most) : most + step.times.most;
  }
  if (node.kind == NodeKind::request) most = node.times.most;
  if (node.kind == NodeKind::loop) most = node.total.most;
  return std::min<std::uint64_t>(most * (1 + node.retries + node.redirects), limits::kFlowTicketsMax);
}

}  // namespace

Result<Times> parse_times(std::string_view text, std::uint32_t least) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorSource::policy, ErrorKind::invalid, std::string(why));
  };
  Times times;
  const std::size_t dots = text.find("..");
  if (dots == std::string_view::npos) {
    if (!parse_count(text, times.most)) {
      return refuse("write 3 for up to three times, or 2..5; at most " + std::to_string(limits::kFlowTimesMax));
    }
    times.least = std::min(least, times.most);
  } else if (!parse_count(text.substr(0, dots), times.least) || !parse_count(text.substr(dots + 2), times.most)) {
    return refuse("write 2..5 for at least twice, up to five times; at most " + std::to_string(limits::kFlowTimesMax));
  }
  if (times.most == 0) return refuse("what never comes is left out of the graph");
  if (times.least > times.most) {
    return refuse("no execution can reach it: write " + std::to_string(times.most) + ".." +
                  std::to_string(times.least));
  }
  return times;
}

std::string to_string(const Times& times) {
  if (times.least == 1) return std::to_string(times.most);
  return std::to_string(times.least) + ".." + std::to_string(times.most);
}

bool may_begin(const CompiledNode& node, std::uint32_t step) {
  switch (node.kind) {
    case NodeKind::entry:
      return false;
    case NodeKind::request:
    case NodeKind::set:
      return true;
    case NodeKind::group:
      return std::all_of(node.steps.begin(), node.steps.begin() + step,
                         [](const CompiledStep& before) { return before.times.least == 0; });
    case NodeKind::loop:
      return node.steps[step].start;
  }
  return false;
}

std::shared_ptr<const Graph> GraphCompiler::compile(const std::vector<int>& lines) {
  out_ = std::make_unique<Compiled>();
  const v1alpha1::FlowGraphSpec& spec = document_.spec();
  out_->function = spec.has_function() ? spec.function() : document_.metadata().name();
  out_->image_digest = spec.image_digest();
  for (const v1alpha1::Node& node : spec.nodes()) {
    names_.emplace(node.name(), static_cast<std::uint32_t>(names_.size()));
  }
  for (const v1alpha1::Node& source : spec.nodes()) {
    CompiledNode node = node_of(source);
    if (const std::size_t i = out_->nodes.size(); i < lines.size()) node.line = lines[i];
    connect(node, source.next());
    out_->nodes.push_back(std::move(node));
  }
  out_->entry = static_cast<std::uint32_t>(out_->nodes.size());
  CompiledNode entry;
  entry.kind = NodeKind::entry;
  connect(entry, spec.entry());
  out_->nodes.push_back(std::move(entry));
  index_symbols();
  index_first_nodes();
  size_executions();
  // Not make_shared: the constructor is private.
  std::shared_ptr<Graph> graph(new Graph);
  graph->compiled_ = std::move(out_);
  return graph;
}

std::uint32_t GraphCompiler::symbol_of(std::string_view request, std::string_view action) {
  Result<Pattern> pattern = parse_pattern(request, action);
  if (!pattern) return SymbolIndex::kNone;  // not in a good document; a step that nothing matches fails closed
  const auto next = static_cast<std::uint32_t>(out_->symbols.size());
  const auto [found, made] = symbols_.try_emplace(std::string(request) + "\n" + std::string(action), next);
  if (made) out_->symbols.push_back(std::move(*pattern));
  return found->second;
}

void GraphCompiler::add_step(CompiledNode& node, std::string_view request, std::string_view action, Times times) {
  CompiledStep step;
  step.symbol = symbol_of(request, action);
  step.times = times;
  node.steps.push_back(std::move(step));
}

CompiledNode GraphCompiler::node_of(const v1alpha1::Node& source) {
  CompiledNode node;
  node.name = source.name();
  node.times = times_or(source.has_times(), source.times(), 1, {});
  node.retries = std::min(source.retries(), kFlowRetriesMax);
  if (source.has_request()) {
    add_step(node, source.request(), source.action(), {});
  } else if (source.has_loop()) {
    add_loop(node, source.loop());
  } else {
    node.kind = source.group_size() > 0 ? NodeKind::group : NodeKind::set;
    for (const v1alpha1::Step& step : node.kind == NodeKind::group ? source.group() : source.set()) {
      add_step(node, step.request(), step.action(), times_or(step.has_times(), step.times(), 1, {}));
    }
  }
  add_redirects(node, source);
  return node;
}

void GraphCompiler::add_loop(CompiledNode& node, const v1alpha1::Loop& loop) {
  node.kind = NodeKind::loop;
  node.total = parse_times(loop.total()).value_or(Times{});
  StringIndex names;
  for (const v1alpha1::LoopStep& step : loop.steps()) {
    names.emplace(step.name(), static_cast<std::uint32_t>(names.size()));
    add_step(node, step.request(), step.action(), times_or(step.has_times(), step.times(), 0, {0, node.total.most}));
  }
  for (std::size_t i = 0; i < node.steps.size(); ++i) {
    for (const std::string& name : loop.steps(static_cast<int>(i)).next()) {
      if (const auto found = names.find(name); found != names.end()) node.steps[i].next.push_back(found->second);
    }
  }
  for (const std::string& name : loop.starts()) {
    if (const auto found = names.find(name); found != names.end()) node.steps[found->second].start = true;
  }
  for (const std::string& name : loop.ends()) {
    if (const auto found = names.find(name); found != names.end()) node.steps[found->second].end = true;
  }
}

// A redirected request has the action of the one that was redirected, or none.
void GraphCompiler::add_redirects(CompiledNode& node, const v1alpha1::Node& source) {
  std::vector<std::string> actions = {"", source.action()};
  for (const v1alpha1::Step& step : source.group()) actions.push_back(step.action());
  for (const v1alpha1::Step& step : source.set()) actions.push_back(step.action());
  for (const v1alpha1::LoopStep& step : source.loop().steps()) actions.push_back(step.action());
  std::ranges::sort(actions);
  actions.erase(std::unique(actions.begin(), actions.end()), actions.end());
  for (const std::string& request : source.redirects()) {
    for (const std::string& action : actions) node.redirect_symbols.push_back(symbol_of(request, action));
  }
  std::ranges::sort(node.redirect_symbols);
  // A chain is as long as the list at most, and counted in one byte.
  node.redirects = std::min(static_cast<std::uint32_t>(source.redirects_size()), kFlowRetriesMax);
}

void GraphCompiler::connect(CompiledNode& node, const google::protobuf::RepeatedPtrField<std::string>& next) const {
  for (const std::string& name : next) {
    if (name == kExit) node.may_end = true;
    if (const auto found = names_.find(name); found != names_.end()) node.next.push_back(found->second);
  }
  std::ranges::sort(node.next);
  node.next.erase(std::unique(node.next.begin(), node.next.end()), node.next.end());
}

void GraphCompiler::index_symbols() {
  for (std::uint32_t i = 0; i < out_->symbols.size(); ++i) out_->index.add(out_->symbols[i], i);
  std::vector<std::uint32_t> order(out_->symbols.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(
      order, [&](std::uint32_t a, std::uint32_t b) { return more_specific(out_->symbols[a], out_->symbols[b]); });
  out_->ranks.resize(order.size());
  for (std::uint32_t i = 0; i < order.size(); ++i) out_->ranks[order[i]] = i;
}

void GraphCompiler::index_first_nodes() {
  out_->first.resize(out_->symbols.size());
  for (std::uint32_t n = 0; n < out_->entry; ++n) {
    const CompiledNode& node = out_->nodes[n];
    for (std::uint32_t step = 0; step < node.steps.size(); ++step) {
      const std::uint32_t symbol = node.steps[step].symbol;
      if (symbol == SymbolIndex::kNone || !may_begin(node, step)) continue;
      std::vector<std::uint32_t>& nodes = out_->first[symbol];
      if (nodes.empty() || nodes.back() != n) nodes.push_back(n);
    }
  }
}

void GraphCompiler::size_executions() {
  for (const CompiledNode& node : out_->nodes) {
    const bool counted = node.kind == NodeKind::set || node.kind == NodeKind::loop;
    if (counted) out_->counters = std::max(out_->counters, node.steps.size());
    if (node.retries > 0 || node.redirects > 0) out_->slots = std::max(out_->slots, requests_at_once(node));
  }
  // Fails closed: where no request can be known again, none may be sent again.
  if (out_->slots > 0 && !out_->hash.choose_point()) out_->slots = 0;
}

}  // namespace sallyport::flow
