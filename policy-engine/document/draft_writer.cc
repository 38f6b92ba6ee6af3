// Draft::to_yaml: from what was seen to a document.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "policy-engine/document/draft.h"
#include "policy-engine/document/names.h"
#include "policy-engine/document/yaml_tree.h"
#include "policy-engine/request/host.h"

namespace sallyport::document {

namespace {

constexpr std::size_t kNameBytesMax = 63;

// A YAML scalar that means exactly `text`: plain where no reader could take it for something else.
std::string scalar(std::string_view text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-";
  const bool plain = !text.empty() && text.front() != '-' && text.find_first_not_of(kPlain) == std::string_view::npos;
  const bool null = text == "null" || text == "Null" || text == "NULL";
  if (plain && !null && plain_type(text) == PlainType::string) return std::string(text);
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

std::string times(std::uint64_t count, const char* noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// Text for a comment: one line, printable.
std::string comment_text(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 100)) out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

// A label from any text: what cannot stand in one becomes '-'.
std::string label_of(std::string_view text, std::size_t bytes_max) {
  std::string out;
  for (const char c : text.substr(0, bytes_max)) {
    const bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z', digit = c >= '0' && c <= '9';
    if (upper) out += static_cast<char>(c - 'A' + 'a');
    if (lower || digit || c == '.') out += c;
    if (!lower && !upper && !digit && c != '.') out += '-';
  }
  while (!out.empty() && (out.back() == '-' || out.back() == '.')) out.pop_back();
  out.erase(0, std::min(out.find_first_not_of("-."), out.size()));
  return out.empty() ? "unnamed" : out;
}

std::string_view reason_of(PathTree::Cut cut) {
  switch (cut) {
    case PathTree::Cut::none:
      return "";
    case PathTree::Cut::identifier:
      return "; generalised: what follows looks like identifiers";
    case PathTree::Cut::siblings:
      return "; generalised: many different paths follow";
    case PathTree::Cut::limit:
      return "; generalised: more was seen than a draft keeps";
  }
  return "";
}

}  // namespace

class DraftWriter {
 public:
  explicit DraftWriter(const Draft& draft) : draft_(draft) {}

  std::string write(std::string_view function, std::string_view created) {
    // Comments and the largest head fit into this beside the endpoints.
    constexpr std::size_t kRoomForHead = 4'096;
    constexpr std::size_t kRoom = limits::kPolicyBytesMax - kRoomForHead;
    std::size_t paths_max = limits::kDraftPathsPerEndpointMax;
    render(paths_max);
    while (bytes() > kRoom && largest_tree_ > 1) {
      paths_max = std::min(paths_max, largest_tree_) / 2;
      render(paths_max);
    }
    const std::uint64_t left_out = draft_.left_out_ + drop_least_seen(kRoom);
    std::string out = head(function, created, left_out);
    for (const Block& block : blocks_) out += block.text;
    return out;
  }

 private:
  struct Block {
    std::string text;
    std::uint64_t count = 0;
  };

  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const Block& block : blocks_) sum += block.text.size();
    return sum;
  }

  // Returns how many exchanges are left out with them.
  std::uint64_t drop_least_seen(std::size_t bytes_max) {
    std::vector<Block*> by_count;
    for (Block& block : blocks_) by_count.push_back(&block);
    std::ranges::sort(by_count, {}, [](const Block* block) { return std::pair(block->count, block); });
    std::size_t size = bytes();
    std::uint64_t dropped = 0;
    for (Block* block : by_count) {
      if (size <= bytes_max) break;
      size -= block->text.size();
      dropped += block->count;
      block->text.clear();
    }
    std::erase_if(blocks_, [](const Block& block) { return block.text.empty(); });
    return dropped;
  }

  std::string head(std::string_view function, std::string_view created, std::uint64_t left_out) const {
    const std::string name = is_subdomain(function) ? std::string(function) : dots_removed(label_of(function, 63));
    std::string out = "# A policy draft, written by sallyport from what was seen until " + comment_text(created) +
                      ".\n# It allows what happened, and that may be more than what should happen: read it, cut it "
                      "down, then enforce it.\n";
    if (left_out > 0) {
      out +=
          "# Left out, as no policy can say it, no draft should, or there was no room: " + times(left_out, "exchange") +
          ".\n";
    }
    out += "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata:\n  name: " + scalar(name) +
           "\nspec:\n  mode: enforce\n  endpoints:";
    return out + (blocks_.empty() ? " []\n" : "\n");
  }

  static std::string dots_removed(std::string text) {
    std::ranges::replace(text, '.', '-');
    return text;
  }

