#include "policy-engine/flow/graph_symbols.h"

#include <algorithm>
#include <utility>

namespace sallyport::flow {

namespace {

constexpr std::string_view kPlain = "http://";

bool is_exact(const std::vector<Piece>& pieces) {
  return std::ranges::all_of(pieces, [](const Piece& piece) { return !piece.literal.empty(); });
}

std::string literal_of(const std::vector<Piece>& pieces) { return pieces.empty() ? std::string() : pieces[0].literal; }

// The pieces of each segment; one more than there are separators.
std::vector<std::vector<Piece>> split(const std::vector<Piece>& pieces, char separator) {
  std::vector<std::vector<Piece>> out(1);
  for (const Piece& piece : pieces) {
    if (piece.literal.empty()) {
      out.back().push_back(piece);
      continue;
    }
    std::string_view rest = piece.literal;
    while (true) {
      const std::size_t end = rest.find(separator);
      if (const std::string_view part = rest.substr(0, end); !part.empty()) {
        out.back().push_back({std::string(part), Class::any});
      }
      if (end == std::string_view::npos) break;
      out.emplace_back();
      rest.remove_prefix(end + 1);
    }
  }
  return out;
}

}  // namespace

std::uint32_t& SegmentIndex::at(std::vector<Piece> pieces, bool open, Part part) {
  if (!open && is_exact(pieces)) return exact_.at(literal_of(pieces), kNone);
  std::string prefix;
  if (!pieces.empty() && !pieces.front().literal.empty()) {
    prefix = std::move(pieces.front().literal);
    pieces.erase(pieces.begin());
  }
  if (std::ranges::find(prefix_sizes_, prefix.size()) == prefix_sizes_.end()) {
    prefix_sizes_.push_back(prefix.size());
    std::ranges::sort(prefix_sizes_, std::greater<>());
  }
  std::vector<Partial>& same = partial_.at(prefix, {});
  const auto order = [&](const Partial& other) { return compare_pieces(other.rest, other.open, pieces, open, part); };
  const auto place = std::ranges::find_if(same, [&](const Partial& other) { return order(other) >= 0; });
  if (place != same.end() && order(*place) == 0) return place->value;
  return same.insert(place, Partial{std::move(pieces), open, kNone})->value;
}

std::uint32_t& SegmentTree::at(const std::vector<Piece>& pieces, bool open) {
  std::vector<std::vector<Piece>> segments = split(pieces, separator_of(part_));
  nodes_[0].used = true;
  std::uint32_t at = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const bool last = i + 1 == segments.size();
    std::uint32_t& value = nodes_[at].index.at(std::move(segments[i]), open && last, part_);
    if (open && last) return value;
    if (value == SegmentIndex::kNone) {
      value = static_cast<std::uint32_t>(nodes_.size());
      at = value;  // before the reference is gone
      nodes_.emplace_back();
    } else {
      at = value;
    }
  }
  return nodes_[at].value;
}

std::uint32_t& SymbolIndex::host_of(const Pattern& pattern) {
  if (!is_exact(pattern.host)) return (pattern.plain_http ? plain_hosts_ : hosts_).at(pattern.host, false);
  return (pattern.plain_http ? exact_plain_hosts_ : exact_hosts_).at(literal_of(pattern.host), kNone);
}

std::uint32_t& SymbolIndex::path_of(HostEntry& host, const Pattern& pattern) {
  if (pattern.open_path || !is_exact(pattern.path)) return host.paths.at(pattern.path, pattern.open_path);
  return host.exact_paths.try_emplace(literal_of(pattern.path), kNone).first->second;
}

void SymbolIndex::add(const Pattern& pattern, std::uint32_t symbol) {
  std::uint32_t& host = host_of(pattern);
  if (host == kNone) {
    host = static_cast<std::uint32_t>(host_entries_.size());
    host_entries_.emplace_back();
  }
  std::uint32_t& path = path_of(host_entries_[host], pattern);
  if (path == kNone) {
    path = static_cast<std::uint32_t>(leaves_.size());
    leaves_.emplace_back();
  }
  SegmentIndex& queries = leaves_[path].queries.at({pattern.method, pattern.action}, {});
  queries.at(pattern.query, pattern.any_query, Part::query) = symbol;
}

template <class Visit>
bool SymbolIndex::each_path(const HostEntry& host, std::string_view path, std::string_view query, const Label& label,
                            Visit& visit) const {
  const auto at_leaf = [&](std::uint32_t leaf) {
    const SegmentIndex* queries = leaves_[leaf].queries.find(label);
    if (queries == nullptr) return false;
    return queries->each(query, query, Part::query, [&](std::uint32_t symbol, bool) { return visit(symbol); });
  };
  if (!host.exact_paths.empty()) {  // else the path would be hashed for nothing
    if (const auto found = host.exact_paths.find(path); found != host.exact_paths.end() && at_leaf(found->second)) {
      return true;
    }
  }
  return host.paths.each(path, at_leaf);
}

template <class Visit>
bool SymbolIndex::each(const Operation& operation, Visit&& visit) const {
  if (is_plain(operation.path) && is_plain(operation.query)) return each_plain(operation, visit);
  return each_escaped(operation, visit);
}

// Apart, as it takes 200 KB of the stack, and hardly any request needs them.
template <class Visit>
[[gnu::noinline]] bool SymbolIndex::each_escaped(const Operation& operation, Visit& visit) const {
  const PlainText path(operation.path), query(operation.query);
  // Longer than any target that this program would send: it matches nothing.
  if (!path.fits() || !query.fits()) return false;
  Operation plain = operation;
  plain.path = path.view();
  plain.query = query.view();
  return each_plain(plain, visit);
}

template <class Visit>
bool SymbolIndex::each_plain(const Operation& operation, Visit& visit) const {
  std::string_view host = operation.host;
  const bool plain = host.starts_with(kPlain);
  if (plain) host.remove_prefix(kPlain.size());
  const Label label{operation.method, operation.action};
  const auto at_host = [&](std::uint32_t entry) {
    return each_path(host_entries_[entry], operation.path, operation.query, label, visit);
  };
  const auto& exact = plain ? exact_plain_hosts_ : exact_hosts_;
  if (const auto* found = exact.find(host); found != nullptr && at_host(*found)) return true;
  return (plain ? plain_hosts_ : hosts_).each(host, at_host);
}

std::uint32_t SymbolIndex::find(const Operation& operation) const {
  std::uint32_t found = kNone;
  each(operation, [&](std::uint32_t symbol) {
    found = symbol;
    return true;
  });
  return found;
}

std::vector<std::uint32_t> SymbolIndex::find_all(const Operation& operation) const {
  std::vector<std::uint32_t> found;
  each(operation, [&](std::uint32_t symbol) {
    found.push_back(symbol);
    return false;
  });
  return found;
}

}  // namespace sallyport::flow
