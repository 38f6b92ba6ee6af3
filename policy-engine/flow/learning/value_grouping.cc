#include "policy-engine/flow/learning/value_grouping.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <set>
#include <utility>

#include "policy-engine/flow/learning/value_shape.h"
#include "policy-engine/flow/pattern.h"

namespace sallyport::flow::learning {

namespace {

// With fewer executions than these, that a value came back says nothing.
constexpr std::uint32_t kEvidenceMin = 3;

// So many, that each of a few values would have come back.
constexpr std::uint32_t kClosedMin = 10;

// After so many of each of some values there are no others.
constexpr std::uint32_t kEachOften = 5;

class Matcher {
 public:
  Matcher(Place place, const std::string& text)
      : place_(place),
        pattern_(parse_pattern((place == Place::path ? "GET a.example/" : "GET a.example/?v=") + text, "")) {}
  bool matches(std::string_view value) const {
    const std::string path = place_ == Place::path ? "/" + std::string(value) : "/";
    const std::string query = place_ == Place::path ? "" : "v=" + std::string(value);
    return pattern_ && pattern_->matches({"GET", "a.example", path, query, ""});
  }

 private:
  Place place_;
  Result<Pattern> pattern_;
};

class ValueGrouper {
 public:
  ValueGrouper(Place place, const std::vector<Value>& values, std::uint32_t visits, std::uint32_t executions,
               std::uint32_t threshold, const KnownShapes& known)
      : place_(place),
        values_(values),
        visits_(visits),
        executions_(executions),
        threshold_(threshold),
        known_(known) {}

  ValueGroups group() {
    group_by_shape();
    unite();
    absorb();
    group_the_rest();
    for (const Value& value : rest_) groups_.push_back({escaped(value.text), {value}, false});
    std::ranges::sort(groups_, {}, [](const ValueGroup& group) { return std::pair(group.values[0].text, group.text); });
    return {std::move(groups_), std::move(unsettled_)};
  }

 private:
  using Values = std::vector<Value>;

  // In nine of ten executions that come here, or more.
  bool is_constant(const Value& value) const {
    return visits_ >= kEvidenceMin && std::uint64_t{value.support} * 10 >= std::uint64_t{visits_} * 9;
  }
  bool is_common(const Value& value) const {
    return visits_ >= kEvidenceMin && std::uint64_t{value.support} * 2 >= visits_;
  }
  // What came back in one of five executions, or twice where they are few, is probably somebody's choice.
  bool is_rare(const Value& value) const {
    return visits_ < kEvidenceMin || value.support < 2 || std::uint64_t{value.support} * 5 < visits_;
  }

  bool is_group(const Shape& shape, const Values& values) const {
    const bool identifier = shape.strong || shape.text.find("{hex}") != std::string::npos;
    // Of several, or of one in few executions, nothing says that it is a constant.
    const bool unsettled = values.size() > 1 || visits_ < kClosedMin;
    if (known_.here.contains(shape.text)) return true;
    if (identifier && unsettled && known_.beside.contains(shape.text)) return true;
    if (values.size() == 1) {
      return shape.strong && values[0].support == 1 && executions_ >= kEvidenceMin && visits_ < kEvidenceMin;
    }
    if (std::ranges::all_of(values, [&](const Value& value) { return is_constant(value); })) return false;
    // A few that all come back are sizes that somebody chose, and no others will come; unless somebody counts, or they
    // are nothing that anybody would choose.
    return visits_ < kClosedMin || identifier || is_counting(shape, values) ||
           std::ranges::any_of(values, [&](const Value& value) { return is_rare(value); });
  }

  // Whether the values are numbers that follow each other: parts, pages, steps.
  static bool is_counting(const Shape& shape, const Values& values) {
    constexpr std::string_view kInt = "{int}";
    const std::size_t at = shape.text.find('{');
    if (shape.text.compare(at, kInt.size(), kInt) != 0) return false;
    const std::size_t behind = shape.text.size() - at - kInt.size();
    std::uint64_t least = UINT64_MAX, most = 0;
    for (const Value& value : values) {
      if (value.text.size() <= at + behind) return false;
      const std::string_view digits = value.text.substr(at, value.text.size() - at - behind);
      std::uint64_t number = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
      if (error != std::errc() || end != digits.data() + digits.size()) return false;
      least = std::min(least, number);
      most = std::max(most, number);
    }
    return most - least + 1 == values.size();
  }

