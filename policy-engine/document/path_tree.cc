#include "policy-engine/document/path_tree.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/names.h"
#include "policy-engine/document/path_shape.h"

namespace sallyport::document {

void MethodCounts::add(std::string_view method, std::uint64_t count) {
  total_ += count;
  if (any_) return;
  if (!is_policy_method(method)) {
    any_ = true;
    by_name_.clear();
    return;
  }
  const auto found = by_name_.find(method);
  if (found != by_name_.end()) {
    found->second += count;
    return;
  }
  by_name_.emplace(method, count);
  check_size();
}

void MethodCounts::add(const MethodCounts& other) {
  total_ += other.total_;
  any_ |= other.any_;
  if (any_) {
    by_name_.clear();
    return;
  }
  for (const auto& [method, count] : other.by_name_) by_name_[method] += count;
  check_size();
}

void MethodCounts::check_size() {
  if (by_name_.size() <= limits::kDraftMethodsMax) return;
  any_ = true;
  by_name_.clear();
}

void PathTree::add(std::string_view path, std::string_view method, std::uint64_t count) {
  Node* node = &root_;
  std::string_view rest = path.substr(1);
  for (std::size_t depth = 0;; ++depth) {
    const std::size_t slash = rest.find('/');
    const std::string_view segment = rest.substr(0, slash);
    auto child = node->children.find(segment);
    if (node->cut == Cut::none && child == node->children.end()) {
      const std::size_t siblings_max = depth == 0 ? limits::kDraftRootSiblingsMax : limits::kDraftSiblingsMax;
      if (segment.size() > limits::kDraftSegmentBytesMax || looks_like_identifier(segment)) {
        cut(*node, Cut::identifier);
      } else if (node->children.size() == siblings_max) {
        cut(*node, Cut::siblings);
      } else if (depth == limits::kDraftPathDepthMax) {
        cut(*node, Cut::limit);
      } else {
        child = node->children.emplace(segment, Node{}).first;
        ++nodes_;
      }
    }
    if (node->cut != Cut::none) return node->below.add(method, count);
    node = &child->second;
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  node->exact.add(method, count);
  if (nodes_ > limits::kDraftPathsPerEndpointMax) shrink(limits::kDraftPathsPerEndpointMax / 2);
}

void PathTree::cut(Node& node, Cut why) {
  for (const auto& [segment, child] : node.children) {
    absorb(node.below, child);
    nodes_ -= count(child);
  }
  node.children.clear();
  node.cut = why;
}

void PathTree::absorb(MethodCounts& into, const Node& node) {
  into.add(node.exact);
  into.add(node.below);
  for (const auto& [segment, child] : node.children) absorb(into, child);
}

std::size_t PathTree::count(const Node& node) {
  std::size_t nodes = 1;
  for (const auto& [segment, child] : node.children) nodes += count(child);
  return nodes;
}

// How deep the deepest node with children is.
std::size_t PathTree::depth_of_parents(const Node& node) {
  std::size_t deepest = 0;
  for (const auto& [segment, child] : node.children) {
    if (!child.children.empty()) deepest = std::max(deepest, depth_of_parents(child) + 1);
  }
  return deepest;
}

void PathTree::cut_at(Node& node, std::size_t depth) {
  if (depth == 0) {
    if (!node.children.empty()) cut(node, Cut::limit);
    return;
  }
  for (auto& [segment, child] : node.children) cut_at(child, depth - 1);
}

void PathTree::shrink(std::size_t nodes_max) {
  while (nodes_ > std::max<std::size_t>(nodes_max, 1)) cut_at(root_, depth_of_parents(root_));
}

void PathTree::collect(const Node& node, const std::string& path, std::vector<Rule>& out) {
  if (!node.exact.empty()) out.push_back({path, Cut::none, node.exact});
  if (node.cut != Cut::none) out.push_back({path + "/", node.cut, node.below});
  for (const auto& [segment, child] : node.children) collect(child, path + "/" + segment, out);
}

std::vector<PathTree::Rule> PathTree::rules() const {
  std::vector<Rule> out;
  collect(root_, "", out);
  std::ranges::sort(out, {}, [](const Rule& rule) { return std::tuple(std::string_view(rule.path), rule.cut); });
  return out;
}

}  // namespace sallyport::document
