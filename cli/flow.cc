#include "cli/flow.h"

#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/read_file.h"
#include "cli/flow_text.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/flow/application_graph_document.h"
#include "policy-engine/flow/document_header.h"
#include "policy-engine/flow/graph_document.h"
#include "policy-engine/flow/replay.h"
#include "policy-engine/flow/trace_file.h"
#include "proxy/guard/json.h"

namespace sallyport::cli {

namespace {

using flow::ApplicationGraphLoad;
using flow::GraphLoad;
using flow::Replay;
using Outcome = Replay::Outcome;

struct Flags {
  std::vector<std::string> files;
  std::string file, other;
  std::string output = "text";
  std::size_t shown = 20;
};

std::string name_of(const std::string& file) { return file == "-" ? "stdin" : file; }

// Nothing after the mistake has been printed.
std::optional<std::string> read(const std::string& file) {
  auto text = read_file(file, limits::kPolicyBytesMax);
  if (text) return std::move(*text);
  std::cerr << "sallyport: " << text.error().text << "\n";
  return std::nullopt;
}

// As it was loaded, after the diagnostics have been printed: there may be warnings, too.
template <class Load>
Load told(Load load) {
  for (const document::Diagnostic& diagnostic : load.diagnostics) std::cerr << diagnostic.to_string() << "\n";
  return load;
}

GraphLoad load(const std::string& file) {
  const auto text = read(file);
  return text ? told(flow::load_graph(*text, name_of(file))) : GraphLoad();
}

std::string count_of(std::size_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string summary_of(const GraphLoad& load) {
  const auto& spec = load.document.spec();
  auto edges = static_cast<std::size_t>(spec.entry_size());
  for (const auto& node : spec.nodes()) edges += static_cast<std::size_t>(node.next_size());
  std::string out =
      load.graph->function() + ": " + count_of(load.graph->node_count(), "node") + ", " + count_of(edges, "edge");
  if (spec.executions() > 0) out += ", learned from " + count_of(spec.executions(), "execution");
  return out;
}

std::string summary_of(const ApplicationGraphLoad& load) {
  const auto& spec = load.document.spec();
  std::string out = load.graph->application() + ": " + count_of(load.graph->function_count(), "function") + ", " +
                    count_of(load.graph->edges().size(), "edge");
  if (spec.executions() > 0) out += ", learned from " + count_of(spec.executions(), "execution");
  return out;
}

template <class Load>
bool check(const Load& load, const std::string& file) {
  if (load.graph) std::cout << name_of(file) << ": good: " << summary_of(load) << "\n";
  return load.graph != nullptr;
}

int check(const Flags& flags) {
  int code = 0;
  for (const std::string& file : flags.files) {
    const auto text = read(file);
    const bool good = text && (flow::kind_of(*text) == flow::kApplicationGraphKind
                                   ? check(told(flow::load_application_graph(*text, name_of(file))), file)
                                   : check(told(flow::load_graph(*text, name_of(file))), file));
    if (!good) code = kExitBadGraph;
  }
  return code;
}

bool terminal_has_colours() {
  const char* terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

template <class Load>
int show(const Load& result, const Flags& flags) {
  if (!result.graph) return kExitBadGraph;
  if (flags.output == "text") {
    std::cout << outline_of(result.document, terminal_has_colours());
  } else if (flags.output == "dot") {
    std::cout << drawing_of(result.document);
  } else if (flags.output == "json") {
    google::protobuf::util::JsonPrintOptions options;
    options.add_whitespace = true;
    std::string text;
    if (!google::protobuf::util::MessageToJsonString(result.document, &text, options).ok()) return kExitBadGraph;
    std::cout << text;
  } else {
    const auto svg = svg_of(drawing_of(result.document));
    if (!svg) {
      std::cerr << "sallyport: " << svg.error().text << "\n";
      return kExitBadGraph;
    }
    std::cout << *svg;
  }
  return 0;
}

int show(const Flags& flags) {
  const auto text = read(flags.file);
  if (!text) return kExitBadGraph;
  const std::string name = name_of(flags.file);
  return flow::kind_of(*text) == flow::kApplicationGraphKind
             ? show(told(flow::load_application_graph(*text, name)), flags)
             : show(told(flow::load_graph(*text, name)), flags);
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += out.ends_with('{') ? "\"" : ", \"";
  out += name;
  out += "\": ";
  guard::append_json_string(out, value);
}

void append_field(std::string& out, std::string_view name, std::size_t value) {
  out += out.ends_with('{') ? "\"" : ", \"";
  out += name;
  out += "\": " + std::to_string(value);
}

const char* word_of(GraphDifference::Change change) {
  switch (change) {
    case GraphDifference::Change::added:
      return "added";
    case GraphDifference::Change::removed:
      return "removed";
    case GraphDifference::Change::changed:
      return "changed";
  }
  return "";
}

void print_differences(const std::vector<GraphDifference>& found, bool colour) {
  for (const GraphDifference& one : found) {
    const bool added = one.change == GraphDifference::Change::added;
    const bool removed = one.change == GraphDifference::Change::removed;
    const char* paint = added ? "\x1b[32m" : removed ? "\x1b[31m" : "\x1b[33m";
    std::cout << (colour ? paint : "")
              << (added     ? "+ "
                  : removed ? "- "
                            : "~ ")
              << one.what << " " << document::printable(one.name) << (one.text.empty() ? "" : ": ") << one.text
              << (colour ? "\x1b[0m" : "") << "\n";
  }
}

int diff(const Flags& flags) {
  const GraphLoad from = load(flags.file), to = load(flags.other);
  if (!from.graph || !to.graph) return kExitNotTold;
  const std::vector<GraphDifference> found = differences(from.document, to.document);
  if (flags.output == "json") {
    std::string out = "{";
    append_field(out, "old", name_of(flags.file));
    append_field(out, "new", name_of(flags.other));
    out += ", \"differences\": [";
    for (const GraphDifference& one : found) {
      std::string line = "{";
      append_field(line, "change", word_of(one.change));
      append_field(line, "what", one.what);
      append_field(line, "name", one.name);
      append_field(line, "text", one.text);
      out += (out.ends_with('[') ? "\n  " : ",\n  ") + line + "}";
    }
    std::cout << out << "\n]}\n";
  } else {
    print_differences(found, terminal_has_colours());
  }
  return found.empty() ? 0 : kExitDifferent;
}

// One execution that would not pass, with what a person needs to find it.
struct Finding {
  std::string file, execution;
  std::size_t number = 0;  // of the trace in its file, from 1
  int flows = 0;
  Replay replay;
};

struct Tally {
  std::array<std::size_t, 4> outcomes{};  // by Outcome
  std::vector<Finding> findings;          // at most as many as are shown
  std::vector<std::string> notes;         // why traces were left out, each once

  std::size_t of(Outcome outcome) const { return outcomes[static_cast<std::size_t>(outcome)]; }
  std::size_t judged() const { return of(Outcome::allowed) + of(Outcome::refused) + of(Outcome::incomplete); }
};

bool replay_file(const std::string& file, const Flags& flags, const GraphLoad& graph, Tally& tally) {
  constexpr std::size_t kNotesMax = 8;
  std::size_t number = 0;
  bool cut = false;
  const auto take = [&](flow::v1alpha1::Trace&& trace) -> Result<void> {
    Finding found{name_of(file), trace.execution(), ++number, trace.flows_size(), replay(graph.graph, trace)};
    ++tally.outcomes[static_cast<std::size_t>(found.replay.outcome)];
    if (found.replay.outcome == Outcome::left_out) {
      const std::string note = name_of(file) + ", trace " + std::to_string(number) + ": " + found.replay.why;
      if (tally.notes.size() < kNotesMax) tally.notes.push_back(note);
    } else if (found.replay.outcome != Outcome::allowed && tally.findings.size() < flags.shown) {
      tally.findings.push_back(std::move(found));
    }
    return {};
  };
  const auto read = flow::read_trace_file(file, take, cut);
  if (!read) std::cerr << "sallyport: " << read.error().text << "\n";
  if (cut) std::cerr << "sallyport: " << name_of(file) << ": the last trace is cut off and left out\n";
  return read.has_value();
}

void print_finding(const Finding& finding) {
  const Replay& replay = finding.replay;
  const bool refused = replay.outcome == Outcome::refused;
  std::cout << (refused ? "refused     " : "incomplete  ") << document::printable(finding.file) << ", trace "
            << finding.number;
  if (!finding.execution.empty()) std::cout << ", execution " << document::printable(finding.execution);
  std::cout << "\n";
  if (refused) {
    std::cout << "            request " << replay.flow + 1 << " of " << finding.flows << ": "
              << document::printable(replay.request) << "\n";
  }
  std::cout << "            expected: " << document::printable(replay.expected)
            << "\n            stood at: " << replay.at << "\n";
}

std::string share_of(std::size_t part, std::size_t all) {
  char text[64];
  std::snprintf(text, sizeof text, "%zu (%.1f %%)", part,
                all == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(all));
  return text;
}

void print_text(const Tally& tally) {
  for (const Finding& finding : tally.findings) print_finding(finding);
  const std::size_t wrong = tally.of(Outcome::refused) + tally.of(Outcome::incomplete), all = tally.judged();
  if (wrong > tally.findings.size()) std::cout << "…           and " << wrong - tally.findings.size() << " more\n";
  std::cout << count_of(all, "execution") << ": " << share_of(tally.of(Outcome::allowed), all) << " allowed, "
            << share_of(tally.of(Outcome::refused), all) << " refused, " << share_of(tally.of(Outcome::incomplete), all)
            << " incomplete\n";
  if (tally.of(Outcome::left_out) == 0) return;
  std::cout << tally.of(Outcome::left_out) << " left out:\n";
  for (const std::string& note : tally.notes) std::cout << "  " << document::printable(note) << "\n";
  if (tally.of(Outcome::left_out) > tally.notes.size()) std::cout << "  …\n";
}

void print_json(const Tally& tally, const std::string& graph) {
  std::string out = "{";
  append_field(out, "graph", graph);
  append_field(out, "executions", tally.judged());
  append_field(out, "allowed", tally.of(Outcome::allowed));
  append_field(out, "refused", tally.of(Outcome::refused));
  append_field(out, "incomplete", tally.of(Outcome::incomplete));
  append_field(out, "leftOut", tally.of(Outcome::left_out));
  out += ", \"findings\": [";
  for (const Finding& finding : tally.findings) {
    std::string line = "{";
    append_field(line, "outcome", finding.replay.outcome == Outcome::refused ? "refused" : "incomplete");
    append_field(line, "file", finding.file);
    append_field(line, "trace", finding.number);
    append_field(line, "execution", finding.execution);
    if (finding.replay.outcome == Outcome::refused) {
      append_field(line, "flow", static_cast<std::size_t>(finding.replay.flow) + 1);
    }
    append_field(line, "flows", static_cast<std::size_t>(finding.flows));
    append_field(line, "request", finding.replay.request);
    append_field(line, "expected", finding.replay.expected);
    append_field(line, "at", finding.replay.at);
    out += (out.ends_with('[') ? "\n  " : ",\n  ") + line + "}";
  }
  std::cout << out << "\n]}\n";
}

int test(const Flags& flags) {
  const GraphLoad graph = load(flags.file);
  if (!graph.graph) return kExitNotTold;
  Tally tally;
  bool read = true;
  for (const std::string& file : flags.files) read &= replay_file(file, flags, graph, tally);
  if (flags.output == "json") {
    print_json(tally, name_of(flags.file));
  } else {
    print_text(tally);
  }
  // What could not be read could hold an execution that would be refused.
  if (!read) return kExitNotTold;
  if (tally.judged() == 0) {
    std::cerr << "sallyport: no trace could be tried\n";
    return kExitNotTold;
  }
  return tally.judged() == tally.of(Outcome::allowed) ? 0 : kExitDifferent;
}

void add_output(CLI::App& command, Flags& flags, const std::string& words, std::vector<std::string> allowed) {
  command.add_option("-o,--output", flags.output, words)->check(CLI::IsMember(std::move(allowed)));
}

}  // namespace

CLI::App* add_flow_command(CLI::App& app, int& exit_code) {
  CLI::App* flow = app.add_subcommand("flow", "Look at flow graphs, and try executions against them");
  flow->require_subcommand(1);
  const auto flags = std::make_shared<Flags>();

  CLI::App* check_command =
      flow->add_subcommand("check", "Say everything that is wrong with flow graphs and application graphs");
  check_command->add_option("FILE", flags->files, "The graphs; - reads standard input")->required();
  check_command->callback([flags, &exit_code] { exit_code = check(*flags); });
  check_command->footer("Example:\n  sallyport flow check graph.yaml\nExit code: 0, or 1 if there is an error.");

  CLI::App* show_command =
      flow->add_subcommand("show", "Show a flow graph or an application graph: as an outline, or drawn");
  show_command->add_option("FILE", flags->file, "The graph; - reads standard input")->required();
  add_output(*show_command, *flags, "text, dot, svg (with Graphviz) or json", {"text", "dot", "svg", "json"});
  show_command->callback([flags, &exit_code] { exit_code = show(*flags); });
  show_command->footer(
      "Example:\n  sallyport flow show graph.yaml -o svg > graph.svg\nExit code: 0, or 1 if it cannot be shown.");

  CLI::App* diff_command = flow->add_subcommand("diff", "Say what is different between two flow graphs");
  diff_command->add_option("OLD", flags->file, "A graph; - reads standard input")->required();
  diff_command->add_option("NEW", flags->other, "Another graph")->required();
  add_output(*diff_command, *flags, "text or json", {"text", "json"});
  diff_command->callback([flags, &exit_code] { exit_code = diff(*flags); });
  diff_command->footer(
      "Example:\n  sallyport flow diff graph.yaml learned.yaml\n"
      "Exit code: 0 if there is no difference, 1 if there is one, 2 if a graph is wrong.");

  CLI::App* test_command = flow->add_subcommand("test", "Say which executions a flow graph would refuse, and why");
  test_command->add_option("GRAPH", flags->file, "The graph; - reads standard input")->required();
  test_command->add_option("TRACES", flags->files, "Files of traces")->required();
  test_command->add_option("-n,--max", flags->shown, "Show so many of them")->capture_default_str();
  add_output(*test_command, *flags, "text or json", {"text", "json"});
  test_command->callback([flags, &exit_code] { exit_code = test(*flags); });
  test_command->footer(
      "Example:\n  sallyport flow test graph.yaml traces.jsonl\n"
      "Exit code: 0 if all pass, 1 if one is refused or incomplete, 2 if the graph or a file of traces is wrong.");
  return flow;
}

}  // namespace sallyport::cli