  void group_by_shape() {
    std::map<std::string, std::pair<Shape, Values>> by_shape;
    for (const Value& value : values_) {
      Shape shape = shape_of(value.text);
      if (!shape.variable) {
        rest_.push_back(value);
        continue;
      }
      std::string text = shape.text;
      auto& [kept, values] = by_shape[std::move(text)];
      kept = std::move(shape);
      values.push_back(value);
    }
    for (auto& [text, entry] : by_shape) {
      auto& [shape, values] = entry;
      const Matcher matcher(place_, text);
      const auto fits = [&](const Value& value) { return matcher.matches(value.text); };
      const bool all_fit = std::ranges::all_of(values, fits);
      if (all_fit && is_group(shape, values)) {
        groups_.push_back({shape.text, std::move(values), false});
      } else {
        if (all_fit) unsettled_.push_back(text);
        rest_.insert(rest_.end(), values.begin(), values.end());
      }
    }
  }

  // A hash of digits alone looks like a number, and so some of many hashes do. A group is part of one of twice as many
  // values that has it in its pattern, if they are as long.
  void unite() {
    std::ranges::sort(groups_, {}, [](const ValueGroup& group) { return std::pair(group.values.size(), group.text); });
    for (auto small = groups_.begin(); small != groups_.end();) {
      const auto large = std::find_if(small + 1, groups_.end(), [&](const ValueGroup& group) {
        return group.values.size() >= 2 * small->values.size() && is_part(*small, group);
      });
      if (large == groups_.end()) {
        ++small;
        continue;
      }
      large->values.insert(large->values.end(), small->values.begin(), small->values.end());
      small = groups_.erase(small);
    }
  }

  bool is_part(const ValueGroup& small, const ValueGroup& large) const {
    const auto size = [](const Value& value) { return value.text.size(); };
    const std::size_t least = size(std::ranges::min(large.values, {}, size));
    const std::size_t most = size(std::ranges::max(large.values, {}, size));
    const Matcher matcher(place_, large.text);
    return std::ranges::all_of(small.values, [&](const Value& value) {
      return size(value) >= least && size(value) <= most && matcher.matches(value.text);
    });
  }

  // What a group has in its pattern belongs to it, unless it is what most executions have: a date may be one of many
  // numbers.
  void absorb() {
    for (ValueGroup& group : groups_) {
      const Matcher matcher(place_, group.text);
      std::erase_if(rest_, [&](const Value& value) {
        if (is_common(value) || !matcher.matches(value.text)) return false;
        group.values.push_back(value);
        return true;
      });
    }
  }

  // By the threshold: those with the same beginning first, then all that are left.
  void group_the_rest() {
    Values rare;
    for (const Value& value : rest_) {
      if (is_rare(value) && !value.text.empty()) rare.push_back(value);  // no placeholder stands for nothing
    }
    const bool input = is_input();
    if (rare.size() <= threshold_ && !input) return;
    const bool few = visits_ < kEvidenceMin;
    std::map<std::string_view, Values> by_stem;
    for (const Value& value : rest_) {
      // Where names come and go, one that comes back now and then is just a frequent name.
      if (value.text.empty()) continue;
      const bool one_of_many = few ? is_rare(value) : input ? !is_constant(value) : !is_common(value);
      if (one_of_many) by_stem[stem_of(value.text)].push_back(value);
    }
    Values left;
    for (const auto& [stem, values] : by_stem) {
      if (!stem.empty() && values.size() > threshold_) {
        join(values);
      } else {
        left.insert(left.end(), values.begin(), values.end());
      }
    }
    if (left.size() > threshold_) join(left);
  }

  // Values of a query are somebody's input more often than names in a path are: of several of which one did not come
  // back again and again, there will be others.
  bool is_input() const {
    const auto comes_and_goes = [&](const Value& value) { return !value.text.empty() && !is_constant(value); };
    const auto different = static_cast<std::size_t>(std::ranges::count_if(rest_, comes_and_goes));
    return place_ == Place::query && different > threshold_ &&
           std::ranges::any_of(rest_, [](const Value& value) { return value.support < kEachOften; });
  }

  void join(const Values& values) {
    std::vector<std::string_view> texts;
    for (const Value& value : values) texts.push_back(value.text);
    std::string text = joined_text(texts);
    const Matcher matcher(place_, text);
    // Left as they are: what no placeholder stands for stays exact.
    if (!std::ranges::all_of(texts, [&](std::string_view value) { return matcher.matches(value); })) return;
    const std::set<std::string_view> taken(texts.begin(), texts.end());
    std::erase_if(rest_, [&](const Value& value) { return taken.contains(value.text); });
    groups_.push_back({std::move(text), values, true});
  }

