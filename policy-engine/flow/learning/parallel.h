#pragma once
// Which requests a function sends without waiting for each other's answers.

#include <cstdint>
#include <utility>
#include <vector>

#include "policy-engine/flow/learning/executions.h"
#include "policy-engine/flow/learning/url_grouping.h"

namespace sallyport::flow::learning {

// A square of bits.
class Relation {
 public:
  explicit Relation(std::size_t size) : size_(size), bits_(size * size, false) {}
  bool has(std::uint32_t a, std::uint32_t b) const { return bits_[a * size_ + b]; }
  void add(std::uint32_t a, std::uint32_t b) { bits_[a * size_ + b] = true; }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_;
  std::vector<bool> bits_;
};

// Symmetric: pairs whose times overlapped in any execution; and pairs that came in both orders among requests that are
// parallel to others in common, as timing alone puts those in an order.
Relation parallel_pairs(const Executions& executions, const Grouping& grouping);

// Requests next to each other that are parallel to each other, in one: by symbol, with how many of each. Of one symbol
// alone: that many, one after the other.
using Run = std::vector<std::pair<Symbol, std::uint32_t>>;

std::vector<Run> runs_of(std::span<const Exchange> exchanges, const Grouping& grouping, const Relation& parallel);

// The sets that runs of two symbols and more are of. Runs that share a symbol, and of which all could have run
// together, are of one: what is missing in some is optional.
class ParallelSets {
 public:
  // `members` are the symbols of each such run, sorted and without repetition.
  ParallelSets(std::vector<std::vector<Symbol>> members, const Relation& parallel);
  const std::vector<Symbol>& set_of(const std::vector<Symbol>& members) const;

 private:
  std::vector<std::vector<Symbol>> members_;  // sorted
  std::vector<std::size_t> index_;            // of each, in sets_
  std::vector<std::vector<Symbol>> sets_;
};

}  // namespace sallyport::flow::learning
