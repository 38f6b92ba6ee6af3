#include "policy-engine/flow/learning/url_grouping.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/limits.h"
#include "policy-engine/flow/learning/text_numbers.h"
#include "policy-engine/flow/learning/value_grouping.h"
#include "policy-engine/flow/learning/value_shape.h"

namespace sallyport::flow::learning {

namespace {

using Operations = std::vector<OperationId>;

// The rest of a URL that is not looked at piece by piece. No segment or query has this byte.
constexpr std::string_view kRest = "\n";

// A URL in its pieces: the segments of its path, then the keys of its query as one piece, then their values.
struct Pieces {
  std::vector<std::string_view> path;
  std::string keys;  // "", or "?" and what stands around the values: "?a=", "&b="…; kRest alone: any query
  std::vector<std::string> around;  // before each value
  std::vector<std::string_view> values;
};

void split_path(std::string_view path, Pieces& out) {
  path.remove_prefix(1);
  out.path.reserve(std::min<std::size_t>(static_cast<std::size_t>(std::ranges::count(path, '/')) + 1,
                                         limits::kLearnPathDepthMax + 1));
  std::size_t bytes = 0;
  while (true) {
    const std::size_t end = path.find('/');
    const std::string_view segment = path.substr(0, end);
    bytes += segment.size() + 1;
    if (bytes > limits::kLearnTextBytesMax || out.path.size() == limits::kLearnPathDepthMax) {
      out.path.push_back(kRest);
      return;
    }
    out.path.push_back(segment);
    if (end == std::string_view::npos) return;
    path.remove_prefix(end + 1);
  }
}

void split_query(std::string_view query, Pieces& out) {
  if (query.empty()) return;
  const auto pairs = static_cast<std::size_t>(std::ranges::count(query, '&')) + 1;
  const bool odd = query.front() == '&' || query.back() == '&' || query.find("&&") != std::string_view::npos;
  if (odd || pairs > limits::kLearnQueryValuesMax || query.size() > limits::kLearnTextBytesMax) {
    out.keys = kRest;
    return;
  }
  char before = '?';
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    const std::size_t equals = pair.find('=');
    std::string around = before + escaped(pair.substr(0, equals == std::string_view::npos ? equals : equals + 1));
    out.keys += around;
    out.around.push_back(std::move(around));
    out.values.push_back(equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1));
    query.remove_prefix(end == std::string_view::npos ? query.size() : end + 1);
    before = '&';
  }
}

// The operations that have each text at one position.
class ByText {
 public:
  // The text at the position, or nothing where the operation has none.
  template <class TextOf>
  ByText(std::span<const OperationId> all, TextOf text_of) {
    std::vector<std::uint32_t> number;
    number.reserve(all.size());
    for (const OperationId id : all) {
      const std::optional<std::string_view> text = text_of(id);
      number.push_back(text ? texts_.number_of(*text) : kNone);
    }
    ends_.assign(texts_.size() + 1, 0);
    for (const std::uint32_t text : number) {
      if (text != kNone) ++ends_[text + 1];
    }
    std::partial_sum(ends_.begin(), ends_.end(), ends_.begin());
    operations_.resize(ends_.back());
    std::vector<std::size_t> at(ends_.begin(), ends_.end() - 1);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (number[i] != kNone) operations_[at[number[i]]++] = all[i];
    }
  }

  std::size_t size() const { return texts_.size(); }
  std::string_view text(std::uint32_t number) const { return texts_[number]; }
  std::span<const OperationId> operator[](std::uint32_t number) const {
    return std::span(operations_).subspan(ends_[number], ends_[number + 1] - ends_[number]);
  }
  // The numbers of the texts, in the texts' order.
  std::vector<std::uint32_t> sorted() const {
    struct Entry {
      std::uint64_t beginning;  // most texts differ in it, and then lie where they are
      std::uint32_t number;
    };
    std::vector<Entry> entries;
    entries.reserve(size());
    for (std::uint32_t i = 0; i < size(); ++i) entries.push_back({beginning(text(i)), i});
    std::ranges::sort(entries, [&](const Entry& a, const Entry& b) {
      return a.beginning != b.beginning ? a.beginning < b.beginning : text(a.number) < text(b.number);
    });
    std::vector<std::uint32_t> out;
    out.reserve(size());
    for (const Entry& entry : entries) out.push_back(entry.number);
    return out;
  }
  Operations of(const ValueGroup& group) const {
    if (group.values.size() == size()) return operations_;
    Operations out;
    for (const Value& value : group.values) {
      const auto these = (*this)[value.number];
      out.insert(out.end(), these.begin(), these.end());
    }
    return out;
  }

 private:
  // The first bytes of a text as a number that is ordered as they are; no text has zeros, which stand for its end.
  static std::uint64_t beginning(std::string_view text) {
    std::uint64_t out = 0;
    if (!text.empty()) std::memcpy(&out, text.data(), std::min(text.size(), sizeof out));
    if constexpr (std::endian::native == std::endian::little) out = std::byteswap(out);
    return out;
  }

  static constexpr std::uint32_t kNone = UINT32_MAX;
  TextNumbers texts_;
  std::vector<std::size_t> ends_;  // in operations_, from the second on
  Operations operations_;
};

