// FlowGraph → YAML: as a new document, and over one that a person has commented.

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/yaml_tree.h"
#include "policy-engine/flow/graph_compiler.h"
#include "policy-engine/flow/graph_document.h"
#include "policy-engine/flow/yaml_scalar.h"

namespace sallyport::flow {

namespace {

namespace api = v1alpha1;
using Names = google::protobuf::RepeatedPtrField<std::string>;

std::string list_of(const Names& names) {
  std::string out = "[";
  for (const std::string& name : names) {
    if (out.size() > 1) out += ", ";
    out += scalar(name, true);
  }
  return out + "]";
}

// One line of the document. `path` says whose it is: "spec/entry", "node:load/times", "node:load/group/0/request".
struct Line {
  std::string indent, text, path;
};

class Renderer {
 public:
  std::vector<Line> render(const api::FlowGraph& document) {
    const api::FlowGraphSpec& spec = document.spec();
    field("", "apiVersion", document.api_version(), "");
    field("", "kind", document.kind(), "");
    put("", "metadata:", "metadata");
    field("  ", "name", document.metadata().name(), "metadata/");
    put("", "spec:", "spec");
    if (spec.has_function()) field("  ", "function", spec.function(), "spec/");
    if (spec.has_image_digest()) field("  ", "imageDigest", spec.image_digest(), "spec/");
    put("  ", "entry: " + list_of(spec.entry()), "spec/entry");
    if (spec.nodes_size() > 0) put("  ", "nodes:", "spec/nodes");
    for (const api::Node& node : spec.nodes()) render(node);
    if (spec.has_executions()) put("  ", "executions: " + std::to_string(spec.executions()), "spec/executions");
    return std::move(lines_);
  }

 private:
  void put(const std::string& indent, std::string text, std::string path) {
    lines_.push_back({indent, std::move(text), std::move(path)});
  }
  void field(const std::string& indent, const std::string& name, const std::string& value, const std::string& base) {
    // A number of times is one for YAML, too.
    const bool number = name.ends_with("times") || name.ends_with("total");
    const bool digits = value.find_first_not_of("0123456789") == std::string::npos && !value.empty();
    const std::string key = name.starts_with("- ") ? name.substr(2) : name;
    put(indent, name + ": " + (number && digits ? value : scalar(value, false)), base + key);
  }

  void render(const api::Node& node) {
    const std::string base = "node:" + node.name() + "/", in = "    ";
    field("  ", "- name", node.name(), base);
    if (node.has_request()) field(in, "request", node.request(), base);
    if (node.has_action()) field(in, "action", node.action(), base);
    render(node.group(), "group", base);
    render(node.set(), "set", base);
    if (node.has_loop()) render(node.loop(), base);
    if (node.has_times()) field(in, "times", node.times(), base);
    if (node.has_retries()) put(in, "retries: " + std::to_string(node.retries()), base + "retries");
    if (node.redirects_size() > 0) {
      put(in, "redirects:", base + "redirects");
      for (int i = 0; i < node.redirects_size(); ++i) {
        put(in, "- " + scalar(node.redirects(i), false), base + "redirects/" + std::to_string(i));
      }
    }
    put(in, "next: " + list_of(node.next()), base + "next");
    if (node.has_support()) put(in, "support: " + std::to_string(node.support()), base + "support");
  }

  void render(const google::protobuf::RepeatedPtrField<api::Step>& steps, const std::string& kind,
              const std::string& base) {
    if (!steps.empty()) put("    ", kind + ":", base + kind);
    for (int i = 0; i < steps.size(); ++i) {
      const std::string path = base + kind + "/" + std::to_string(i) + "/";
      field("    ", "- request", steps[i].request(), path);
      if (steps[i].has_action()) field("      ", "action", steps[i].action(), path);
      if (steps[i].has_times()) field("      ", "times", steps[i].times(), path);
    }
  }

  void render(const api::Loop& loop, const std::string& node) {
    const std::string base = node + "loop/", in = "      ", inner = "        ";
    put("    ", "loop:", node + "loop");
    put(in, "starts: " + list_of(loop.starts()), base + "starts");
    put(in, "ends: " + list_of(loop.ends()), base + "ends");
    put(in, "steps:", base + "steps");
    for (int i = 0; i < loop.steps_size(); ++i) {
      const api::LoopStep& step = loop.steps(i);
      const std::string path = base + "steps/" + std::to_string(i) + "/";
      field(in, "- name", step.name(), path);
      field(inner, "request", step.request(), path);
      if (step.has_action()) field(inner, "action", step.action(), path);
      if (step.has_times()) field(inner, "times", step.times(), path);
      if (step.next_size() > 0) put(inner, "next: " + list_of(step.next()), path + "next");
    }
    field(in, "total", loop.total(), base);
  }

