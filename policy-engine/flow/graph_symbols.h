#pragma once
// The index of a graph's patterns: an operation → the most specific pattern that it matches, its symbol. The cost is
// that of the operation's own length: a host is found by its hash, an exact path by its hash, any other path segment by
// segment, in a tree in which a segment's literal beginning is found by its hash.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "policy-engine/flow/operation.h"
#include "policy-engine/flow/pattern.h"
#include "policy-engine/flow/pattern_match.h"

namespace sallyport::flow {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using StringIndex = std::unordered_map<std::string, std::uint32_t, StringHash, std::equal_to<>>;

// A map of which most have one entry or a few, and some have thousands: a few are looked through where they lie, side
// by side, which costs less memory to touch than a hash does.
template <class Key, class View, class Value, class Hash, class Equal>
class Table {
 public:
  const Value* find(const View& key) const {
    const Entry* found = entry_of(key);
    return found == nullptr ? nullptr : &found->value;
  }

  // Finds it, or makes it with `fresh`.
  Value& at(const Key& key, Value fresh) {
    if (const Entry* found = entry_of(key)) return entries_[static_cast<std::size_t>(found - entries_.data())].value;
    entries_.push_back({key, std::move(fresh)});
    if (index_) {
      index_->emplace(key, static_cast<std::uint32_t>(entries_.size() - 1));
    } else if (entries_.size() > kFew) {
      index_ = std::make_unique<Index>();
      for (const Entry& entry : entries_) index_->emplace(entry.key, static_cast<std::uint32_t>(index_->size()));
    }
    return entries_.back().value;
  }

 private:
  static constexpr std::size_t kFew = 6;
  struct Entry {
    Key key;
    Value value;
  };
  using Index = std::unordered_map<Key, std::uint32_t, Hash, Equal>;

  const Entry* entry_of(const View& key) const {
    if (index_) {
      const auto found = index_->find(key);
      return found == index_->end() ? nullptr : &entries_[found->second];
    }
    for (const Entry& entry : entries_) {
      if (Equal{}(entry.key, key)) return &entry;
    }
    return nullptr;
  }

  std::vector<Entry> entries_;
  std::unique_ptr<Index> index_;
};
template <class Value>
using StringTable = Table<std::string, std::string_view, Value, StringHash, std::equal_to<>>;

// Texts of one segment → what was put in for them. Patterns of a segment are ordered as more_specific() orders them.
class SegmentIndex {
 public:
  // What is put in at most once for each segment; `next` finds or makes it.
  std::uint32_t& at(std::vector<Piece> pieces, bool open, Part part);

  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  // Calls visit(value, open) for each that fits, the most specific first, until it returns true. `rest` begins with the
  // segment and holds what follows it too, which an open one may take.
  template <class Visit>
  bool each(std::string_view segment, std::string_view rest, Part part, Visit&& visit) const {
    if (const std::uint32_t* found = exact_.find(segment); found != nullptr && visit(*found, false)) return true;
    for (const std::size_t size : prefix_sizes_) {
      if (size > segment.size()) continue;
      const std::vector<Partial>* found = partial_.find(segment.substr(0, size));
      if (found == nullptr) continue;
      for (const Partial& partial : *found) {
        const std::string_view text = partial.open ? rest : segment;
        if (match_pieces(partial.rest, text.substr(size), part, partial.open) && visit(partial.value, partial.open)) {
          return true;
        }
      }
    }
    return false;
  }

 private:
  struct Partial {
    std::vector<Piece> rest;  // behind the literal beginning
    bool open = false;
    std::uint32_t value = kNone;
  };

  StringTable<std::uint32_t> exact_;
  std::vector<std::size_t> prefix_sizes_;      // of the literal beginnings, the longest first
  StringTable<std::vector<Partial>> partial_;  // by literal beginning
};

// Patterns of hosts or of paths, by segment.
class SegmentTree {
 public:
  explicit SegmentTree(Part part) : part_(part), nodes_(1) {}

  std::uint32_t& at(const std::vector<Piece>& pieces, bool open);

  // Calls visit(value) for each that `text` matches, the most specific first, until it returns true.
  template <class Visit>
  bool each(std::string_view text, Visit&& visit) const {
    return nodes_.size() > 1 || nodes_[0].used ? walk(0, text, visit) : false;
  }

 private:
  struct Node {
    SegmentIndex index;
    std::uint32_t value = SegmentIndex::kNone;  // of what ends here
    bool used = false;
  };

  // The depth is that of the tree, which the length of a pattern bounds.
  template <class Visit>
  bool walk(std::uint32_t at, std::string_view rest, Visit& visit) const {
    const std::size_t end = rest.find(separator_of(part_));
    const bool last = end == std::string_view::npos;
    return nodes_[at].index.each(rest.substr(0, end), rest, part_, [&](std::uint32_t value, bool open) {
      if (open) return visit(value);
      if (!last) return walk(value, rest.substr(end + 1), visit);
      return nodes_[value].value != SegmentIndex::kNone && visit(nodes_[value].value);
    });
  }

  Part part_;
  std::vector<Node> nodes_;
};

class SymbolIndex {
 public:
  static constexpr std::uint32_t kNone = SegmentIndex::kNone;

  void add(const Pattern& pattern, std::uint32_t symbol);

  // The most specific; kNone: the operation matches no pattern.
  std::uint32_t find(const Operation& operation) const;
  // All of them, the most specific first.
  std::vector<std::uint32_t> find_all(const Operation& operation) const;

 private:
  struct Label {
    std::string_view method, action;
    bool operator==(const Label&) const = default;
  };
  struct OwnLabel {
    std::string method, action;
    operator Label() const { return {method, action}; }
  };
  struct LabelHash {
    using is_transparent = void;
    std::size_t operator()(const Label& label) const {
      return StringHash{}(label.method) * 31 + StringHash{}(label.action);
    }
  };
  struct LabelEqual {
    using is_transparent = void;
    bool operator()(const Label& a, const Label& b) const { return a == b; }
  };

  struct Leaf {  // the end of a path
    Table<OwnLabel, Label, SegmentIndex, LabelHash, LabelEqual> queries;
  };
  struct HostEntry {
    StringIndex exact_paths;  // to leaves
    SegmentTree paths{Part::path};
  };

  std::uint32_t& host_of(const Pattern& pattern);
  std::uint32_t& path_of(HostEntry& host, const Pattern& pattern);

  template <class Visit>
  bool each(const Operation& operation, Visit&& visit) const;
  template <class Visit>
  bool each_escaped(const Operation& operation, Visit& visit) const;
  template <class Visit>
  bool each_plain(const Operation& operation, Visit& visit) const;
  template <class Visit>
  bool each_path(const HostEntry& host, std::string_view path, std::string_view query, const Label& label,
                 Visit& visit) const;

  StringTable<std::uint32_t> exact_hosts_, exact_plain_hosts_;  // https and http
  SegmentTree hosts_{Part::host}, plain_hosts_{Part::host};
  std::vector<HostEntry> host_entries_;
  std::vector<Leaf> leaves_;
};

}  // namespace sallyport::flow
