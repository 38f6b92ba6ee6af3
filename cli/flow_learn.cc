#include "cli/flow_learn.h"

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/read_file.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/flow/application_graph_document.h"
#include "policy-engine/flow/graph_document.h"
#include "policy-engine/flow/learn.h"
#include "policy-engine/flow/learn_application.h"
#include "policy-engine/flow/operation.h"
#include "policy-engine/flow/trace_file.h"
#include "proxy/guard/json.h"

namespace sallyport::cli {

namespace {

using flow::v1alpha1::Flow;
using flow::v1alpha1::Trace;

struct Flags {
  std::string graph;
  std::vector<std::string> traces;
  std::vector<std::string> after;
  std::string output;
  bool each = false, global = false;
  flow::LearnOptions options;
  flow::LearnApplicationOptions application;
};

int complain(const Error& error) {
  std::cerr << "sallyport: " << error.text << "\n";
  return kExitNotLearned;
}

std::string name_of(const std::string& file) { return file == "-" ? "stdin" : file; }

// A trace that was cut off is said, and is no error.
Result<void> read_all(const std::vector<std::string>& files, const flow::TakeTrace& take) {
  for (const std::string& file : files) {
    bool cut = false;
    if (auto read = flow::read_trace_file(file, take, cut); !read) return read;
    if (cut) std::cerr << "sallyport: " << name_of(file) << ": the last trace was cut off, and is left out\n";
  }
  return {};
}

void print_notes(const std::vector<flow::LearnNote>& notes) {
  for (const flow::LearnNote& note : notes) {
    std::cerr << "note: " << (note.node.empty() ? "" : note.node + ": ") << note.text << "\n";
  }
}

void print_notes(const flow::Learned& learned) {
  print_notes(learned.notes);
  std::cerr << "learned from " << learned.executions << (learned.executions == 1 ? " execution" : " executions") << ": "
            << learned.graph.spec().nodes_size() << " nodes\n";
}

int put_out(const std::string& text, const std::string& file) {
  if (file.empty()) {
    std::cout << text;
    return 0;
  }
  const auto written = write_file(file, text);
  return written ? 0 : complain(written.error());
}

// "resize=PUT uploads.example.com/{uuid}", into its two parts. False: it is not of this form.
bool read_after(const std::vector<std::string>& texts, flow::LearnApplicationOptions& options) {
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) return false;
    options.after.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return true;
}

int learn_application(const Flags& flags) {
  flow::LearnApplicationOptions options = flags.application;
  options.lcp_threshold = flags.options.lcp_threshold;
  options.exact_counts = flags.options.exact_counts;
  if (options.application.empty() || !flags.options.function.empty()) {
    std::cerr << "sallyport: --global needs --application NAME, and learns from all functions (no --function)\n";
    return kExitNotLearned;
  }
  if (!read_after(flags.after, options)) {
    std::cerr << "sallyport: --after has the form FUNCTION='METHOD URL'\n";
    return kExitNotLearned;
  }
  flow::ApplicationLearner learner(std::move(options));
  if (auto read = read_all(flags.traces, [&](Trace&& trace) { return learner.add(std::move(trace)); }); !read) {
    return complain(read.error());
  }
  const auto learned = learner.finish();
  if (!learned) return complain(learned.error());
  print_notes(learned->notes);
  const auto& spec = learned->graph.spec();
  std::cerr << "learned from " << spec.executions() << (spec.executions() == 1 ? " execution: " : " executions: ")
            << spec.functions_size() << " functions\n";
  return put_out(flow::write_application_graph(learned->graph), flags.output);
}

int learn(const Flags& flags) {
  if (flags.global) return learn_application(flags);
  flow::Learner learner(flags.options);
  if (auto read = read_all(flags.traces, [&](Trace&& trace) { return learner.add(std::move(trace)); }); !read) {
    return complain(read.error());
  }
  const auto learned = learner.finish();
  if (!learned) return complain(learned.error());
  print_notes(*learned);
  return put_out(flow::write_graph(learned->graph), flags.output);
}

int merge(const Flags& flags) {
  const auto text = read_file(flags.graph, limits::kPolicyBytesMax);
  if (!text) return complain(text.error());
  const flow::GraphLoad reviewed = flow::load_graph(*text, name_of(flags.graph));
  for (const document::Diagnostic& diagnostic : reviewed.diagnostics) std::cerr << diagnostic.to_string() << "\n";
  if (reviewed.graph == nullptr) return kExitNotLearned;
  std::vector<Trace> traces;
  const auto keep = [&](Trace&& trace) -> Result<void> {
    traces.push_back(std::move(trace));
    return {};
  };
  if (auto read = read_all(flags.traces, keep); !read) return complain(read.error());
  const auto merged = flow::merge(reviewed.document, std::move(traces), flags.options);
  if (!merged) return complain(merged.error());
  print_notes(*merged);
  const auto written = flow::write_graph_over(*text, merged->graph);
  return written ? put_out(*written, flags.output) : complain(written.error());
}

// What is told of all the traces of one function.
struct Summary {
  std::uint64_t executions = 0, incomplete = 0, mixed = 0, flows = 0, failed = 0, denied = 0;
  std::set<std::string> images;
  std::set<std::string> requests;  // different ones, as far as they are counted
};
constexpr std::size_t kRequestsCountedMax = 10'000;

std::string text_of(const Flow& flow) {
  const auto& operation = flow.operation();
  return document::printable(to_string(
      flow::Operation{operation.method(), operation.host(), operation.path(), operation.query(), operation.action()}));
}

void count(const Trace& trace, std::map<std::string, Summary>& summaries) {
  Summary& summary = summaries[trace.function()];
  ++summary.executions;
  summary.incomplete += trace.end() == flow::v1alpha1::EXECUTION_END_COMPLETE ? 0 : 1;
  summary.mixed += trace.attributed() ? 0 : 1;
  summary.images.insert(trace.image_digest());
  for (const Flow& flow : trace.flows()) {
    ++summary.flows;
    summary.failed += flow.end() == flow::v1alpha1::FLOW_END_FAILED ? 1 : 0;
    summary.denied += flow.end() == flow::v1alpha1::FLOW_END_DENIED ? 1 : 0;
    if (summary.requests.size() < kRequestsCountedMax) summary.requests.insert(text_of(flow));
  }
}

double milliseconds(const google::protobuf::Duration& at) {
  return static_cast<double>(at.seconds()) * 1e3 + at.nanos() / 1e6;
}

std::string_view end_of(const Trace& trace) {
  switch (trace.end()) {
    case flow::v1alpha1::EXECUTION_END_COMPLETE:
      return "complete";
    case flow::v1alpha1::EXECUTION_END_TIMEOUT:
      return "timed out";
    case flow::v1alpha1::EXECUTION_END_CUT:
      return "cut off";
    default:
      return "without an end";  // also what a newer guard may write
  }
}

std::string_view end_of(const Flow& flow) {
  switch (flow.end()) {
    case flow::v1alpha1::FLOW_END_FAILED:
      return "failed";
    case flow::v1alpha1::FLOW_END_DENIED:
      return "denied";
    default:
      return "";
  }
}

std::string decimal(double value) {
  char text[32];
  const int size = std::snprintf(text, sizeof text, "%.1f", value);
  return {text, static_cast<std::size_t>(size)};
}

void print_trace(const Trace& trace) {
  std::cout << (trace.execution().empty() ? "-" : document::printable(trace.execution())) << " "
            << document::printable(trace.function()) << ", " << trace.flows_size() << " flows in "
            << decimal(milliseconds(trace.duration())) << " ms, " << end_of(trace)
            << (trace.attributed() ? "" : ", mixed with others") << "\n";
  for (const Flow& flow : trace.flows()) {
    std::cout << "  " << decimal(milliseconds(flow.began())) << "-" << decimal(milliseconds(flow.ended())) << " ms  "
              << text_of(flow) << "  "
              << (end_of(flow).empty() ? std::to_string(flow.status()) : std::string(end_of(flow)));
    if (flow.has_redirect()) {
      Flow there;
      *there.mutable_operation() = flow.redirect();
      std::cout << " → " << text_of(there);
    }
    std::cout << "\n";
  }
}

std::string requests_text(const Summary& summary) {
  return (summary.requests.size() == kRequestsCountedMax ? "at least " : "") + std::to_string(summary.requests.size());
}

void print_text(const std::map<std::string, Summary>& summaries) {
  for (const auto& [function, summary] : summaries) {
    std::cout << document::printable(function) << ": " << summary.executions << " executions (" << summary.incomplete
              << " incomplete, " << summary.mixed << " mixed with others) of " << summary.images.size()
              << (summary.images.size() == 1 ? " image, " : " images, ") << summary.flows << " flows ("
              << summary.failed << " failed, " << summary.denied << " denied), " << requests_text(summary)
              << " different requests\n";
  }
}

void print_json(const std::map<std::string, Summary>& summaries) {
  std::string out = "{\"functions\": [";
  for (const auto& [function, summary] : summaries) {
    out += out.ends_with('[') ? "\n  {\"function\": " : ",\n  {\"function\": ";
    guard::append_json_string(out, function);
    const std::pair<std::string_view, std::uint64_t> counts[] = {
        {"executions", summary.executions}, {"incomplete", summary.incomplete},
        {"mixed", summary.mixed},           {"images", summary.images.size()},
        {"flows", summary.flows},           {"failed", summary.failed},
        {"denied", summary.denied},         {"requests", summary.requests.size()}};
    for (const auto& [name, value] : counts) {
      out += ", \"" + std::string(name) + "\": " + std::to_string(value);
    }
    out += "}";
  }
  std::cout << out << "\n]}\n";
}

int list(const Flags& flags) {
  std::map<std::string, Summary> summaries;
  const auto take = [&](Trace&& trace) -> Result<void> {
    count(trace, summaries);
    if (flags.each) print_trace(trace);
    return {};
  };
  const auto read = read_all(flags.traces, take);
  // What stands before a mistake is told in any case: it may be why somebody looks.
  if (flags.output == "json") {
    print_json(summaries);
  } else {
    print_text(summaries);
  }
  return read ? 0 : complain(read.error());
}

void add_options(CLI::App& command, Flags& flags) {
  command.add_option("TRACES", flags.traces, "Files of traces; - reads standard input")->required();
  command.add_option("-o,--output", flags.output, "The file to write; default: standard output");
  command.add_option("--function", flags.options.function, "The function to learn, if there are traces of several");
  command.add_flag("--exact-counts", flags.options.exact_counts, "Allow no more repetitions than were seen");
  command.add_option("--lcp-threshold", flags.options.lcp_threshold,
                     "Put more different names than these at one place together (default 3)");
  command
      .add_option("--retries", flags.options.retries, "Retries that are allowed also where none were seen (default 2)")
      ->check(CLI::Range(0, 100));
}

}  // namespace