  std::vector<Line> lines_;
};

// The nodes in an order in which edges lead forward; among those that could come next, by name. What lies on a cycle,
// which no good document has, comes last.
std::vector<std::string> topological(const api::FlowGraphSpec& spec) {
  std::map<std::string, std::set<std::string>> next;
  for (const api::Node& node : spec.nodes()) next[node.name()].insert(node.next().begin(), node.next().end());
  std::map<std::string, std::size_t> before;
  for (const auto& [name, all] : next) {
    before.try_emplace(name, 0);
    for (const std::string& to : all) {
      if (next.contains(to)) ++before[to];
    }
  }
  std::set<std::string> ready, rest;
  for (const auto& [name, count] : before) (count == 0 ? ready : rest).insert(name);
  std::vector<std::string> out;
  while (!ready.empty()) {
    const std::string name = *ready.begin();
    ready.erase(ready.begin());
    out.push_back(name);
    for (const std::string& to : next[name]) {
      if (!next.contains(to) || --before[to] > 0) continue;
      ready.insert(to);
      rest.erase(to);
    }
  }
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

void sort_names(Names& names, const std::map<std::string, std::size_t>& places) {
  const auto place = [&](const std::string& name) {
    const auto found = places.find(name);
    return std::pair(found == places.end() ? places.size() : found->second, name);
  };
  std::ranges::sort(names.begin(), names.end(), {}, place);
}

void order_nodes(api::FlowGraphSpec& spec, const std::map<std::string, std::size_t>& places) {
  std::sort(spec.mutable_nodes()->pointer_begin(), spec.mutable_nodes()->pointer_end(),
            [&](const api::Node* a, const api::Node* b) { return places.at(a->name()) < places.at(b->name()); });
}

std::map<std::string, std::size_t> places_of(const std::vector<std::string>& order) {
  std::map<std::string, std::size_t> out;
  for (std::size_t i = 0; i < order.size(); ++i) out.emplace(order[i], i);
  return out;
}

api::FlowGraph canonical(api::FlowGraph document) {
  if (!document.has_spec()) return document;
  api::FlowGraphSpec& spec = *document.mutable_spec();
  const auto places = places_of(topological(spec));
  order_nodes(spec, places);
  sort_names(*spec.mutable_entry(), places);
  for (api::Node& node : *spec.mutable_nodes()) sort_names(*node.mutable_next(), places);
  return document;
}

// What a person has written beside a line of a document: above it (also empty lines), and behind it.
struct Comments {
  std::vector<std::string> above;
  std::string behind;
};

class CommentReader {
 public:
  CommentReader(std::string_view text, const document::YamlNode& tree) : text_(text) { collect(tree, ""); }

  // By the path of the line that they belong to; "" for what stands behind everything.
  std::map<std::string, Comments> read() {
    std::map<std::string, Comments> out;
    std::vector<std::string> waiting;
    std::string last;
    int number = 0;
    for (std::string_view rest = text_; !rest.empty();) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      std::string_view line = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      const std::size_t hash = comment_at(line, ++number);
      const std::string_view content = line.substr(0, hash);
      const std::string comment = hash < line.size() ? std::string(line.substr(hash)) : "";
      if (content.find_first_not_of(" \t") == std::string_view::npos) {
        if (!in_quotes_) waiting.push_back(comment);
        continue;
      }
      if (const auto found = paths_.find(number); found != paths_.end()) {
        last = found->second;
        Comments& here = out[last];
        here.above.insert(here.above.end(), waiting.begin(), waiting.end());
        waiting.clear();
        here.behind = comment;
      } else if (!comment.empty()) {
        out[last].above.push_back(comment);  // behind a bracket that closes, or a lone dash
      }
    }
    while (!waiting.empty() && waiting.back().empty()) waiting.pop_back();
    if (!waiting.empty()) out[""].above = std::move(waiting);
    return out;
  }

 private:
  using Kind = document::YamlNode::Kind;

  // For each line the path of what begins first on it.
  void collect(const document::YamlNode& node, const std::string& base) {
    if (node.kind == Kind::scalar && !node.plain) quoted_.insert(node.place);
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      const document::YamlNode& item = node.items[i];
      std::string path;
      if (node.kind == Kind::map) {
        path = base + node.keys[i].text;
        paths_.emplace(node.keys[i].place.line, path);
        if (!node.keys[i].plain) quoted_.insert(node.keys[i].place);
      } else {
        path = base == "spec/nodes/" ? node_path(item, i) : base + std::to_string(i);
        if (item.kind == Kind::scalar) paths_.emplace(item.place.line, path);
      }
      collect(item, path + "/");
    }
  }

  static std::string node_path(const document::YamlNode& node, std::size_t index) {
    for (std::size_t i = 0; i < node.keys.size(); ++i) {
      if (node.keys[i].text == "name") return "node:" + node.items[i].text;
    }
    return "node:" + std::to_string(index);
  }

