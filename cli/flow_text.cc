#include "cli/flow_text.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"
#include "policy-engine/document/diagnostics.h"

extern char** environ;

namespace sallyport::cli {

namespace {

namespace api = flow::v1alpha1;
using document::printable;

constexpr std::chrono::seconds kDrawTimeout{60};
constexpr std::size_t kDrawingBytesMax = 64 << 20;

std::string count_of(std::uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// "3" → "up to 3", "2..5" → "2 to 5".
std::string count_text(const std::string& times) {
  const std::size_t dots = times.find("..");
  if (dots == std::string::npos) return times == "1" ? times : "up to " + times;
  const std::string least = times.substr(0, dots), most = times.substr(dots + 2);
  return least == most ? least : least + " to " + most;
}

std::string times_text(const std::string& times) {
  const std::string count = count_text(times);
  return count == "1" ? "once" : count + " times";
}

std::string request_text(const std::string& request, const std::string& action) {
  return printable(action.empty() ? request : request + " (" + action + ")");
}

template <class Step>
std::string step_text(const Step& step) {
  std::string out = request_text(step.request(), step.action());
  if (step.has_times()) out += ", " + times_text(printable(step.times()));
  return out;
}

std::string kind_text(const api::Node& node) {
  if (node.has_request()) return request_text(node.request(), node.action());
  if (node.group_size() > 0) return "in this order";
  if (node.set_size() > 0) return "in any order";
  return "again and again, " + times_text(printable(node.loop().total())) + " in all";
}

std::vector<std::string> steps_text(const api::Node& node) {
  std::vector<std::string> out;
  for (int i = 0; i < node.group_size(); ++i) out.push_back(std::to_string(i + 1) + ". " + step_text(node.group(i)));
  for (const api::Step& step : node.set()) out.push_back("- " + step_text(step));
  for (const api::LoopStep& step : node.loop().steps()) {
    std::string text = printable(step.name()) + ": " + step_text(step);
    std::string next;
    for (const std::string& name : step.next()) next += (next.empty() ? "" : ", ") + printable(name);
    if (!next.empty()) text += " → " + next;
    out.push_back(std::move(text));
  }
  return out;
}

std::string counters_text(const api::Node& node) {
  std::string out;
  if (node.has_times()) out += ", " + times_text(printable(node.times()));
  if (node.retries() > 0) out += ", each again " + times_text(std::to_string(node.retries())) + " if it fails";
  return out;
}

template <class Names>
std::string names_text(const Names& names) {
  std::string out;
  for (const std::string& name : names) {
    if (!out.empty()) out += ", ";
    out += name == "exit" ? "the end" : printable(name);
  }
  return out;
}

// What leads over an edge of an application graph, and to how many executions.
std::string edge_text(const api::Predecessor& edge) {
  std::string out = edge.has_through() ? request_text(edge.through(), edge.action()) : "sends to it itself";
  if (edge.has_leads_to()) out += ", to " + count_text(printable(edge.leads_to())) + " each";
  if (edge.redeliveries() > 0) out += ", " + std::to_string(edge.redeliveries()) + " more if tried again";
  if (edge.has_within()) out += ", within " + printable(edge.within());
  return out;
}

class Outline {
 public:
  explicit Outline(bool colour) : colour_(colour) {}

  std::string of(const api::FlowGraph& graph) {
    const api::FlowGraphSpec& spec = graph.spec();
    out_ = bold(printable(graph.metadata().name()));
    if (spec.has_function()) out_ += ", function " + printable(spec.function());
    if (spec.executions() > 0) out_ += ", learned from " + count_of(spec.executions(), "execution");
    out_ += '\n';
    if (spec.has_image_digest()) out_ += dim("image " + printable(spec.image_digest())) + "\n";
    out_ += "begins with " + names_text(spec.entry()) + "\n";
    for (const api::Node& node : spec.nodes()) add(node, spec.executions());
    return std::move(out_);
  }

  std::string of(const api::ApplicationGraph& graph) {
    const api::ApplicationGraphSpec& spec = graph.spec();
    out_ = bold(printable(spec.has_application() ? spec.application() : graph.metadata().name()));
    if (spec.executions() > 0) out_ += ", learned from " + count_of(spec.executions(), "execution");
    out_ += '\n';
    for (const api::ApplicationFunction& function : spec.functions()) {
      out_ += "\n" + bold(printable(function.name()));
      if (function.entry()) out_ += "  an entry";
      if (function.has_instances_max()) out_ += ", " + count_of(function.instances_max(), "instance") + " at most";
      out_ += '\n';
      for (const api::Predecessor& edge : function.after()) {
        out_ += "  " + dim("after") + " " + printable(edge.function()) + "  " + edge_text(edge);
        if (edge.support() > 0) out_ += "  " + seen(edge.support(), spec.executions());
        out_ += '\n';
      }
    }
    return std::move(out_);
  }

 private:
  std::string painted(const char* code, const std::string& text) const {
    return colour_ ? std::string("\x1b[") + code + "m" + text + "\x1b[0m" : text;
  }
  std::string bold(const std::string& text) const { return painted("1", text); }
  std::string dim(const std::string& text) const { return painted("2", text); }

  // What was seen once may have been an accident, or an attack: it is the first thing to look at.
  std::string seen(std::uint64_t support, std::uint64_t executions, const std::string& text) const {
    return support == 1 && executions != 1 ? painted("33", "seen once") : dim(text);
  }
  std::string seen(std::uint64_t support, std::uint64_t executions) const {
    return seen(support, executions, "seen " + count_of(support, "time"));
  }

  void add(const api::Node& node, std::uint64_t executions) {
    out_ += "\n" + bold(printable(node.name())) + "  " + kind_text(node) + counters_text(node);
    if (node.support() > 0) {
      const std::string of = executions > 0 ? " of " + std::to_string(executions) : "";
      out_ += "  " + seen(node.support(), executions, "seen in " + std::to_string(node.support()) + of);
    }
    out_ += '\n';
    for (const std::string& step : steps_text(node)) out_ += "  " + step + "\n";
    if (node.has_loop()) {
      out_ += "  first " + names_text(node.loop().starts()) + "; last " + names_text(node.loop().ends()) + "\n";
    }
    for (const std::string& redirect : node.redirects()) out_ += "  redirects to " + printable(redirect) + "\n";
    out_ += "  " + dim("→") + " " + names_text(node.next()) + "\n";
  }

  bool colour_;
  std::string out_;
};

// A text in Graphviz's double quotes; "\n" is its line end.
std::string label(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out + "\"";
}

Error broken(std::string text) { return {ErrorSource::internal, ErrorKind::invalid, std::move(text)}; }

struct Child {
  pid_t pid = -1;
  UniqueFd output;
};

// dot(1) with `input`, which is a file so that no pipe can fill up in both directions.
Result<Child> start_dot(int input) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return std::unexpected(broken(std::string("no pipe: ") + std::strerror(errno)));
  UniqueFd write_end(ends[1]);
  Child child;
  child.output.reset(ends[0]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  char program[] = "dot", format[] = "-Tsvg";
  char* const arguments[] = {program, format, nullptr};
  const int failed = ::posix_spawnp(&child.pid, program, &actions, nullptr, arguments, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed == ENOENT) {
    return fail(ErrorSource::internal, ErrorKind::unavailable,
                "the program dot is not here: install the package graphviz, or write -o dot and draw it elsewhere");
  }
  if (failed != 0) return std::unexpected(broken(std::string("dot cannot be started: ") + std::strerror(failed)));
  return child;
}

Result<std::string> read_all(int fd) {
  const auto deadline = std::chrono::steady_clock::now() + kDrawTimeout;
  std::string out;
  char block[65536];
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wanted{fd, POLLIN, 0};
    const int ready = left.count() > 0 ? ::poll(&wanted, 1, static_cast<int>(left.count())) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      return fail(ErrorSource::internal, ErrorKind::timeout,
                  "dot has drawn for " + std::to_string(kDrawTimeout.count()) + " seconds: the graph is too large");
    }
    const ssize_t count = ::read(fd, block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::unexpected(broken(std::string("dot's drawing cannot be read: ") + std::strerror(errno)));
    if (count == 0) return out;
    out.append(block, static_cast<std::size_t>(count));
    if (out.size() > kDrawingBytesMax) return std::unexpected(broken("dot's drawing is too large"));
  }
}

using Change = GraphDifference::Change;

// The fields of a node that decide something, as they are compared and shown.
std::map<std::string, std::string> facts_of(const api::Node& node) {
  std::map<std::string, std::string> out;
  std::vector<std::string> steps = steps_text(node);
  if (node.set_size() > 0) std::ranges::sort(steps);
  std::string what = node.has_loop() ? "" : kind_text(node);
  for (const std::string& step : steps) what += (what.empty() ? "" : "; ") + step;
  out["request"] = what;
  if (node.has_loop()) {
    std::set<std::string> starts(node.loop().starts().begin(), node.loop().starts().end());
    std::set<std::string> ends(node.loop().ends().begin(), node.loop().ends().end());
    out["starts"] = names_text(starts);
    out["ends"] = names_text(ends);
    out["total"] = printable(node.loop().total());
  }
  out["times"] = node.has_times() ? printable(node.times()) : "1";
  out["retries"] = std::to_string(node.retries());
  std::string redirects;
  for (const std::string& redirect : std::set<std::string>(node.redirects().begin(), node.redirects().end())) {
    redirects += (redirects.empty() ? "" : ", ") + printable(redirect);
  }
  out["redirects"] = redirects.empty() ? "none" : redirects;
  return out;
}

using Edges = std::set<std::pair<std::string, std::string>>;

Edges edges_of(const api::FlowGraphSpec& spec) {
  Edges out;
  for (const std::string& name : spec.entry()) out.emplace("entry", name);
  for (const api::Node& node : spec.nodes()) {
    for (const std::string& name : node.next()) out.emplace(node.name(), name);
  }
  return out;
}

std::map<std::string, const api::Node*> nodes_of(const api::FlowGraphSpec& spec) {
  std::map<std::string, const api::Node*> out;
  for (const api::Node& node : spec.nodes()) out.emplace(node.name(), &node);
  return out;
}

void compare_field(std::vector<GraphDifference>& out, const std::string& name, const std::string& from,
                   const std::string& to) {
  if (from == to) return;
  const auto shown = [](const std::string& text) { return text.empty() ? "none" : printable(text); };
  out.push_back({Change::changed, "graph", name, shown(from) + " → " + shown(to)});
}

}  // namespace

std::string outline_of(const api::FlowGraph& graph, bool colour) { return Outline(colour).of(graph); }
std::string outline_of(const api::ApplicationGraph& graph, bool colour) { return Outline(colour).of(graph); }

// Flows through a service are dashed: what leads to what is inferred there.
std::string drawing_of(const api::ApplicationGraph& graph) {
  const api::ApplicationGraphSpec& spec = graph.spec();
  std::string out = "digraph " + label(printable(graph.metadata().name())) +
                    " {\n  node [shape=box, fontname=\"sans-serif\", fontsize=11];\n"
                    "  edge [fontname=\"sans-serif\", fontsize=9];\n"
                    "  entry [shape=circle, label=\"\", style=filled, fillcolor=black, width=0.2];\n";
  std::map<std::string, std::string> ids;
  for (int i = 0; i < spec.functions_size(); ++i) ids.emplace(spec.functions(i).name(), "f" + std::to_string(i));
  for (const api::ApplicationFunction& function : spec.functions()) {
    const std::string& id = ids[function.name()];
    std::string text = printable(function.name());
    if (function.has_instances_max()) text += "\n" + count_of(function.instances_max(), "instance") + " at most";
    out += "  " + id + " [label=" + label(text) + "];\n";
    if (function.entry()) out += "  entry -> " + id + ";\n";
    for (const api::Predecessor& edge : function.after()) {
      std::string said = edge_text(edge);
      if (edge.support() == 1 && spec.executions() != 1) said += "\nseen once";
      out += "  " + ids[edge.function()] + " -> " + id + " [label=" + label(said) +
             (edge.has_through() ? ", style=dashed" : "") + "];\n";
    }
  }
  return out + "}\n";
}

std::string drawing_of(const api::FlowGraph& graph) {
  const api::FlowGraphSpec& spec = graph.spec();
  std::string out = "digraph " + label(printable(graph.metadata().name())) +
                    " {\n  node [shape=box, fontname=\"sans-serif\", fontsize=11];\n"
                    "  entry [shape=circle, label=\"\", style=filled, fillcolor=black, width=0.2];\n"
                    "  exit [shape=doublecircle, label=\"\", style=filled, fillcolor=black, width=0.15];\n";
  std::map<std::string, std::string> ids = {{"exit", "exit"}};
  for (int i = 0; i < spec.nodes_size(); ++i) ids.emplace(spec.nodes(i).name(), "n" + std::to_string(i));
  for (const api::Node& node : spec.nodes()) {
    std::string text = printable(node.name()) + "\n" + kind_text(node) + counters_text(node);
    for (const std::string& step : steps_text(node)) text += "\n" + step;
    const bool once = node.support() == 1 && spec.executions() != 1;
    if (once) text += "\nseen once";
    out += "  " + ids[node.name()] + " [label=" + label(text) + (once ? ", style=dashed" : "") + "];\n";
  }
  for (const std::string& name : spec.entry()) out += "  entry -> " + ids[name] + ";\n";
  for (const api::Node& node : spec.nodes()) {
    for (const std::string& name : node.next()) out += "  " + ids[node.name()] + " -> " + ids[name] + ";\n";
  }
  return out + "}\n";
}

Result<std::string> svg_of(const std::string& drawing) {
  UniqueFd input(::memfd_create("drawing", MFD_CLOEXEC));
  std::string_view rest = drawing;
  while (input && !rest.empty()) {
    const ssize_t count = ::write(input.get(), rest.data(), rest.size());
    if (count <= 0) break;
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
  if (!input || !rest.empty() || ::lseek(input.get(), 0, SEEK_SET) != 0) {
    return std::unexpected(broken(std::string("no memory for the drawing: ") + std::strerror(errno)));
  }
  Result<Child> child = start_dot(input.get());
  if (!child) return std::unexpected(std::move(child.error()));
  Result<std::string> svg = read_all(child->output.get());
  if (!svg) ::kill(child->pid, SIGKILL);
  int status = 0;
  while (::waitpid(child->pid, &status, 0) < 0 && errno == EINTR) {
  }
  // Half a drawing is none.
  if (svg && status != 0) return std::unexpected(broken("dot has failed; -o dot shows what it was given"));
  return svg;
}

std::vector<GraphDifference> differences(const api::FlowGraph& from, const api::FlowGraph& to) {
  std::vector<GraphDifference> out;
  const auto function = [](const api::FlowGraph& graph) {
    return graph.spec().has_function() ? graph.spec().function() : graph.metadata().name();
  };
  compare_field(out, "function", function(from), function(to));
  compare_field(out, "imageDigest", from.spec().image_digest(), to.spec().image_digest());

  const auto old_nodes = nodes_of(from.spec()), new_nodes = nodes_of(to.spec());
  for (const auto& [name, node] : old_nodes) {
    if (!new_nodes.contains(name)) {
      out.push_back({Change::removed, "node", name, facts_of(*node).at("request") + counters_text(*node)});
    }
  }
  for (const auto& [name, node] : new_nodes) {
    const auto old = old_nodes.find(name);
    std::map<std::string, std::string> after = facts_of(*node);
    if (old == old_nodes.end()) {
      out.push_back({Change::added, "node", name, after["request"] + counters_text(*node)});
      continue;
    }
    std::map<std::string, std::string> before = facts_of(*old->second);
    std::set<std::string> fields;
    for (const auto& [field, text] : before) fields.insert(field);
    for (const auto& [field, text] : after) fields.insert(field);
    for (const std::string& field : fields) {
      if (before[field] == after[field]) continue;
      const auto shown = [](const std::string& text) { return text.empty() ? "none" : text; };
      out.push_back({Change::changed, "node", name, field + ": " + shown(before[field]) + " → " + shown(after[field])});
    }
  }

  const Edges old_edges = edges_of(from.spec()), new_edges = edges_of(to.spec());
  for (const auto& edge : old_edges) {
    if (!new_edges.contains(edge)) out.push_back({Change::removed, "edge", edge.first + " → " + edge.second, ""});
  }
  for (const auto& edge : new_edges) {
    if (!old_edges.contains(edge)) out.push_back({Change::added, "edge", edge.first + " → " + edge.second, ""});
  }
  return out;
}

}  // namespace sallyport::cli
