#pragma once
// Which values of one position are constants, and which stand for one thing of many.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace sallyport::flow::learning {

enum class Place : std::uint8_t { path, query };

struct Value {
  std::string_view text;
  std::uint32_t support = 0;  // executions that have it at this position
  std::uint32_t number = 0;   // the caller's
};

struct ValueGroup {
  std::string text;  // of a pattern; without a placeholder: a constant, and its only value
  std::vector<Value> values;
  bool joined = false;  // by the threshold alone: nothing in their form says that they are identifiers
};

// Shapes that stand for one thing of many elsewhere, as texts of patterns.
struct KnownShapes {
  std::set<std::string> here;    // at this position of other requests to this host: what one writes, another reads
  std::set<std::string> beside;  // at the same position behind a constant sibling, or of another host
};

struct ValueGroups {
  std::vector<ValueGroup> groups;  // sorted
  // Shapes that were not enough for a group, and may be one if they come to be known. More that is known changes
  // nothing else.
  std::vector<std::string> unsettled;
};

// `values` are sorted and differ; `visits` executions have any of them, of `executions` in all.
ValueGroups group_values(Place place, const std::vector<Value>& values, std::uint32_t visits, std::uint32_t executions,
                         std::uint32_t threshold, const KnownShapes& known);

// By host, its pattern. Hosts are joined only where one label of them differs, which is none of the last two, and where
// what differs in it is random: two hosts whose labels are words stay two.
std::map<std::string_view, std::string> group_hosts(const std::vector<Value>& hosts, std::uint32_t executions,
                                                    std::uint32_t threshold);

}  // namespace sallyport::flow::learning
