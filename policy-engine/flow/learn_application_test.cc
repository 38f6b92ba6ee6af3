#include "policy-engine/flow/learn_application.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/limits.h"
#include "policy-engine/flow/application_graph_document.h"
#include "policy-engine/flow/learning/causes.h"

namespace sallyport::flow {
namespace {

using testing::HasSubstr;
using testing::Not;
using v1alpha1::Trace;

constexpr std::int64_t kStart = 1'700'000'000'000;  // milliseconds

// One execution, at a time in milliseconds, a hundred long.
class At {
 public:
  At(const std::string& function, std::int64_t began_ms, std::int64_t duration_ms = 100) {
    trace_.set_function(function);
    trace_.mutable_began()->set_seconds((kStart + began_ms) / 1'000);
    trace_.mutable_began()->set_nanos(static_cast<int>((kStart + began_ms) % 1'000 * 1'000'000));
    trace_.mutable_duration()->set_seconds(duration_ms / 1'000);
    trace_.mutable_duration()->set_nanos(static_cast<int>(duration_ms % 1'000 * 1'000'000));
    trace_.set_end(v1alpha1::EXECUTION_END_COMPLETE);
    trace_.set_attributed(true);
  }

  At& message(const std::string& method, const std::string& host, const std::string& path) {
    set(*trace_.mutable_inbound(), method, host, path);
    return *this;
  }
  At& sends(std::int64_t after_ms, const std::string& method, const std::string& host, const std::string& path,
            unsigned status = 200, std::int64_t duration_ms = 5) {
    v1alpha1::Flow& flow = *trace_.add_flows();
    set(*flow.mutable_operation(), method, host, path);
    flow.mutable_began()->set_nanos(static_cast<int>(after_ms * 1'000'000));
    flow.mutable_ended()->set_nanos(static_cast<int>((after_ms + duration_ms) * 1'000'000));
    flow.set_status(status);
    flow.set_end(status == 0 ? v1alpha1::FLOW_END_FAILED : v1alpha1::FLOW_END_ANSWERED);
    return *this;
  }
  operator Trace() const { return trace_; }

 private:
  static void set(v1alpha1::Operation& operation, const std::string& method, const std::string& host,
                  const std::string& path) {
    operation.set_method(method);
    operation.set_host(host);
    operation.set_path(path);
  }
  Trace trace_;
};

struct Told {
  std::string graph, notes, error;
};

Told learn(const std::vector<Trace>& traces, LearnApplicationOptions options = {}) {
  options.application = "shop";
  ApplicationLearner learner(std::move(options));
  for (const Trace& trace : traces) {
    if (const auto added = learner.add(Trace(trace)); !added) return {"", "", added.error().text};
  }
  const auto learned = learner.finish();
  if (!learned) return {"", "", learned.error().text};
  Told out{write_application_graph(learned->graph), "", ""};
  for (const LearnNote& note : learned->notes) out.notes += note.node + ": " + note.text + "\n";
  const auto load = load_application_graph(out.graph, "learned.yaml");
  EXPECT_NE(load.graph, nullptr) << out.graph;
  EXPECT_TRUE(load.diagnostics.empty()) << load.diagnostics.front().to_string();
  return out;
}

std::string functions(const Told& told) {
  EXPECT_EQ(told.error, "");
  const std::size_t at = told.graph.find("  functions:\n");
  return at == std::string::npos ? told.graph : told.graph.substr(at + 13);
}

// Ten requests to the application: web puts an order, whereupon store begins.
std::vector<Trace> orders(int count = 10) {
  std::vector<Trace> out;
  for (int i = 0; i < count; ++i) {
    const std::int64_t at = i * 1'000;
    out.push_back(At("web", at)
                      .sends(10, "GET", "config.example.com", "/")
                      .sends(20, "PUT", "orders.example.com", "/o/" + std::to_string(7'000 + i * 13)));
    out.push_back(At("store", at + 60 + i).sends(5, "POST", "db.example.com", "/rows"));
  }
  return out;
}

TEST(LearnApplication, AFunctionComesAfterWhatIsSentBeforeEachOfItsExecutions) {
  const Told told = learn(orders());
  EXPECT_EQ(functions(told),
            "  - name: web\n    entry: true\n"
            "  - name: store\n    after:\n    - function: web\n      through: PUT orders.example.com/o/{int}\n"
            "      redeliveries: 2\n      support: 10\n");
  EXPECT_THAT(told.graph, HasSubstr("  executions: 20\n"));
  EXPECT_THAT(told.notes, HasSubstr("web: an entry: nothing that a function has sent comes before each of its 10"));
}

TEST(LearnApplication, TheOrderOfTheTracesMakesNoDifference) {
  std::vector<Trace> traces = orders();
  const std::string graph = learn(traces).graph;
  std::mt19937 random(7);
  for (int i = 0; i < 5; ++i) {
    std::ranges::shuffle(traces, random);
    EXPECT_EQ(learn(traces).graph, graph);
  }
}

TEST(LearnApplication, WhatAFunctionSendsToAnotherItselfIsAnExplicitEdge) {
  std::vector<Trace> traces;
  for (int i = 0; i < 6; ++i) {
    const std::int64_t at = i * 1'000;
    traces.push_back(At("web", at)
                         .message("GET", "shop.example.com", "/")
                         .sends(10, "POST", "store.internal", "/buy", 200, 80)
                         .sends(92, "POST", "db.example.com", "/rows"));
    traces.push_back(At("store", at + 15, 70).message("POST", "store.internal", "/buy"));
  }
  const Told told = learn(traces);
  EXPECT_EQ(functions(told),
            "  - name: web\n    entry: true\n"
            "  - name: store\n    after:\n    - function: web\n      support: 6\n");
  EXPECT_THAT(told.notes, HasSubstr("its policy must say 'function: store' at that endpoint"));
}

TEST(LearnApplication, AnotherRequestToThatFunctionNeedNotLeadToIt) {
  std::vector<Trace> traces;
  for (int i = 0; i < 6; ++i) {
    traces.push_back(At("web", i * 1'000)
                         .sends(1, "GET", "store.internal", "/healthz")
                         .sends(10, "POST", "store.internal", "/buy", 200, 80));
    traces.push_back(At("store", i * 1'000 + 15, 70).message("POST", "store.internal", "/buy"));
  }
  EXPECT_THAT(functions(learn(traces)), HasSubstr("- function: web\n      leadsTo: 0..1\n      support: 6\n"));
}

TEST(LearnApplication, SeveralPredecessorsTogether) {
  // A file of either leads to the index, as does each file that the index itself has not finished.
  std::vector<Trace> traces;
  for (int i = 0; i < 12; ++i) {
    const std::int64_t at = i * 10'000;
    traces.push_back(At("one", at).sends(10, "PUT", "files.example.com", "/one/" + std::to_string(i * 977)));
    traces.push_back(At("index", at + 40));
    for (int k = 0; k < i % 3; ++k) {
      traces.push_back(
          At("two", at + 2'000 + k * 300).sends(10, "PUT", "files.example.com", "/two/" + std::to_string(i * 977 + k)));
      traces.push_back(At("index", at + 2'050 + k * 300));
    }
  }
  LearnApplicationOptions options;
  options.entries = {"one", "two"};
  EXPECT_THAT(functions(learn(traces, options)),
              HasSubstr("  - name: index\n    after:\n"
                        "    - function: one\n      through: PUT files.example.com/one/{int}\n      redeliveries: 2\n"
                        "      support: 12\n"
                        "    - function: two\n      through: PUT files.example.com/two/{int}\n      redeliveries: 2\n"
                        "      support: 12\n"));
}

TEST(LearnApplication, WhoWaitsForWhatItLeadsToMakesNoRedeliveries) {
  std::vector<Trace> traces;
  for (int i = 0; i < 6; ++i) {
    traces.push_back(
        At("web", i * 1'000).sends(10, "POST", "lambda.example.com", "/functions/store/invocations", 200, 80));
    traces.push_back(At("store", i * 1'000 + 15, 70));
  }
  const std::string graph = functions(learn(traces));
  EXPECT_THAT(graph, HasSubstr("through: POST lambda.example.com/functions/store/invocations\n      support: 6\n"));
}

TEST(LearnApplication, HowManyComeOfAFlowHasHeadroomWhereItVaries) {
  std::vector<Trace> traces;
  for (int i = 0; i < 20; ++i) {
    traces.push_back(At("web", i * 10'000).sends(10, "POST", "queue.example.com", "/jobs"));
    for (int k = 0; k < 1 + i % 3; ++k) traces.push_back(At("worker", i * 10'000 + 50 + k * 200));
  }
  const std::string varying = functions(learn(traces));
  EXPECT_THAT(varying, HasSubstr("leadsTo: 0.."));
  EXPECT_THAT(varying, Not(HasSubstr("leadsTo: 0..3\n")));
  LearnApplicationOptions options;
  options.exact_counts = true;
  EXPECT_THAT(functions(learn(traces, options)), HasSubstr("leadsTo: 0..3\n"));
  // Always two: not one more, as the controller would give it to the flow before.
  traces.clear();
  for (int i = 0; i < 6; ++i) {
    traces.push_back(At("web", i * 10'000).sends(10, "POST", "queue.example.com", "/jobs"));
    for (int k = 0; k < 2; ++k) traces.push_back(At("worker", i * 10'000 + 50 + k * 20));
  }
  EXPECT_THAT(functions(learn(traces)), HasSubstr("leadsTo: 2..2\n"));
}

TEST(LearnApplication, WhatFailsAndWhatAsksForNothingLeadsToNothing) {
  std::vector<Trace> traces;
  for (int i = 0; i < 8; ++i) {
    const std::int64_t at = i * 1'000;
    traces.push_back(At("web", at)
                         .sends(10, "PUT", "orders.example.com", "/o/" + std::to_string(7'000 + i * 13))
                         .sends(15, "PUT", "audit.example.com", "/log", 503)
                         .sends(21, "PUT", "audit.example.com", "/log", 0)
                         .sends(26, "GET", "config.example.com", "/"));
    traces.push_back(At("store", at + 60));
  }
  EXPECT_THAT(functions(learn(traces)), HasSubstr("through: PUT orders.example.com/o/{int}\n"));
}

// web sends to two services before each execution of store, which nothing tells apart.
std::vector<Trace> either() {
  std::vector<Trace> out;
  for (int i = 0; i < 6; ++i) {
    out.push_back(At("web", i * 1'000)
                      .sends(10, "PUT", "orders.example.com", "/new")
                      .sends(20, "POST", "queue.example.com", "/jobs"));
    out.push_back(At("store", i * 1'000 + 90));
  }
  return out;
}

TEST(LearnApplication, WhatIsNotClearIsRefusedWithBothAndSettledByAPerson) {
  const Told unclear = learn(either());
  EXPECT_EQ(unclear.graph, "");
  for (const char* part : {"it is not clear what leads to 'store'", "'PUT orders.example.com/new' of 'web'",
                           "'POST queue.example.com/jobs' of 'web'", "--after"}) {
    EXPECT_THAT(unclear.error, HasSubstr(part));
  }
  LearnApplicationOptions options;
  options.after = {{"store", "PUT orders.example.com/new"}};
  EXPECT_THAT(functions(learn(either(), options)), HasSubstr("through: PUT orders.example.com/new\n"));
  options = {};
  options.entries = {"web", "store"};
  EXPECT_EQ(functions(learn(either(), options)), "  - name: store\n    entry: true\n  - name: web\n    entry: true\n");
}

TEST(LearnApplication, ARequestThatNamesTheFunctionIsTakenBeforeOthers) {
  std::vector<Trace> traces = either();
  for (Trace& trace : traces) {
    if (trace.flows_size() == 2) trace.mutable_flows(0)->mutable_operation()->set_path("/store");
  }
  EXPECT_THAT(functions(learn(traces)), HasSubstr("through: PUT orders.example.com/store\n"));
}

TEST(LearnApplication, TheLastOfAChainIsWhatLeadsToIt) {
  std::vector<Trace> traces;
  for (int i = 0; i < 6; ++i) {
    traces.push_back(At("web", i * 1'000).sends(10, "PUT", "orders.example.com", "/new"));
    traces.push_back(At("check", i * 1'000 + 50).sends(10, "PUT", "checked.example.com", "/new"));
    traces.push_back(At("store", i * 1'000 + 90));
  }
  const std::string graph = functions(learn(traces));
  EXPECT_THAT(graph, HasSubstr("- name: check\n    after:\n    - function: web\n"));
  EXPECT_THAT(graph, HasSubstr("- name: store\n    after:\n    - function: check\n"));
}

TEST(LearnApplication, AFunctionThatIsNoEntryMustHaveAPredecessor) {
  std::vector<Trace> traces = orders();
  traces.push_back(At("store", -500));
  EXPECT_THAT(functions(learn(traces)), HasSubstr("- name: store\n    entry: true\n"));
  LearnApplicationOptions options;
  options.entries = {"web"};
  EXPECT_THAT(learn(traces, options).error, HasSubstr("comes before each execution of 'store': say --entry store too"));
}

TEST(LearnApplication, OptionsThatNameWhatIsNotThereAreRefused) {
  LearnApplicationOptions options;
  options.entries = {"wbe"};
  EXPECT_THAT(learn(orders(), options).error, HasSubstr("no execution of the entry 'wbe'"));
  options = {};
  options.after = {{"stoer", "PUT orders.example.com/o/{int}"}};
  EXPECT_THAT(learn(orders(), options).error, HasSubstr("no execution of 'stoer'"));
  options.after = {{"store", "PUT orders.example.com/p/{int}"}};
  EXPECT_THAT(learn(orders(), options).error, HasSubstr("no function sends what --after says of 'store'"));
  EXPECT_THAT(learn({}).error, HasSubstr("no execution to learn from"));
}

TEST(LearnApplication, TracesThatCannotBeAreRefused) {
  Trace trace = At("web", 0);
  trace.clear_began();
  EXPECT_THAT(learn({trace}).error, HasSubstr("does not say when it began"));
  trace.mutable_began()->set_seconds(INT64_MAX);
  EXPECT_THAT(learn({trace}).error, HasSubstr("does not say when it began"));
  trace = At("web", 0);
  trace.mutable_duration()->set_seconds(315'576'000'000);
  EXPECT_EQ(functions(learn({trace})), "  - name: web\n    entry: true\n");
  trace.set_image_digest("sha256:" + std::string(64, 'a'));
  EXPECT_THAT(learn({At("web", 5), trace}).error, HasSubstr("several images"));
}

TEST(LearnApplication, WhatAFunctionDoesBeforeItsFirstMessageIsNoExecution) {
  std::vector<Trace> traces;
  for (int i = 0; i < 6; ++i) {
    traces.push_back(At("web", i * 1'000).sends(10, "POST", "store.internal", "/buy", 200, 80));
    traces.push_back(At("store", i * 1'000 + 15, 70).message("POST", "store.internal", "/buy"));
  }
  traces.push_back(At("store", -900).sends(1, "GET", "config.example.com", "/"));
  EXPECT_THAT(functions(learn(traces)), Not(HasSubstr("- name: store\n    entry: true")));
}

TEST(LearnApplication, WhatTakesTooLongIsNotDecided) {
  const std::vector<learning::Span> flows = {{10, 20}, {110, 120}}, executions = {{15, 30}, {115, 130}};
  const std::vector<learning::Candidate> candidates(3, {.function = 0, .names_it = false, .flows = flows});
  std::uint64_t steps = 0;
  EXPECT_EQ(learning::find_causes(candidates, executions, steps).unclear.size(), 2U);
  EXPECT_GT(steps, 0U);
  steps = limits::kLearnStepsMax - 2;
  const learning::Causes causes = learning::find_causes(candidates, executions, steps);
  EXPECT_TRUE(causes.exhausted && causes.found.empty() && causes.unclear.empty());
}

// Whatever traces there are: a graph that accepts them, or an error.
TEST(LearnApplication, SenselessTracesEndInAGraphOrAnError) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto draw = [&](int below) { return std::uniform_int_distribution(0, below - 1)(random); };
  for (int round = 0; round < 150; ++round) {
    std::vector<Trace> traces;
    for (int i = 0, count = 1 + draw(30); i < count; ++i) {
      At at("f" + std::to_string(draw(4)), draw(2'000), draw(300));
      if (draw(3) == 0) at.message("POST", "f" + std::to_string(draw(3)) + ".internal", "/");
      for (int k = draw(4); k > 0; --k) {
        at.sends(draw(100), draw(3) == 0 ? "GET" : "POST", "f" + std::to_string(draw(3)) + ".internal",
                 draw(2) == 0 ? "/" : "/" + std::to_string(draw(5)), draw(4) == 0 ? 500 : 200, draw(100));
      }
      traces.push_back(at);
    }
    const Told told = learn(traces);
    EXPECT_NE(told.graph.empty(), told.error.empty()) << told.error;
  }
}

}  // namespace
}  // namespace sallyport::flow
