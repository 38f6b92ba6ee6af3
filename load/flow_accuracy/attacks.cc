#include "load/flow_accuracy/attacks.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

namespace sallyport::flow_accuracy {

namespace {

using flow::v1alpha1::Flow;
using flow::v1alpha1::Operation;

constexpr int kTries = 20;  // for each attack: not every execution leaves room for every kind

class Attacker {
 public:
  Attacker(const std::vector<const Execution*>& benign, const Reference& reference, std::mt19937& random)
      : reference_(reference), random_(random) {
    for (const Execution* execution : benign) benign_.push_back(without_noise(*execution));
  }

  Execution new_bucket() {
    return with_requests(1, [&](Operation& operation) {
      operation.set_method("PUT");
      operation.set_host("backup-" + std::to_string(random_() % 10'000) + ".s3.us-east-1.amazonaws.com");
      operation.set_path("/dump.gz");
    });
  }
  Execution new_host() {
    return with_requests(1, [&](Operation& operation) {
      operation.set_method("POST");
      operation.set_host("collect-" + std::to_string(random_() % 10'000) + ".attacker.example");
      operation.set_path("/in");
    });
  }
  Execution mining() {
    return with_requests(1 + random_() % 20, [&](Operation& operation) {
      operation.set_method("POST");
      operation.set_host("http://pool.attacker.example:3333");
      operation.set_path("/submit");
    });
  }

  // One request is another: of the same host, with another action, method or constant part of its key.
  Execution swapped_action() {
    return changed([&](Operation& operation, const std::string&) {
      if (operation.action().empty()) return false;
      const std::size_t dot = operation.action().rfind('.');
      const std::string before = dot == std::string::npos ? "" : operation.action().substr(0, dot + 1);
      operation.set_action(before + (random_() % 2 == 0 ? "DeleteEverything" : "ListSecrets"));
      return true;
    });
  }
  Execution swapped_method() {
    return changed([&](Operation& operation, const std::string&) {
      operation.set_method(operation.method() == "DELETE" ? "PUT" : "DELETE");
      return true;
    });
  }
  Execution swapped_key() {
    return changed([&](Operation& operation, const std::string& line) {
      std::vector<std::string> segments = segments_of(operation.path());
      const std::size_t at = segments.empty() ? 0 : random_() % segments.size();
      if (segments.empty() || !reference_.has_constant(line, at)) return false;
      segments[at] = "private";
      std::string path;
      for (const std::string& segment : segments) path += "/" + segment;
      operation.set_path(path);
      return true;
    });
  }

  // A line more often than in any execution; how often is the attacker's choice.
  Execution too_many() {
    Execution out = one();
    if (out.lines.empty()) return out;
    const std::size_t at = random_() % out.lines.size();
    const Flow flow = out.trace.flows(static_cast<int>(at));
    const std::string line = out.lines[at];
    std::size_t more = 1 + random_() % 3;
    for (; more > 0 || reference_.difference(out).empty(); more -= more > 0 ? 1 : 0) insert(out, at + 1, flow, line);
    return out;
  }

  Execution out_of_order() {
    Execution out = one();
    if (out.lines.size() < 2) return out;
    const std::size_t a = random_() % (out.lines.size() - 1), b = a + 1 + random_() % (out.lines.size() - a - 1);
    const Flow flow = out.trace.flows(static_cast<int>(b));
    const std::string line = out.lines[b];
    remove(out, b, b + 1);
    insert(out, a, flow, line);
    return out;
  }

  // All that the execution did, once more.
  Execution replayed() {
    const Execution once = one();
    Execution out = once;
    for (int i = 0; i < once.trace.flows_size(); ++i) {
      insert(out, out.lines.size(), once.trace.flows(i), once.lines[static_cast<std::size_t>(i)]);
    }
    return out;
  }

  // Code that is entered behind its first checks, that jumps over some, or that is left before its last step.
  Execution entered_late() {
    Execution out = one();
    if (out.lines.size() > 1) remove(out, 0, 1 + random_() % (out.lines.size() - 1));
    return out;
  }
  Execution jumped_over() {
    Execution out = one();
    if (out.lines.size() < 3) return out;
    const std::size_t from = 1 + random_() % (out.lines.size() - 2);
    remove(out, from, from + 1 + random_() % (out.lines.size() - 1 - from));
    return out;
  }
  Execution left_early() {
    Execution out = one();
    if (!out.lines.empty()) remove(out, random_() % out.lines.size(), out.lines.size());
    return out;
  }

 private:
  Execution one() { return benign_[random_() % benign_.size()]; }

  static void remove(Execution& out, std::size_t from, std::size_t to) {
    out.trace.mutable_flows()->DeleteSubrange(static_cast<int>(from), static_cast<int>(to - from));
    out.lines.erase(out.lines.begin() + static_cast<std::ptrdiff_t>(from),
                    out.lines.begin() + static_cast<std::ptrdiff_t>(to));
    retime(out);
  }

  static void insert(Execution& out, std::size_t at, const Flow& flow, const std::string& line) {
    *out.trace.add_flows() = flow;
    for (int i = out.trace.flows_size() - 1; i > static_cast<int>(at); --i) {
      out.trace.mutable_flows()->SwapElements(i, i - 1);
    }
    out.lines.insert(out.lines.begin() + static_cast<std::ptrdiff_t>(at), line);
    retime(out);
  }

  // One after the other: an attacker gains nothing from waiting less.
  static void retime(Execution& out) {
    std::int32_t ms = 0;
    for (Flow& flow : *out.trace.mutable_flows()) {
      flow.mutable_began()->set_seconds(ms / 1'000);
      flow.mutable_began()->set_nanos(ms % 1'000 * 1'000'000);
      ms += 5;
      flow.mutable_ended()->set_seconds(ms / 1'000);
      flow.mutable_ended()->set_nanos(ms % 1'000 * 1'000'000);
      ms += 1;
    }
  }

  template <class Make>
  Execution with_requests(std::size_t count, Make make) {
    Execution out = one();
    Flow flow;
    flow.set_status(200);
    flow.set_end(flow::v1alpha1::FLOW_END_ANSWERED);
    make(*flow.mutable_operation());
    for (const std::size_t at = random_() % (out.lines.size() + 1); count > 0; --count) insert(out, at, flow, "attack");
    return out;
  }

  template <class Change>
  Execution changed(Change change) {
    Execution out = one();
    if (out.lines.empty()) return out;
    const std::size_t at = random_() % out.lines.size();
    if (change(*out.trace.mutable_flows(static_cast<int>(at))->mutable_operation(), out.lines[at])) {
      out.lines[at] = "attack";
    }
    return out;
  }

  const Reference& reference_;
  std::vector<Execution> benign_;
  std::mt19937& random_;
};

using Kind = std::pair<std::string, Execution (Attacker::*)()>;

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> out = {{"new bucket", &Attacker::new_bucket},
                                        {"new host", &Attacker::new_host},
                                        {"mining", &Attacker::mining},
                                        {"swapped action", &Attacker::swapped_action},
                                        {"swapped method", &Attacker::swapped_method},
                                        {"swapped key or path", &Attacker::swapped_key},
                                        {"too many", &Attacker::too_many},
                                        {"out of order", &Attacker::out_of_order},
                                        {"replayed", &Attacker::replayed},
                                        {"entered late", &Attacker::entered_late},
                                        {"jumped over", &Attacker::jumped_over},
                                        {"left early", &Attacker::left_early}};
  return out;
}

}  // namespace

const std::vector<std::string>& attack_kinds() {
  static const std::vector<std::string> out = [] {
    std::vector<std::string> names;
    for (const Kind& kind : kinds()) names.push_back(kind.first);
    return names;
  }();
  return out;
}

std::vector<Attack> attacks_on(const std::vector<const Execution*>& benign, const Reference& reference,
                               std::size_t count, std::mt19937& random) {
  Attacker attacker(benign, reference, random);
  std::vector<Attack> out;
  for (const auto& [kind, make] : kinds()) {
    std::size_t made = 0;
    for (std::size_t tries = 0; made < count && tries < kTries * count; ++tries) {
      Execution execution = (attacker.*make)();
      if (reference.difference(execution).empty()) continue;
      out.push_back({kind, std::move(execution)});
      ++made;
    }
  }
  return out;
}

}  // namespace sallyport::flow_accuracy
