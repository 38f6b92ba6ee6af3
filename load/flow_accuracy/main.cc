// How accurate learned flow graphs are, as the paper measures it (figure 7): rounds of an application that graphs are
// learned from against false refusals in its other rounds, and which attacks the graphs refuse.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <iostream>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/read_file.h"
#include "load/flow_accuracy/attacks.h"
#include "load/flow_accuracy/models.h"
#include "load/flow_accuracy/recorded.h"
#include "load/flow_accuracy/reference.h"
#include "load/flow_accuracy/replay.h"
#include "policy-engine/flow/trace_file.h"

namespace sallyport::flow_accuracy {
namespace {

struct Flags {
  std::size_t rounds = 1'000;
  std::size_t orders = 20;
  std::vector<std::size_t> learned = {1, 2, 3, 5, 8, 12, 16, 20, 25, 50, 100, 250, 500};
  std::size_t attacks = 360;  // on each application, at least
  unsigned seed = 1;
  std::vector<std::string> names;
  std::vector<std::string> traces;
  std::string entry;
  std::string folder;
  bool covering = false;
  bool verbose = false;
};

constexpr std::size_t kFewRounds = 25;  // after which there should be no false refusals
// Of a model, so many times the rounds are drawn to know what is benign: what is rare is no attack.
constexpr std::size_t kReferenceTimes = 10;

using Lines = std::set<std::pair<std::string, std::string>>;  // of a function

void add_lines(const Round& round, Lines& lines) {
  for (const Execution& execution : round) {
    lines.emplace(execution.trace.function(), "");
    for (const std::string& line : execution.lines) lines.emplace(execution.trace.function(), line);
    if (execution.lines.empty()) lines.emplace(execution.trace.function(), "nothing is sent");
  }
}

struct Curve {
  double mean = 0, worst = 0;  // share of rounds refused
  double unseen = 0;           // of these, the share that ran a line of code that no learned round did
  std::size_t clean = 0;       // orders without any
};

// Words with digits in them as "#", so that what failed alike is told once.
std::string without_data(std::string_view text) {
  constexpr std::size_t kBytesMax = 200;
  const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  std::string out;
  while (!text.empty() && out.size() < kBytesMax) {
    const auto end = static_cast<std::size_t>(std::ranges::find_if_not(text, is_word) - text.begin());
    const std::string_view word = text.substr(0, std::max<std::size_t>(end, 1));
    out += word.find_first_of("0123456789") == std::string_view::npos ? word : "#";
    text.remove_prefix(word.size());
  }
  return out;
}

// One point of the figure, over several random orders.
class Measurement {
 public:
  Measurement(const std::vector<Round>& rounds, const Flags& flags) : rounds_(rounds), flags_(flags) {}

  Curve measure(std::size_t learned) {
    Curve out;
    std::size_t failed_in_all = 0, unseen = 0;
    for (std::size_t order = 0; order < flags_.orders; ++order) {
      const std::size_t failed = failures(learned, order, unseen);
      const double share = static_cast<double>(failed) / static_cast<double>(rounds_.size() - learned);
      failed_in_all += failed;
      out.mean += share / static_cast<double>(flags_.orders);
      out.worst = std::max(out.worst, share);
      out.clean += failed == 0 ? 1 : 0;
    }
    if (failed_in_all > 0) out.unseen = static_cast<double>(unseen) / static_cast<double>(failed_in_all);
    return out;
  }

  void print_reasons() const {
    std::size_t shown = 0;
    for (const auto& [reason, count] : reasons_) {
      if (++shown <= 40) std::printf("    %zu× %s\n", count, reason.c_str());
    }
  }