  void render(std::size_t paths_max) {
    blocks_.clear();
    names_.clear();
    numbers_.clear();
    largest_tree_ = 0;
    for (const auto& [key, place] : draft_.places_) {
      const auto& [host, port] = key;
      if (place.uninspected > 0) {
        render_uninspected(host, port, place);
        continue;
      }
      for (const request::Scheme scheme : {request::Scheme::http, request::Scheme::https}) {
        const Draft::Spoken& spoken = place.by_scheme[static_cast<std::size_t>(scheme)];
        if (spoken.count > 0) render_inspected(host, port, scheme, place, spoken, paths_max);
      }
    }
  }

  void render_uninspected(const std::string& host, std::uint16_t port, const Draft::Place& place) {
    std::uint64_t count = place.uninspected;
    for (const Draft::Spoken& spoken : place.by_scheme) count += spoken.count;
    const bool tcp = place.tcp > 0;
    std::string out = "  # " + times(count, "connection") + ", at least one of them " +
                      (tcp ? "neither TLS nor HTTP" : "not HTTP or not inspected") + "\n";
    out += opening(host, port, request::Scheme::https);
    out += tcp ? "    protocol: tcp\n" : "    inspection: none\n";
    out += addresses(host, place);
    const auto literal = request::IpAddress::parse(host);
    if (tcp && literal && request::special_range(*literal).empty()) {
      if (place.addresses.empty()) out += "    addresses:\n";
      out += "    - " + scalar(host) + "\n";
    }
    blocks_.push_back({std::move(out), count});
  }

  void render_inspected(const std::string& host, std::uint16_t port, request::Scheme scheme, const Draft::Place& place,
                        const Draft::Spoken& spoken, std::size_t paths_max) {
    std::string out = "  # " + times(spoken.count, "request") + "\n" + opening(host, port, scheme);
    if (scheme == request::Scheme::http) out += "    scheme: http\n";
    out += addresses(host, place);
    if (spoken.encoded_slashes) out += "    allowEncodedSlashes: true  # seen in paths\n";
    out += "    rules:\n";
    PathTree paths = spoken.paths;
    paths.shrink(paths_max);
    largest_tree_ = std::max(largest_tree_, paths.size());
    for (const PathTree::Rule& rule : paths.rules()) out += render_rule(rule);
    blocks_.push_back({std::move(out), spoken.count});
  }

  std::string opening(const std::string& host, std::uint16_t port, request::Scheme scheme) {
    const bool http = scheme == request::Scheme::http;
    const bool usual = port == (http ? 80 : 443);
    std::string suffix = http ? "-http" : "";
    if (!usual) suffix += "-" + std::to_string(port);
    std::string out = "  - name: " + scalar(unique_name(host, suffix)) + "\n    host: " + scalar(host) + "\n";
    if (!usual) out += "    ports: [" + std::to_string(port) + "]\n";
    return out;
  }

  std::string unique_name(const std::string& host, const std::string& suffix) {
    std::string name = label_of(host, kNameBytesMax - suffix.size()) + suffix;
    if (names_.insert(name).second) return name;
    // Long hosts are cut to the same name in thousands: each search goes on where the last one for it ended.
    int& number = numbers_.emplace(name, 1).first->second;
    while (true) {
      const std::string more = suffix + "-" + std::to_string(++number);
      std::string numbered = label_of(host, kNameBytesMax - more.size()) + more;
      if (names_.insert(numbered).second) return numbered;
    }
  }

  static std::string addresses(const std::string& host, const Draft::Place& place) {
    AddressSet seen = place.addresses;
    if (const auto literal = request::IpAddress::parse(host)) seen.add(*literal);
    if (seen.empty()) return {};
    std::string out = "    addresses:  # review: nothing on the public Internet has these\n";
    for (const AddressSet::Range& range : seen.ranges()) {
      out += "    - " + scalar(range.cidr) + "  # " + range.kind + "\n";
    }
    return out;
  }

  static std::string render_rule(const PathTree::Rule& rule) {
    std::string methods;
    for (const auto& [method, count] : rule.methods.by_name()) {
      if (!methods.empty()) methods += ", ";
      methods += scalar(method);
    }
    if (rule.methods.any()) methods = "any";
    const char* kind = rule.cut == PathTree::Cut::none ? "exact" : "prefix";
    std::string out = "    - {methods: [" + methods + "], path: {" + kind + ": " + scalar(rule.path) + "}}  # " +
                      times(rule.methods.total(), "request") + std::string(reason_of(rule.cut));
    if (rule.methods.any()) out += "; generalised: methods that a policy does not name";
    return out + "\n";
  }

  const Draft& draft_;
  std::vector<Block> blocks_;
  std::set<std::string> names_;
  std::map<std::string, int> numbers_;  // by name: the last that was put behind it
  std::size_t largest_tree_ = 0;        // of the last render, in nodes
};

std::string Draft::to_yaml(std::string_view function, std::string_view created) const {
  return DraftWriter(*this).write(function, created);
}

}  // namespace sallyport::document