// A pattern behind the host, and the operations that it was made for.
struct Tail {
  std::string path;
  std::string query;
  bool wordy = false;  // a segment stands for names rather than for identifiers
  bool open = false;   // ends with "*"
  Operations operations;
};

class Grouper {
 public:
  Grouper(const Executions& executions, std::uint32_t threshold, const std::vector<Pattern>& reviewed)
      : executions_(executions), threshold_(threshold), seen_(executions.size(), 0) {
    for (const Pattern& pattern : reviewed) made_.try_emplace({pattern.to_string(), pattern.action}, pattern);
  }

  Result<Grouping> group();

 private:
  struct Root {  // what is never joined
    std::string method, action, host;
    auto operator<=>(const Root&) const = default;
  };

  // The patterns of one root, and what they may depend on: shapes that other requests may make known, each with what
  // is before its position.
  struct Found {
    std::vector<Tail> tails;
    std::vector<std::pair<std::string, std::string>> unsettled;
  };

  void index_executions();
  std::span<const ExecutionId> executions_of(OperationId id) const;
  std::uint32_t support(std::span<const OperationId> operations);
  std::map<Root, Operations> by_root();
  std::map<std::string_view, std::string> host_patterns();
  void split(const Operations& operations);
  const Pieces& pieces_of(OperationId id) const { return pieces_[place_[id]]; }
  Found find(const Root& root, const Operations& operations);
  bool is_settled(const Root& root, const Found& found);

  std::vector<Tail> tails(const Operations& operations, std::size_t depth, const std::string& before);
  std::vector<Tail> query_tails(const Operations& operations);
  std::vector<Tail> value_tails(const Operations& operations, std::size_t index);
  ValueGroups grouped(Place place, const ByText& by_value, const Operations& all, const KnownShapes& known);
  KnownShapes known_at(const std::string& before) const;
  void remember(const std::string& before, const ValueGroup& group);
  std::optional<Tail> collapsed(const ValueGroup& group, const std::vector<Tail>& below) const;
  Result<void> add_patterns(const Root& root, std::vector<Tail> tails);
  void assign();
  void assign_most_specific(const std::vector<const Pattern*>& patterns, const Operations& operations);

  const Executions& executions_;
  const std::uint32_t threshold_;
  std::vector<std::size_t> first_;   // by operation, into visits_
  std::vector<ExecutionId> visits_;  // the executions of each operation
  std::vector<std::uint32_t> seen_;  // by execution: the last count that it was in
  std::uint32_t count_ = 0;
  std::vector<Pieces> pieces_;                                   // of the root that is being grouped
  std::vector<std::uint32_t> place_;                             // by operation, in them
  std::string host_;                                             // the root's
  std::vector<std::pair<std::string, std::string>> unsettled_;   // what was found so far in it
  std::map<std::string, std::set<std::string>> shapes_;          // known ones, by what is before them
  std::map<std::pair<std::string, std::string>, Pattern> made_;  // by text and action
  std::vector<const Pattern*> chosen_;                           // by operation
};

// What is before a position, with any name as the last of it.
std::string beside(const std::string& before) { return before.substr(0, before.rfind('/') + 1) + "\n"; }

