#pragma once
// The paths that a draft has seen at one destination, generalised while they come so that memory stays bounded.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace sallyport::document {

// How often each method was seen. More than limits::kDraftMethodsMax of them, or one that a policy cannot name (one
// with lower-case letters, say), become `any`.
class MethodCounts {
 public:
  void add(std::string_view method, std::uint64_t count);
  void add(const MethodCounts& other);
  bool empty() const { return total_ == 0; }
  bool any() const { return any_; }
  std::uint64_t total() const { return total_; }
  const std::map<std::string, std::uint64_t, std::less<>>& by_name() const { return by_name_; }

 private:
  void check_size();

  std::map<std::string, std::uint64_t, std::less<>> by_name_;
  std::uint64_t total_ = 0;
  bool any_ = false;
};

class PathTree {
 public:
  enum class Cut : std::uint8_t {
    none,
    identifier,  // a segment below looks like one
    siblings,    // more below than limits::kDraftSiblingsMax
    limit,       // deeper or larger than a draft keeps
  };
  struct Rule {
    std::string path;
    Cut cut = Cut::none;  // none: the exact path; else a prefix, and why
    MethodCounts methods;
  };

  // `path` is canonical and starts with "/".
  void add(std::string_view path, std::string_view method, std::uint64_t count);
  // Joins the deepest paths until there are at most `nodes_max` nodes, at least one.
  void shrink(std::size_t nodes_max);
  std::size_t size() const { return nodes_; }
  // Sorted by path. Every path that was added matches one of them, with its method.
  std::vector<Rule> rules() const;

 private:
  struct Node {
    MethodCounts exact;
    MethodCounts below;  // of everything under a cut
    Cut cut = Cut::none;
    std::map<std::string, Node, std::less<>> children;
  };

  void cut(Node& node, Cut why);
  static void absorb(MethodCounts& into, const Node& node);
  static std::size_t count(const Node& node);
  static std::size_t depth_of_parents(const Node& node);
  void cut_at(Node& node, std::size_t depth);
  static void collect(const Node& node, const std::string& path, std::vector<Rule>& out);

  Node root_;
  std::size_t nodes_ = 1;
};

}  // namespace sallyport::document