 private:
  std::size_t failures(std::size_t learned, std::size_t order, std::size_t& unseen) {
    std::vector<std::size_t> shuffled(rounds_.size());
    std::iota(shuffled.begin(), shuffled.end(), 0);
    std::mt19937 random(flags_.seed + 1'000 + static_cast<unsigned>(order));
    std::ranges::shuffle(shuffled, random);
    if (flags_.covering) put_covering_first(shuffled);
    const std::vector<std::size_t> first(shuffled.begin(), shuffled.begin() + static_cast<std::ptrdiff_t>(learned));
    const Graphs graphs = learn(rounds_, first);
    Lines seen;
    for (const std::size_t i : first) add_lines(rounds_[i], seen);
    std::size_t failed = 0;
    for (std::size_t i = learned; i < shuffled.size(); ++i) {
      const Round& round = rounds_[shuffled[i]];
      const std::string failure = failure_of(graphs, round);
      if (failure.empty()) continue;
      ++failed;
      Lines here;
      add_lines(round, here);
      const bool is_new = !std::ranges::includes(seen, here);
      unseen += is_new ? 1 : 0;
      if (learned >= kFewRounds) {
        ++reasons_[std::to_string(learned) + (is_new ? " (unseen line): " : ": ") + without_data(failure)];
      }
    }
    return failed;
  }

  // Those that show a line which none before them did come first, as a tenant's test cases cover all paths (S40).
  void put_covering_first(std::vector<std::size_t>& order) const {
    Lines seen;
    std::vector<std::size_t> first, others;
    for (const std::size_t i : order) {
      const std::size_t before = seen.size();
      add_lines(rounds_[i], seen);
      (seen.size() > before ? first : others).push_back(i);
    }
    order = std::move(first);
    order.insert(order.end(), others.begin(), others.end());
  }

  const std::vector<Round>& rounds_;
  const Flags& flags_;
  std::map<std::string, std::size_t> reasons_;
};

// Whether it is as it should be: after 25 rounds and more hardly any other is refused that does nothing new.
bool print_curve(const std::vector<Round>& rounds, const Flags& flags) {
  constexpr double kRefusedMax = 0.05;
  bool good = true;
  Measurement measurement(rounds, flags);
  std::printf("  learned   refused: mean   worst order   for a line not seen   orders without\n");
  for (const std::size_t learned : flags.learned) {
    if (learned >= rounds.size()) continue;
    const Curve curve = measurement.measure(learned);
    std::printf("  %7zu   %11.3f %%   %9.2f %%   %17.0f %%   %8zu of %zu\n", learned, 100 * curve.mean,
                100 * curve.worst, 100 * curve.unseen, curve.clean, flags.orders);
    good &= learned < kFewRounds || curve.mean * (1 - curve.unseen) <= kRefusedMax;
  }
  if (flags.verbose) measurement.print_reasons();
  return good;
}

struct Score {
  std::size_t refused = 0, tried = 0;
};

// Detection, by kind of attack.
class Detection {
 public:
  explicit Detection(const Graphs& graphs) : graphs_(graphs) {}

  void look(const Attack& attack) {
    const auto graph = graphs_.find(attack.execution.trace.function());
    // A function of which nothing was learned may send nothing.
    const bool refused = graph == graphs_.end() || !refusal_of(graph->second, attack.execution.trace).empty();
    for (Score* score : {&by_kind_[attack.kind], &all_}) {
      score->refused += refused ? 1 : 0;
      ++score->tried;
    }
    if (refused) return;
    std::string lines;
    for (const std::string& line : attack.execution.lines) lines += " " + line;
    constexpr std::size_t kLinesBytes = 160;
    ++missed_[attack.execution.trace.function() + ", " + attack.kind + ":" + lines.substr(0, kLinesBytes)];
  }

  const Score& of(const std::string& kind) { return by_kind_[kind]; }
  const Score& all() const { return all_; }
  void print_missed() const {
    std::size_t shown = 0;
    for (const auto& [what, count] : missed_) {
      if (++shown <= 25) std::printf("      missed %zu× %s\n", count, what.c_str());
    }
  }