// Each operation's executions, in one array.
void Grouper::index_executions() {
  const std::size_t operations = executions_.operations().size();
  std::vector<ExecutionId> last(operations, UINT32_MAX);
  const auto visit = [&](auto take) {
    std::ranges::fill(last, UINT32_MAX);
    for (ExecutionId id = 0; id < executions_.size(); ++id) {
      const auto once = [&](OperationId operation) {
        if (last[operation] == id) return;
        last[operation] = id;
        take(operation, id);
      };
      for (const Exchange& exchange : executions_[id]) {
        once(exchange.operation);
        for (const OperationId operation : executions_.chain(exchange.redirects)) once(operation);
      }
    }
  };
  first_.assign(operations + 1, 0);
  visit([&](OperationId operation, ExecutionId) { ++first_[operation + 1]; });
  for (std::size_t i = 0; i < operations; ++i) first_[i + 1] += first_[i];
  visits_.resize(first_.back());
  std::vector<std::size_t> at(first_.begin(), first_.end() - 1);
  visit([&](OperationId operation, ExecutionId id) { visits_[at[operation]++] = id; });
}

std::span<const ExecutionId> Grouper::executions_of(OperationId id) const {
  return std::span(visits_).subspan(first_[id], first_[id + 1] - first_[id]);
}

// In how many executions any of them was.
std::uint32_t Grouper::support(std::span<const OperationId> operations) {
  ++count_;
  std::uint32_t executions = 0;
  for (const OperationId operation : operations) {
    for (const ExecutionId id : executions_of(operation)) {
      if (seen_[id] == count_) continue;
      seen_[id] = count_;
      ++executions;
    }
  }
  return executions;
}

std::map<std::string_view, std::string> Grouper::host_patterns() {
  std::map<std::string_view, Operations> by_host;
  for (OperationId id = 0; id < executions_.operations().size(); ++id) {
    if (!executions_of(id).empty()) by_host[executions_.operations()[id].host].push_back(id);
  }
  std::vector<Value> hosts;
  for (const auto& [host, operations] : by_host) hosts.push_back({host, support(operations)});
  return group_hosts(hosts, static_cast<std::uint32_t>(executions_.size()), threshold_);
}

std::map<Grouper::Root, Operations> Grouper::by_root() {
  const auto hosts = host_patterns();
  std::map<Root, Operations> roots;
  for (OperationId id = 0; id < executions_.operations().size(); ++id) {
    if (executions_of(id).empty() || chosen_[id] != nullptr) continue;
    const Operation& operation = executions_.operations()[id];
    roots[{std::string(operation.method), std::string(operation.action), hosts.at(operation.host)}].push_back(id);
  }
  return roots;
}

void Grouper::split(const Operations& operations) {
  pieces_.clear();
  pieces_.resize(operations.size());
  for (std::uint32_t place = 0; place < operations.size(); ++place) {
    place_[operations[place]] = place;
    split_path(executions_.operations()[operations[place]].path, pieces_[place]);
    split_query(executions_.operations()[operations[place]].query, pieces_[place]);
  }
}

Grouper::Found Grouper::find(const Root& root, const Operations& operations) {
  split(operations);
  host_ = root.host;
  unsettled_.clear();
  Found out{tails(operations, 0, ""), {}};
  out.unsettled = std::move(unsettled_);
  return out;
}

// Whether it would be found again with what is known by now.
bool Grouper::is_settled(const Root& root, const Found& found) {
  host_ = root.host;
  return std::ranges::none_of(found.unsettled, [&](const auto& shape) {
    const KnownShapes known = known_at(shape.first);
    return known.here.contains(shape.second) || known.beside.contains(shape.second);
  });
}

ValueGroups Grouper::grouped(Place place, const ByText& by_value, const Operations& all, const KnownShapes& known) {
  std::vector<Value> values;
  values.reserve(by_value.size());
  for (const std::uint32_t number : by_value.sorted()) {
    values.push_back({by_value.text(number), support(by_value[number]), number});
  }
  return group_values(place, values, support(all), static_cast<std::uint32_t>(executions_.size()), threshold_, known);
}

KnownShapes Grouper::known_at(const std::string& before) const {
  const auto at = [&](const std::string& position) {
    const auto found = shapes_.find(position);
    return found == shapes_.end() ? std::set<std::string>() : found->second;
  };
  KnownShapes out{at(host_ + before), {}};
  if (before.empty()) return out;
  out.beside = at(before);
  out.beside.merge(at(host_ + beside(before)));
  return out;
}

void Grouper::remember(const std::string& before, const ValueGroup& group) {
  if (group.joined || group.values.size() < 2 || group.text.find('{') == std::string::npos) return;
  shapes_[host_ + before].insert(group.text);
  if (before.empty()) return;
  shapes_[before].insert(group.text);
  shapes_[host_ + beside(before)].insert(group.text);
}