void add_flow_learn_commands(CLI::App& flow, int& exit_code) {
  const auto flags = std::make_shared<Flags>();

  CLI::App* learn_command =
      flow.add_subcommand("learn", "Learn a function's flow graph from traces, or an application's graph");
  add_options(*learn_command, *flags);
  CLI::Option* global =
      learn_command->add_flag("--global", flags->global, "Learn which function may follow which, from traces of all");
  learn_command->add_option("-a,--application", flags->application.application, "The application that they are of")
      ->type_name("NAME")
      ->needs(global);
  learn_command
      ->add_option(
          "--entry", flags->application.entries,
          "A function that messages from outside begin, each of them; default: those that nothing comes before")
      ->type_name("FUNCTION")
      ->allow_extra_args(false)
      ->needs(global);
  learn_command
      ->add_option("--after", flags->after,
                   "A request that leads to a function, where times do not tell which one does")
      ->type_name("FUNCTION=REQUEST")
      ->allow_extra_args(false)
      ->needs(global);
  learn_command
      ->add_option("--redeliveries", flags->application.redeliveries,
                   "How often services may try again what nobody waits for (default 2)")
      ->check(CLI::Range(std::uint32_t{0}, limits::kRedeliveriesMax))
      ->needs(global);
  learn_command->callback([flags, &exit_code] { exit_code = learn(*flags); });
  learn_command->footer(
      "Examples:\n  sallyport flow learn traces.jsonl -o thumbnailer.graph.yaml\n"
      "  sallyport app traces -a shop | sallyport flow learn --global -a shop - -o shop.graph.yaml\n"
      "Notes on standard error say what to look at before the graph is trusted. Exit code: 0, or 1 if nothing was "
      "learned.");

  CLI::App* merge_command = flow.add_subcommand("merge", "Add what new traces show to a graph that was reviewed");
  merge_command->add_option("GRAPH", flags->graph, "The graph")->required();
  add_options(*merge_command, *flags);
  merge_command->callback([flags, &exit_code] { exit_code = merge(*flags); });
  merge_command->footer(
      "Example:\n  sallyport flow merge thumbnailer.graph.yaml new.jsonl -o thumbnailer.graph.yaml\n"
      "Names, patterns and comments of the graph stay. Exit code: 0, or 1 if nothing was written.");

  CLI::App* traces_command = flow.add_subcommand("traces", "List the executions in files of traces");
  traces_command->add_option("FILE", flags->traces, "Files of traces; - reads standard input")->required();
  traces_command->add_option("-o,--output", flags->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  traces_command->add_flag("-v,--verbose", flags->each, "Each execution with its flows, before the counts");
  traces_command->callback([flags, &exit_code] { exit_code = list(*flags); });
  traces_command->footer(
      "Example:\n  sallyport flow traces -v traces.jsonl\nExit code: 0, or 1 if a file is no file of traces.");
}

}  // namespace sallyport::cli
