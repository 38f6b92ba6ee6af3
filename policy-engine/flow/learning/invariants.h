#pragma once
// The temporal invariants of Synoptic over types of events that occur at most once in a sequence, and whether a graph
// keeps them.

#include <cstdint>
#include <optional>
#include <vector>

namespace sallyport::flow::learning {

using Type = std::uint32_t;

// Node 0 is where sequences begin, node 1 where they end; both have a type of their own, 0 and 1.
struct TypeGraph {
  std::vector<Type> types;                         // by node
  std::vector<std::vector<std::uint32_t>> next;    // by node, sorted
  std::vector<std::vector<std::uint32_t>> before;  // by node, sorted
};
inline constexpr std::uint32_t kBegin = 0;
inline constexpr std::uint32_t kEnd = 1;

// A set of types.
class TypeSet {
 public:
  explicit TypeSet(std::size_t size, bool full = false) : words_((size + 63) / 64, full ? ~std::uint64_t{0} : 0) {}
  bool has(Type type) const { return (words_[type / 64] >> (type % 64) & 1U) != 0; }
  void add(Type type) { words_[type / 64] |= std::uint64_t{1} << (type % 64); }
  void keep(const TypeSet& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
  }
  void remove(Type type) { words_[type / 64] &= ~(std::uint64_t{1} << (type % 64)); }
  void add(const TypeSet& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }

 private:
  std::vector<std::uint64_t> words_;
};

class Invariants {
 public:
  // From all the sequences, in which no type occurs twice, and in how many executions each was. `types` counts also
  // those of begin and end.
  //
  // From ten executions on, an invariant that chance alone gives with a probability of 1 % or more, were the types
  // independent, is none: that two optional steps never met in 25 executions is no rule.
  Invariants(const std::vector<std::vector<Type>>& sequences, const std::vector<std::uint64_t>& executions,
             std::size_t types);

  std::size_t types() const { return types_; }
  // How many there are, of all kinds.
  std::uint64_t count() const;

  // A way through the graph, as nodes, that breaks the first invariant that is broken: from kBegin, as far as it takes.
  // `steps` is reduced by the edges that were looked at; when it is used up the answer says nothing.
  std::optional<std::vector<std::uint32_t>> counterexample(const TypeGraph& graph, std::uint64_t& steps) const;

 private:
  void drop_chance(const std::vector<std::uint64_t>& counts, std::uint64_t all);

  std::size_t types_;
  std::vector<TypeSet> always_after_;   // by a: all b with "a is always followed by b"
  std::vector<TypeSet> always_before_;  // by b: all a with "a always precedes b"
  std::vector<TypeSet> ever_after_;     // by a: all b that ever came behind it; the rest is "never followed by"
};

}  // namespace sallyport::flow::learning