// Names of any depth, as the keys of an object store: below what stands for a name there are more such names, and at
// different depths, or very many forms. All that begins as they do.
std::optional<Tail> Grouper::collapsed(const ValueGroup& group, const std::vector<Tail>& below) const {
  if (!group.joined) return std::nullopt;
  const bool ends = std::ranges::any_of(below, [](const Tail& tail) { return tail.path.empty(); });
  const auto names = std::ranges::count_if(below, [](const Tail& tail) { return tail.wordy || tail.open; });
  const bool deeper = ends && names > 0;
  if (!deeper && static_cast<std::size_t>(names) <= std::max<std::size_t>(threshold_, 3)) return std::nullopt;
  Tail tail;
  tail.path = "/" + group.text.substr(0, group.text.find('{')) + "*";
  tail.open = true;
  for (const Tail& part : below) {
    if (!part.query.empty()) tail.query = "?*";
    tail.operations.insert(tail.operations.end(), part.operations.begin(), part.operations.end());
  }
  return tail;
}

// The patterns of what follows the first `depth` segments, in which all of `operations` are alike.
std::vector<Tail> Grouper::tails(const Operations& operations, std::size_t depth, const std::string& before) {
  Operations ended, cut;
  const ByText by_segment(operations, [&](OperationId id) -> std::optional<std::string_view> {
    const auto& path = pieces_of(id).path;
    const bool goes_on = depth < path.size();
    if (goes_on && path[depth] != kRest) return path[depth];
    (goes_on ? cut : ended).push_back(id);
    return std::nullopt;
  });
  std::vector<Tail> out = query_tails(ended);
  if (!cut.empty()) {
    const bool queries = std::ranges::any_of(cut, [&](OperationId id) { return !pieces_of(id).keys.empty(); });
    out.push_back({"/*", queries ? "?*" : "", false, true, std::move(cut)});
  }
  const ValueGroups found = grouped(Place::path, by_segment, operations, known_at(before));
  for (const std::string& shape : found.unsettled) unsettled_.emplace_back(before, shape);
  for (const ValueGroup& group : found.groups) {
    remember(before, group);
    std::vector<Tail> below = tails(by_segment.of(group), depth + 1, before + "/" + group.text);
    if (auto tail = collapsed(group, below)) {
      out.push_back(std::move(*tail));
      continue;
    }
    for (Tail& tail : below) {
      tail.path.insert(0, "/" + group.text);
      tail.wordy |= group.joined;
      out.push_back(std::move(tail));
    }
  }
  return out;
}

std::vector<Tail> Grouper::query_tails(const Operations& operations) {
  std::map<std::string, Operations> by_keys;
  for (const OperationId id : operations) by_keys[pieces_of(id).keys].push_back(id);
  const auto queries = by_keys.size() - by_keys.count("");
  std::vector<Tail> out;
  Tail any{"", "?*", false, false, {}};
  for (const auto& [keys, members] : by_keys) {
    if (keys.empty()) {
      out.push_back({"", "", false, false, members});
    } else if (keys == kRest || queries > 2 * std::max<std::size_t>(threshold_, 3)) {
      any.operations.insert(any.operations.end(), members.begin(), members.end());
    } else {
      for (Tail& tail : value_tails(members, 0)) out.push_back(std::move(tail));
    }
  }
  if (!any.operations.empty()) out.push_back(std::move(any));
  return out;
}

std::vector<Tail> Grouper::value_tails(const Operations& operations, std::size_t index) {
  if (pieces_of(operations[0]).values.size() == index) return {{"", "", false, false, operations}};
  const ByText by_value(operations, [&](OperationId id) { return std::optional(pieces_of(id).values[index]); });
  std::vector<Tail> out;
  // Nothing is known of values, so no other request can change what is found here.
  const ValueGroups found = grouped(Place::query, by_value, operations, {});
  for (const ValueGroup& group : found.groups) {
    const Operations members = by_value.of(group);
    for (Tail& tail : value_tails(members, index + 1)) {
      tail.query.insert(0, pieces_of(members[0]).around[index] + group.text);
      out.push_back(std::move(tail));
    }
  }
  return out;
}