  const Place place_;
  const std::vector<Value>& values_;
  const std::uint32_t visits_;
  const std::uint32_t executions_;
  const std::uint32_t threshold_;
  const KnownShapes& known_;
  std::vector<ValueGroup> groups_;
  std::vector<std::string> unsettled_;
  Values rest_;
};

struct Host {
  std::string before;  // with the scheme and a dot at the end
  std::string_view label;
  std::string_view behind;  // with the dot before it
};

// Each label of the host that may differ, with what is around it.
std::vector<Host> places_of(std::string_view host) {
  constexpr std::string_view kPlain = "http://";
  std::size_t at = host.starts_with(kPlain) ? kPlain.size() : 0;
  std::vector<Host> out;
  if (host.find('[') != std::string_view::npos) return out;  // an address
  while (true) {
    const std::size_t dot = host.find('.', at);
    if (dot == std::string_view::npos) break;
    out.push_back({std::string(host.substr(0, at)), host.substr(at, dot - at), host.substr(dot)});
    at = dot + 1;
  }
  if (out.empty()) return out;
  out.pop_back();  // the label before the last: with that it is somebody's domain
  const bool address = host.find_first_not_of("0123456789.:") == std::string_view::npos;
  if (address) out.clear();
  return out;
}

// Labels that are alike but for a number or a hash of eight digits and more, which no person chooses: three of them,
// unless each came back again and again.
std::optional<std::string> identifier_pattern(const std::vector<Value>& labels) {
  constexpr std::size_t kLabelsMin = 3;
  constexpr std::uint32_t kCameBack = 3;
  if (labels.size() < kLabelsMin) return std::nullopt;
  if (std::ranges::all_of(labels, [](const Value& label) { return label.support >= kCameBack; })) return std::nullopt;
  std::vector<std::string_view> texts;
  for (const Value& label : labels) texts.push_back(label.text);
  const std::string text = joined_text(texts);
  const std::size_t open = text.find('{'), behind = text.size() - text.find('}') - 1;
  std::set<std::string> shapes;
  for (const std::string_view label : texts) {
    const std::string_view differs = label.substr(open, label.size() - open - behind);
    if (!is_long_identifier(differs)) return std::nullopt;
    shapes.insert(shape_of(differs).text);
  }
  return text.substr(0, open) + (shapes.size() == 1 ? *shapes.begin() : "{hex}") + text.substr(text.size() - behind);
}

// The pattern of labels that differ, if what differs is random in most of them. A separator borders it, or the whole
// label is random.
std::optional<std::string> label_pattern(const std::vector<Value>& labels, std::uint32_t executions,
                                         std::uint32_t threshold) {
  if (auto identifier = identifier_pattern(labels)) return identifier;
  if (labels.size() <= threshold) return std::nullopt;
  std::vector<std::string_view> texts;
  for (const Value& label : labels) {
    const bool comes_back = executions >= kEvidenceMin && label.support >= 2 && label.support * 5 >= executions;
    if (comes_back) return std::nullopt;
    texts.push_back(label.text);
  }
  const std::string text = joined_text(texts);
  const std::size_t open = text.find('{');
  const std::size_t behind = text.size() - text.find('}') - 1;
  const auto random = std::ranges::count_if(
      texts, [&](std::string_view label) { return looks_random(label.substr(open, label.size() - open - behind)); });
  if (static_cast<std::size_t>(random) * 2 <= texts.size()) return std::nullopt;
  return text;
}

}  // namespace

ValueGroups group_values(Place place, const std::vector<Value>& values, std::uint32_t visits, std::uint32_t executions,
                         std::uint32_t threshold, const KnownShapes& known) {
  return ValueGrouper(place, values, visits, executions, threshold, known).group();
}

std::map<std::string_view, std::string> group_hosts(const std::vector<Value>& hosts, std::uint32_t executions,
                                                    std::uint32_t threshold) {
  std::map<std::string_view, std::string> out;
  std::map<std::pair<std::string, std::string_view>, std::vector<std::pair<Value, std::string_view>>> places;
  for (const Value& host : hosts) {
    out[host.text] = host.text;
    for (const Host& place : places_of(host.text)) {
      // Labels are joined with those that begin alike, so that one host of words does not keep random ones apart.
      const std::string around = place.before + std::string(stem_of(place.label)) + '\n';
      places[{around, place.behind}].push_back({{place.label, host.support}, host.text});
    }
  }
  for (const auto& [around, members] : places) {
    std::vector<Value> labels;
    for (const auto& [label, host] : members) {
      if (out[host] == host) labels.push_back(label);
    }
    const auto text = label_pattern(labels, executions, threshold);
    if (!text) continue;
    for (const auto& [label, host] : members) {
      if (out[host] != host) continue;
      const std::size_t at = static_cast<std::size_t>(label.text.data() - host.data());
      out[host] = std::string(host.substr(0, at)) + *text + std::string(around.second);
    }
  }
  return out;
}

}  // namespace sallyport::flow::learning