  // Where the comment of a line begins; its size where it has none. Quotes may go on over several lines.
  std::size_t comment_at(std::string_view line, int number) {
    for (std::size_t at = 0; at < line.size(); ++at) {
      const char c = line[at];
      if (in_quotes_) {
        if (quote_ == '"' && c == '\\') ++at;
        if (c == quote_) in_quotes_ = false;
        // '' within single quotes closes and opens them again.
        if (c == quote_ && c == '\'' && at + 1 < line.size() && line[at + 1] == c) in_quotes_ = true, ++at;
      } else if ((c == '\'' || c == '"') && quoted_.contains({number, static_cast<int>(at) + 1})) {
        in_quotes_ = true;
        quote_ = c;
      } else if (c == '#' && (at == 0 || line[at - 1] == ' ' || line[at - 1] == '\t')) {
        return at;
      }
    }
    return line.size();
  }

  std::string_view text_;
  std::map<int, std::string> paths_;  // by line
  std::set<document::Place> quoted_;  // where quotes open
  bool in_quotes_ = false;
  char quote_ = '"';
};

// Comments whose line is gone go to that of what it was part of; those of a node that is gone are gone with it.
void settle(std::map<std::string, Comments>& comments, const std::vector<Line>& lines) {
  constexpr std::string_view kName = "/name";
  std::set<std::string> own = {""}, named;
  for (const Line& line : lines) {
    own.insert(line.path);
    if (line.path.ends_with(kName)) named.insert(line.path.substr(0, line.path.size() - kName.size()));
  }
  std::map<std::string, Comments> out;
  for (auto& [path, found] : comments) {
    std::string to = path;
    while (!own.contains(to) && !named.contains(to) && to.find('/') != std::string::npos) to.resize(to.rfind('/'));
    if (!own.contains(to)) {
      if (!named.contains(to)) continue;
      to += kName;
    }
    Comments& here = out[to];
    here.above.insert(here.above.end(), found.above.begin(), found.above.end());
    if (to == path) {
      here.behind = found.behind;
    } else if (!found.behind.empty()) {
      here.above.push_back(found.behind);
    }
  }
  comments = std::move(out);
}

std::string text_of(const std::vector<Line>& lines, const std::map<std::string, Comments>& comments) {
  std::string out;
  const auto above = [&](const Comments& found, const std::string& indent) {
    for (const std::string& line : found.above) out += (line.empty() ? "" : indent + line) + "\n";
  };
  for (const Line& line : lines) {
    const auto found = comments.find(line.path);
    if (found != comments.end()) above(found->second, line.indent);
    out += line.indent + line.text;
    if (found != comments.end() && !found->second.behind.empty()) out += "  " + found->second.behind;
    out += '\n';
  }
  if (const auto found = comments.find(""); found != comments.end()) above(found->second, "");
  return out;
}

// Those that stand in the reviewed document in its order, each new one behind the last of those that lead to it.
std::vector<std::string> merged_order(const api::FlowGraphSpec& reviewed, const api::FlowGraphSpec& updated) {
  std::map<std::string, std::set<std::string>> before;
  std::set<std::string> all, old;
  for (const api::Node& node : updated.nodes()) {
    all.insert(node.name());
    for (const std::string& to : node.next()) before[to].insert(node.name());
  }
  std::vector<std::string> out;
  for (const api::Node& node : reviewed.nodes()) {
    if (all.contains(node.name()) && old.insert(node.name()).second) out.push_back(node.name());
  }
  for (const std::string& name : topological(updated)) {
    if (old.contains(name)) continue;
    std::size_t place = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (before[name].contains(out[i])) place = i + 1;
    }
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(place), name);
  }
  return out;
}

}  // namespace

std::string write_graph(const api::FlowGraph& document) { return text_of(Renderer().render(canonical(document)), {}); }

Result<std::string> write_graph_over(std::string_view reviewed_yaml, const api::FlowGraph& updated) {
  document::Diagnostics diagnostics("the reviewed graph");
  const auto tree = document::parse_yaml(reviewed_yaml, diagnostics);
  if (!tree) return fail(ErrorSource::policy, ErrorKind::invalid, diagnostics.take().front().to_string());
  const GraphLoad reviewed = load_graph(reviewed_yaml, "the reviewed graph");

  api::FlowGraph document = updated;
  order_nodes(*document.mutable_spec(), places_of(merged_order(reviewed.document.spec(), updated.spec())));
  const std::vector<Line> lines = Renderer().render(document);
  std::map<std::string, Comments> comments = CommentReader(reviewed_yaml, *tree).read();
  settle(comments, lines);
  std::string text = text_of(lines, comments);

  // Whatever the comments were, the graph must be the one that was asked for: else nothing is written.
  const GraphLoad again = load_graph(text, "the merged graph");
  if (!google::protobuf::util::MessageDifferencer::Equals(again.document, document)) {
    return fail(ErrorSource::internal, ErrorKind::invalid, "the comments of the reviewed graph cannot be kept");
  }
  return text;
}

}  // namespace sallyport::flow