Result<void> Grouper::add_patterns(const Root& root, std::vector<Tail> tails) {
  for (Tail& tail : tails) {
    const std::string text = root.method + " " + root.host + tail.path + tail.query;
    auto pattern = parse_pattern(text, root.action);
    if (!pattern) {
      return fail(ErrorSource::policy, ErrorKind::invalid, "no graph can have '" + text + "': " + pattern.error().text);
    }
    const std::pair key(pattern->to_string(), root.action);
    const auto made = made_.try_emplace(key, std::move(*pattern)).first;
    for (const OperationId id : tail.operations) chosen_[id] = &made->second;
    if (made_.size() > limits::kFlowNodesMax) {
      return fail(ErrorSource::policy, ErrorKind::limit,
                  "more than " + std::to_string(limits::kFlowNodesMax) +
                      " different requests, also where identifiers are put together: lower --lcp-threshold");
    }
  }
  return {};
}

// The matcher takes a request for the most specific pattern that it matches, so that is the one that it must be
// learned as, also where another was made for it.
void Grouper::assign() {
  std::map<std::pair<std::string_view, std::string_view>, std::pair<std::vector<const Pattern*>, Operations>> calls;
  for (const auto& [key, pattern] : made_) calls[{pattern.method, pattern.action}].first.push_back(&pattern);
  for (OperationId id = 0; id < executions_.operations().size(); ++id) {
    const Operation& operation = executions_.operations()[id];
    if (!executions_of(id).empty()) calls[{operation.method, operation.action}].second.push_back(id);
  }
  for (auto& [call, entry] : calls) {
    auto& [patterns, operations] = entry;
    std::ranges::sort(patterns, [](const Pattern* a, const Pattern* b) { return more_specific(*a, *b); });
    assign_most_specific(patterns, operations);
  }
}

void Grouper::assign_most_specific(const std::vector<const Pattern*>& patterns, const Operations& operations) {
  for (const OperationId id : operations) {
    for (const Pattern* pattern : patterns) {
      if (pattern == chosen_[id]) break;
      if (!pattern->matches(executions_.operations()[id])) continue;
      chosen_[id] = pattern;
      break;
    }
  }
}

Result<Grouping> Grouper::group() {
  index_executions();
  chosen_.assign(executions_.operations().size(), nullptr);
  place_.assign(executions_.operations().size(), 0);
  if (!made_.empty()) assign();
  const auto roots = by_root();
  // Once to see which positions have identifiers, and once more where what other requests say of them may change it.
  std::vector<Found> found;
  for (const auto& [root, operations] : roots) found.push_back(find(root, operations));
  std::size_t at = 0;
  for (const auto& [root, operations] : roots) {
    Found& of_root = found[at++];
    if (!is_settled(root, of_root)) of_root = find(root, operations);
    if (auto added = add_patterns(root, std::move(of_root.tails)); !added) return std::unexpected(added.error());
  }
  assign();
  Grouping out;
  std::map<const Pattern*, Symbol> numbers;
  const std::set<const Pattern*> used(chosen_.begin(), chosen_.end());
  for (const auto& [key, pattern] : made_) {
    if (!used.contains(&pattern)) continue;
    numbers.emplace(&pattern, static_cast<Symbol>(out.patterns.size()));
    out.patterns.push_back(pattern);
  }
  out.symbol_of.assign(chosen_.size(), kNoSymbol);
  out.example.resize(out.patterns.size());
  out.operations.assign(out.patterns.size(), 0);
  const auto key = [&](OperationId id) {
    const Operation& operation = executions_.operations()[id];
    return std::tuple(operation.host, operation.path, operation.query);
  };
  for (OperationId id = 0; id < chosen_.size(); ++id) {
    if (chosen_[id] == nullptr) continue;
    const Operation& operation = executions_.operations()[id];
    if (!chosen_[id]->matches(operation)) {  // closed: the graph would refuse what it was learned from
      return fail(ErrorSource::internal, ErrorKind::invalid,
                  "'" + chosen_[id]->to_string() + "' does not match " + to_string(operation));
    }
    const Symbol symbol = out.symbol_of[id] = numbers.at(chosen_[id]);
    if (out.operations[symbol]++ == 0 || key(id) < key(out.example[symbol])) out.example[symbol] = id;
  }
  return out;
}

}  // namespace

Result<Grouping> group_urls(const Executions& executions, std::uint32_t threshold,
                            const std::vector<Pattern>& reviewed) {
  return Grouper(executions, threshold, reviewed).group();
}

}  // namespace sallyport::flow::learning