 private:
  const Graphs& graphs_;
  std::map<std::string, Score> by_kind_;
  Score all_;
  std::map<std::string, std::size_t> missed_;
};

using ByFunction = std::map<std::string, std::vector<const Execution*>>;

ByFunction by_function(const std::vector<Round>& rounds) {
  ByFunction out;
  for (const Round& round : rounds) {
    for (const Execution& execution : round) out[execution.trace.function()].push_back(&execution);
  }
  return out;
}

std::vector<Attack> attacks(const ByFunction& benign, std::map<std::string, Reference>& references,
                            const Flags& flags) {
  std::mt19937 random(flags.seed);
  const std::size_t places = benign.size() * attack_kinds().size();
  std::vector<Attack> out;
  // More until there are enough: not every function leaves room for each kind.
  for (std::size_t each = (flags.attacks + places - 1) / places; out.size() < flags.attacks; each *= 2) {
    out.clear();
    for (const auto& [function, executions] : benign) {
      auto some = attacks_on(executions, references[function], each, random);
      std::ranges::move(some, std::back_inserter(out));
    }
  }
  return out;
}

std::string text_of(const Score& score) {
  return score.tried == 0 ? "–" : std::to_string(score.refused) + " of " + std::to_string(score.tried);
}

// Whether it is as it should be: a graph of all the rounds without headroom lets hardly any through.
bool print_attacks(const std::vector<Round>& rounds, std::map<std::string, Reference>& references, const Flags& flags) {
  std::vector<std::size_t> all(rounds.size());
  std::iota(all.begin(), all.end(), 0);
  const std::vector<std::size_t> few(all.begin(),
                                     all.begin() + static_cast<std::ptrdiff_t>(std::min(kFewRounds, all.size())));
  flow::LearnOptions exact;
  exact.exact_counts = true;
  const Graphs of_few = learn(rounds, few), of_all = learn(rounds, all), of_all_exact = learn(rounds, all, exact);
  Detection detections[] = {Detection(of_few), Detection(of_all), Detection(of_all_exact)};
  for (const Attack& attack : attacks(by_function(rounds), references, flags)) {
    for (Detection& detection : detections) detection.look(attack);
  }
  std::printf("  attacks refused by the graph of   %6zu rounds      %6zu rounds      these, exact counts\n", few.size(),
              all.size());
  const auto print = [](const std::string& name, const Score& a, const Score& b, const Score& c) {
    std::printf("    %-28s %17s %17s %20s\n", name.c_str(), text_of(a).c_str(), text_of(b).c_str(), text_of(c).c_str());
  };
  for (const std::string& kind : attack_kinds()) {
    print(kind, detections[0].of(kind), detections[1].of(kind), detections[2].of(kind));
  }
  print("all", detections[0].all(), detections[1].all(), detections[2].all());
  if (flags.verbose) {
    for (const Detection& detection : detections) detection.print_missed();
  }
  constexpr double kRefusedMin = 0.98;
  const Score& all_of_it = detections[2].all();
  return static_cast<double>(all_of_it.refused) >= kRefusedMin * static_cast<double>(all_of_it.tried);
}

// The paper's third class: functions that are called without their predecessors, from the middle of an application, or
// twice. Each execution by itself is benign.
void print_application_attacks(const std::vector<Round>& rounds, const Flags& flags) {
  std::vector<std::size_t> all(rounds.size());
  std::iota(all.begin(), all.end(), 0);
  const Graphs graphs = learn(rounds, all);
  std::mt19937 random(flags.seed);
  std::map<std::string, Score> scores;
  for (std::size_t i = 0; i < flags.attacks; ++i) {
    const Round& round = rounds[random() % rounds.size()];
    const std::size_t at = random() % round.size();
    const auto from = round.begin() + static_cast<std::ptrdiff_t>(at);
    const std::pair<std::string, Round> made[] = {
        {"without its predecessor", {*from}}, {"from the middle", Round(from, round.end())}, {"twice", {*from, *from}}};
    const auto& [kind, attack] = made[i % std::size(made)];
    scores[kind].refused += failure_of(graphs, attack).empty() ? 0 : 1;
    ++scores[kind].tried;
  }
  std::printf("  attacks of the application's flow alone, which no graph of one function can see\n");
  for (const auto& [kind, score] : scores) std::printf("    %-28s %17s\n", kind.c_str(), text_of(score).c_str());
}

void print_size(const std::string& name, const std::vector<Round>& rounds) {
  std::size_t executions = 0, flows = 0;
  for (const Round& round : rounds) {
    executions += round.size();
    for (const Execution& execution : round) flows += execution.lines.size();
  }
  std::printf("%s: %zu rounds, %zu functions, %zu executions, %zu flows\n", name.c_str(), rounds.size(),
              by_function(rounds).size(), executions, flows);
}

void add_to(std::map<std::string, Reference>& references, const Round& round) {
  for (const Execution& execution : round) references[execution.trace.function()].add(without_noise(execution));
}

void write_traces(const std::vector<Round>& rounds, const std::string& file) {
  std::string bytes;
  for (const Round& round : rounds) {
    for (const Execution& execution : round) {
      append_trace(bytes, execution.trace, flow::TraceForm::json_lines, bytes.empty());
    }
  }
  if (auto written = write_file(file, bytes); !written) std::cerr << written.error().text << "\n";
}

bool evaluate(const Model& model, const Flags& flags) {
  std::mt19937 random(flags.seed);
  std::vector<Round> rounds;
  std::map<std::string, Reference> references;
  for (std::size_t i = 0; i < flags.rounds; ++i) rounds.push_back(model.round(random));
  for (const Round& round : rounds) add_to(references, round);
  for (std::size_t i = 0; i < kReferenceTimes * flags.rounds; ++i) add_to(references, model.round(random));
  if (!flags.folder.empty()) write_traces(rounds, flags.folder + "/" + model.name + ".jsonl");
  print_size(model.name, rounds);
  const bool accepts = print_curve(rounds, flags), refuses = print_attacks(rounds, references, flags);
  print_application_attacks(rounds, flags);
  std::printf("\n");
  std::fflush(stdout);
  return accepts && refuses;
}

bool evaluate_rounds(const std::string& name, const std::vector<Round>& rounds, const Flags& flags) {
  std::map<std::string, Reference> references;
  for (const Round& round : rounds) add_to(references, round);
  print_size(name, rounds);
  const bool accepts = print_curve(rounds, flags), refuses = print_attacks(rounds, references, flags);
  std::printf("\n");
  std::fflush(stdout);
  return accepts && refuses;
}

bool evaluate_recorded(const Flags& flags) {
  const auto functions = read_rounds(flags.traces);
  if (!functions) {
    std::cerr << functions.error().text << "\n";
    return false;
  }
  if (!flags.entry.empty()) return evaluate_rounds(flags.entry, rounds_from(*functions, flags.entry), flags);
  bool good = true;
  for (const auto& [function, rounds] : *functions) good &= evaluate_rounds(function, rounds, flags);
  return good;
}

bool run(const Flags& flags) {
  if (!flags.traces.empty()) return evaluate_recorded(flags);
  bool good = true;
  for (const Model& model : models()) {
    const bool wanted = flags.names.empty() || std::ranges::find(flags.names, model.name) != flags.names.end();
    if (wanted) good &= evaluate(model, flags);
  }
  return good;
}

}  // namespace
}  // namespace sallyport::flow_accuracy

int main(int argc, char** argv) {
  sallyport::flow_accuracy::Flags flags;
  CLI::App app("How accurate learned flow graphs are");
  app.add_option("--rounds", flags.rounds, "Rounds of each application")->check(CLI::Range(2, 100'000));
  app.add_option("--orders", flags.orders, "Random orders in which rounds are learned")->check(CLI::Range(1, 1'000));
  app.add_option("--learned", flags.learned, "Numbers of rounds to learn from")->delimiter(',');
  app.add_flag("--covering", flags.covering, "Learn first from rounds that show something new, as test cases would");
  app.add_option("--attacks", flags.attacks, "Attacks on each application, at least");
  app.add_option("--seed", flags.seed, "Of all that is random");
  app.add_option("--model", flags.names, "Only these applications");
  app.add_option("--traces", flags.traces, "Files of traces, instead of the models; each execution is a round");
  app.add_option("--entry", flags.entry,
                 "With --traces: a round is what comes from one execution of this function to the next");
  app.add_option("--write", flags.folder, "A folder to write the models' traces to");
  app.add_flag("--verbose", flags.verbose, "Say what was refused wrongly, and which attacks were not");
  CLI11_PARSE(app, argc, argv);
  const bool good = sallyport::flow_accuracy::run(flags);
  if (!good) std::cerr << "more was refused wrongly, or let through, than should be: see --verbose\n";
  return good ? 0 : 1;
}
