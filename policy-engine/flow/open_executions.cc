#include "policy-engine/flow/open_executions.h"

#include <algorithm>
#include <utility>

namespace sallyport::flow {

void OpenExecutions::Way::add(std::uint32_t node) {
  if (count > 0) {
    auto& last = visits[(count - 1) % visits.size()];
    if (last.first == node) {
      ++last.second;
      return;
    }
  }
  visits[count++ % visits.size()] = {node, 1};
}

std::string OpenExecutions::Way::text(const Graph& graph) const {
  const std::size_t shown = std::min(count, visits.size());
  std::string out = count > shown ? "… → " : "";
  for (std::size_t i = count - shown; i < count; ++i) {
    const auto [node, times] = visits[i % visits.size()];
    if (i > count - shown) out += " → ";
    out += graph.node_name(node);
    if (times > 1) out += " ×" + std::to_string(times);
  }
  return out;
}

std::optional<OpenExecutions::Allowed> OpenExecutions::Walk::take(const Operation& operation, Id request) {
  Ticket ticket;
  if (!at.request(operation, ticket)) return std::nullopt;
  if (ticket.request != 0) awaited.push_back({request, ticket});
  way.add(ticket.node);
  return Allowed{graph->node_name(ticket.node), ticket.request != 0};
}

// "expected: PUT a.com/y, or the end; at: load (so far: load ×2)"
std::string OpenExecutions::Walk::standing() const {
  std::string nodes;
  for (const std::string_view node : at.nodes()) {
    if (!nodes.empty()) nodes += ", ";
    nodes += node;
  }
  std::string out = "expected: " + at.expected() + "; at: " + (nodes.empty() ? "the entry" : nodes);
  if (way.count > 0) out += " (so far: " + way.text(*graph) + ")";
  return out;
}

bool OpenExecutions::alike(const Member& a, const Member& b) {
  if (a.owner != b.owner) return false;
  if (a.walk == b.walk) return true;
  return std::ranges::equal(a.walk->awaited, b.walk->awaited, {}, &Awaited::request, &Awaited::request) &&
         a.walk->at == b.walk->at;
}

// In any order: who of the crowd began first is not known.
bool OpenExecutions::alike(const Reading& a, const Reading& b) {
  std::vector<bool> taken(b.size());
  return std::ranges::all_of(a, [&](const Member& member) {
    for (std::size_t i = 0; i < b.size(); ++i) {
      if (taken[i] || !alike(member, b[i])) continue;
      taken[i] = true;
      return true;
    }
    return false;
  });
}

std::size_t OpenExecutions::readings_max() const {
  return std::clamp<std::size_t>(limits::kFlowReadingsWorkMax / std::max<std::size_t>(size(), 1), 1,
                                 limits::kFlowReadingsMax);
}

// By whom of each reading, of those that are alike by one: by `id` where it is known which that is, else by the crowd,
// or by anybody. The first way of each reading comes before the second of any.
template <typename Could>
std::vector<OpenExecutions::Branch> OpenExecutions::branches(std::optional<Id> id, bool crowd_only,
                                                             const Could& could) const {
  std::vector<std::vector<std::size_t>> ways(readings_.size());
  std::size_t most = 0;
  for (std::size_t r = 0; r < readings_.size(); ++r) {
    const Reading& reading = readings_[r];
    const auto is_owner = [&](const Member& member) { return id && member.owner == *id; };
    const bool known = std::ranges::any_of(reading, is_owner);
    for (std::size_t m = 0; m < reading.size(); ++m) {
      if (known ? !is_owner(reading[m]) : (crowd_only && reading[m].owner != 0)) continue;
      const bool seen =
          std::ranges::any_of(ways[r], [&](std::size_t other) { return alike(reading[other], reading[m]); });
      if (!seen && could(*reading[m].walk)) ways[r].push_back(m);
    }
    most = std::max(most, ways[r].size());
  }
  std::vector<Branch> out;
  for (std::size_t i = 0; i < most; ++i) {
    for (std::size_t r = 0; r < ways.size(); ++r) {
      if (i < ways[r].size()) out.push_back({r, ways[r][i]});
    }
  }
  return out;
}

// What the readings become by these ways, those that are alike once, until there are as many as may be.
template <typename Change>
std::vector<OpenExecutions::Reading> OpenExecutions::follow(const std::vector<Branch>& ways,
                                                            const Change& change) const {
  const std::size_t most = readings_max();
  std::vector<Reading> out;
  for (const Branch& way : ways) {
    if (out.size() == most) break;
    Reading reading = readings_[way.reading];
    change(reading, reading.begin() + static_cast<std::ptrdiff_t>(way.member));
    const bool known = std::ranges::any_of(out, [&](const Reading& other) { return alike(other, reading); });
    if (!known) out.push_back(std::move(reading));
  }
  return out;
}

void OpenExecutions::begin(const std::shared_ptr<const Graph>& graph) {
  const auto walk = std::make_shared<Walk>(graph);
  for (Reading& reading : readings_) reading.push_back({0, walk});
  // Each has become longer.
  readings_.resize(std::min(readings_.size(), readings_max()));
}

void OpenExecutions::remove(const std::vector<Branch>& ways) {
  auto readings = follow(ways, [](Reading& reading, Reading::iterator member) { reading.erase(member); });
  if (!readings.empty()) readings_ = std::move(readings);
}

std::string OpenExecutions::end(Id id) {
  const auto complete = branches(id, true, [](const Walk& walk) { return walk.at.complete(); });
  if (!complete.empty()) {
    remove(complete);
    return {};
  }
  const Member* member = member_of(id);
  std::string expected = member == nullptr ? "nothing is known of it" : member->walk->standing();
  forget(id);
  return expected;
}

void OpenExecutions::forget(Id id) {
  remove(branches(id, true, [](const Walk&) { return true; }));
}

std::optional<OpenExecutions::Allowed> OpenExecutions::request(std::optional<Id> sender, const Operation& operation,
                                                               Id request) {
  if (readings_.size() == 1 && size() == 1) {  // nothing to distribute
    Member& member = readings_.front().front();
    const auto allowed = member.walk->take(operation, request);
    if (allowed && sender) member.owner = *sender;
    return allowed;
  }
  const auto ways = branches(sender, sender.has_value(), [&](const Walk& walk) { return walk.at.could(operation); });
  if (readings_.size() == 1 && ways.size() == 1) {  // nothing to choose
    Member& member = readings_.front()[ways.front().member];
    if (sender) member.owner = *sender;
    return member.walk->take(operation, request);
  }
  std::optional<Allowed> allowed;
  auto readings = follow(ways, [&](Reading&, Reading::iterator member) {
    member->walk = std::make_shared<Walk>(*member->walk);
    const auto taken = member->walk->take(operation, request);
    if (!allowed) allowed = taken;
    if (allowed && taken) allowed->awaited |= taken->awaited;
    if (sender) member->owner = *sender;
  });
  if (!readings.empty()) readings_ = std::move(readings);
  return allowed;
}

// It holds in every reading, so that walks which readings share are told once.
void OpenExecutions::answered(Id request, Answer answer) {
  for (Reading& reading : readings_) {
    for (Member& member : reading) {
      auto& awaited = member.walk->awaited;
      const auto found = std::ranges::find(awaited, request, &Awaited::request);
      if (found == awaited.end()) continue;
      member.walk->at.answered(found->ticket, answer);
      awaited.erase(found);
    }
  }
}

const OpenExecutions::Member* OpenExecutions::member_of(std::optional<Id> id) const {
  const Reading& reading = readings_.front();
  if (reading.empty()) return nullptr;
  if (id) {
    for (const Id owner : {*id, Id{0}}) {
      const auto found = std::ranges::find(reading, owner, &Member::owner);
      if (found != reading.end()) return &*found;
    }
  }
  return &reading.front();
}

std::string OpenExecutions::refusal(std::optional<Id> sender, const Operation& operation) const {
  const Member* member = member_of(sender);
  if (member == nullptr) return "no execution is open that could send it";
  const Walk& walk = *member->walk;
  std::string out = to_string(operation);
  out += walk.graph->has(operation) ? " may not come now" : " is nowhere in the flow graph";
  if (!sender && size() > 1) {
    out += " in any of the " + std::to_string(size()) + " executions that are open; the first of them:";
  } else {
    out += ';';
  }
  return out + " " + walk.standing();
}

}  // namespace sallyport::flow
