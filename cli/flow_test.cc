#include "cli/flow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "policy-engine/flow/trace_file.h"

namespace sallyport::cli {
namespace {

using flow::v1alpha1::Trace;
using testing::HasSubstr;
using testing::Not;

struct Outcome {
  int code = 0;
  std::string out, err;
};

Outcome run(std::vector<std::string> arguments) {
  CLI::App app("test");
  Outcome outcome;
  add_flow_command(app, outcome.code);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    outcome.code = app.exit(error) == 0 ? 0 : 2;
  }
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

const std::string kGraph = R"(apiVersion: sallyport.dev/v1alpha1
kind: FlowGraph
metadata: {name: thumbnailer}
spec:
  entry: [load]
  nodes:
  - name: load
    request: GET s3.example.com/photos/{uuid}/*
    times: 2
    retries: 1
    redirects: ['GET cdn.example.com/{any}']
    next: [store, ask]
    support: 20
  - name: store
    set:
    - request: PUT s3.example.com/thumbnails/{int}
      times: 2..3
    - {request: POST db.example.com/, action: PutItem}
    next: [exit]
    support: 1
  - name: ask
    loop:
      starts: [q]
      ends: [q]
      steps:
      - {name: q, request: POST llm.example.com/ask, next: [q]}
      total: 9
    next: [exit]
    support: 4
  executions: 20
)";

// An execution whose requests follow each other without a break, each of them a second long.
class Execution {
 public:
  explicit Execution(const std::string& id) {
    trace_.set_function("thumbnailer");
    trace_.set_execution(id);
    trace_.set_end(flow::v1alpha1::EXECUTION_END_COMPLETE);
    trace_.set_attributed(true);
  }

  Execution& asks(const std::string& method, const std::string& host, const std::string& path, unsigned status = 200,
                  const std::string& action = "") {
    auto& flow = *trace_.add_flows();
    flow.mutable_operation()->set_method(method);
    flow.mutable_operation()->set_host(host);
    flow.mutable_operation()->set_path(path);
    flow.mutable_operation()->set_action(action);
    flow.mutable_began()->set_seconds(trace_.flows_size());
    flow.mutable_ended()->set_seconds(trace_.flows_size() + 1);
    flow.set_status(status);
    flow.set_end(status == 0 ? flow::v1alpha1::FLOW_END_FAILED : flow::v1alpha1::FLOW_END_ANSWERED);
    return *this;
  }
  Execution& loads(unsigned status = 200) {
    return asks("GET", "s3.example.com", "/photos/f81d4fae-7dec-11d0-a765-00a0c91e6bf6/a.jpg", status);
  }
  Execution& stores() {
    asks("PUT", "s3.example.com", "/thumbnails/1");
    asks("POST", "db.example.com", "/", 200, "PutItem");
    return asks("PUT", "s3.example.com", "/thumbnails/2");
  }

  Trace trace_;
};

class FlowCommand : public testing::Test {
 protected:
  const std::string base_ = testing::TempDir() + "/flow_command_" + std::to_string(getpid());
  const std::string graph_ = base_ + ".yaml", other_ = base_ + "_other.yaml", traces_ = base_ + ".jsonl";

  void SetUp() override { write(graph_, kGraph); }
  void TearDown() override {
    for (const std::string& file : {graph_, other_, traces_}) std::remove(file.c_str());
  }

  static void write(const std::string& file, const std::string& text) { std::ofstream(file) << text; }

  // The graph with one text of it replaced.
  void write_other(const std::string& from, const std::string& to) {
    std::string text = kGraph;
    text.replace(text.find(from), from.size(), to);
    write(other_, text);
  }

  Outcome test(const std::vector<Trace>& traces, std::vector<std::string> more = {}) {
    std::string text;
    for (const Trace& trace : traces) {
      flow::append_trace(text, trace, flow::TraceForm::json_lines, text.empty());
    }
    write(traces_, text);
    std::vector<std::string> arguments = {"flow", "test", graph_, traces_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
};

TEST_F(FlowCommand, CheckSaysWhatGoodGraphsHave) {
  write(other_,
        "apiVersion: sallyport.dev/v1alpha1\nkind: FlowGraph\nmetadata: {name: quiet}\nspec: {entry: [exit]}\n");
  const Outcome outcome = run({"flow", "check", graph_, other_});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, graph_ + ": good: thumbnailer: 3 nodes, 5 edges, learned from 20 executions\n" + other_ +
                             ": good: quiet: 0 nodes, 1 edge\n");
  EXPECT_EQ(outcome.err, "");
}

TEST_F(FlowCommand, CheckSaysAllThatIsWrongInAllOfThem) {
  write_other("next: [store, ask]", "next: [stroe, ask]");
  const Outcome outcome = run({"flow", "check", other_, "/nonexistent/graph.yaml", graph_});
  EXPECT_EQ(outcome.code, kExitBadGraph);
  EXPECT_THAT(outcome.err, HasSubstr(other_ + ":12:12: error: node 'load' leads to 'stroe', and there is no such node "
                                              "(hint: did you mean 'store'?)"));
  EXPECT_THAT(outcome.err, HasSubstr("/nonexistent/graph.yaml: No such file or directory"));
  EXPECT_THAT(outcome.out, HasSubstr(graph_ + ": good"));
}

TEST_F(FlowCommand, ShowIsAnOutline) {
  const Outcome outcome = run({"flow", "show", graph_});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, R"(thumbnailer, learned from 20 executions
begins with load

load  GET s3.example.com/photos/{uuid}/*, up to 2 times, each again once if it fails  seen in 20 of 20
  redirects to GET cdn.example.com/{any}
  → store, ask

store  in any order  seen once
  - PUT s3.example.com/thumbnails/{int}, 2 to 3 times
  - POST db.example.com/ (PutItem)
  → the end

ask  again and again, up to 9 times in all  seen in 4 of 20
  q: POST llm.example.com/ask → q
  first q; last q
  → the end
)");
}

TEST_F(FlowCommand, ShowDrawsForGraphviz) {
  const Outcome outcome = run({"flow", "show", graph_, "-o", "dot"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("digraph \"thumbnailer\" {"));
  EXPECT_THAT(outcome.out, HasSubstr("n1 [label=\"store\\nin any order\\n- PUT s3.example.com/thumbnails/{int}, 2 to 3 "
                                     "times\\n- POST db.example.com/ (PutItem)\\nseen once\", style=dashed];"));
  EXPECT_THAT(outcome.out, HasSubstr("entry -> n0;\n  n0 -> n1;\n  n0 -> n2;\n  n1 -> exit;\n"));
}

TEST_F(FlowCommand, ShowSpeaksJson) {
  const Outcome outcome = run({"flow", "show", graph_, "-o", "json"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("\"apiVersion\": \"sallyport.dev/v1alpha1\""));
  // JSON is YAML: it is a graph as the file was.
  write(other_, outcome.out);
  EXPECT_EQ(run({"flow", "diff", graph_, other_}).code, 0);
}

TEST_F(FlowCommand, ShowSaysWhatIsMissingWithoutGraphviz) {
  const std::string path = std::getenv("PATH");
  ASSERT_EQ(setenv("PATH", "/nonexistent", 1), 0);
  const Outcome outcome = run({"flow", "show", graph_, "-o", "svg"});
  ASSERT_EQ(setenv("PATH", path.c_str(), 1), 0);
  EXPECT_EQ(outcome.code, kExitBadGraph);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("install the package graphviz, or write -o dot"));
}

const std::string kApplication = R"(apiVersion: sallyport.dev/v1alpha1
kind: ApplicationGraph
metadata: {name: shop}
spec:
  executions: 40
  functions:
  - {name: front, entry: true, instancesMax: 20}
  - name: checkout
    after:
    - {function: front, support: 30}
    - {function: front, through: POST sqs.example.com/, action: SendMessage, leadsTo: 0..3, redeliveries: 2,
       within: 24h, support: 1}
)";

TEST_F(FlowCommand, ApplicationGraphsAreCheckedAtTheirPlaces) {
  write(other_, kApplication);
  EXPECT_EQ(run({"flow", "check", other_, graph_}).out,
            other_ + ": good: shop: 2 functions, 2 edges, learned from 40 executions\n" + graph_ +
                ": good: thumbnailer: 3 nodes, 5 edges, learned from 20 executions\n");
  std::string text = kApplication;
  text.replace(text.find("function: front, support"), 15, "function: frnot");
  write(other_, text);
  const Outcome outcome = run({"flow", "check", other_});
  EXPECT_EQ(outcome.code, kExitBadGraph);
  EXPECT_EQ(outcome.err, other_ +
                             ":10:18: error: there is no function 'frnot', which would lead to 'checkout' (hint: "
                             "did you mean 'front'?)\n");
  EXPECT_EQ(run({"flow", "show", other_}).code, kExitBadGraph);
  write(other_, kApplication + ": [");
  EXPECT_EQ(run({"flow", "check", other_}).code, kExitBadGraph);
}

TEST_F(FlowCommand, ShowIsAnOutlineOfAnApplicationGraphToo) {
  write(other_, kApplication);
  EXPECT_EQ(run({"flow", "show", other_}).out, R"(shop, learned from 40 executions

front  an entry, 20 instances at most

checkout
  after front  sends to it itself  seen 30 times
  after front  POST sqs.example.com/ (SendMessage), to 0 to 3 each, 2 more if tried again, within 24h  seen once
)");
  const std::string drawing = run({"flow", "show", other_, "-o", "dot"}).out;
  EXPECT_THAT(drawing, HasSubstr("f0 [label=\"front\\n20 instances at most\"];\n  entry -> f0;\n"));
  EXPECT_THAT(drawing, HasSubstr("f0 -> f1 [label=\"sends to it itself\"];\n"));
  EXPECT_THAT(drawing, HasSubstr("within 24h\\nseen once\", style=dashed];\n"));
  const Outcome json = run({"flow", "show", other_, "-o", "json"});
  write(other_, json.out);
  EXPECT_EQ(run({"flow", "check", other_}).code, 0);
}

TEST_F(FlowCommand, WhatIsForFlowGraphsAloneSaysSoOfAnApplicationGraph) {
  write(other_, kApplication);
  const Outcome outcome = run({"flow", "diff", graph_, other_});
  EXPECT_EQ(outcome.code, kExitNotTold);
  EXPECT_THAT(outcome.err, HasSubstr("the kind is 'ApplicationGraph' (hint: it must be FlowGraph)"));
}

TEST_F(FlowCommand, DiffFindsNoneInWhatIsForPeopleAlone) {
  write_other("support: 20", "support: 7");
  EXPECT_EQ(run({"flow", "diff", graph_, other_}).code, 0);
  write_other("next: [store, ask]", "next: [ask, store]");
  const Outcome outcome = run({"flow", "diff", graph_, other_});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "");
}

TEST_F(FlowCommand, DiffSaysItInWords) {
  write_other("    times: 2\n", "    times: 4\n");
  Outcome outcome = run({"flow", "diff", graph_, other_});
  EXPECT_EQ(outcome.code, kExitDifferent);
  EXPECT_EQ(outcome.out, "~ node load: times: 2 → 4\n");
  write_other("next: [store, ask]", "next: [store, ask, exit]");
  EXPECT_EQ(run({"flow", "diff", graph_, other_}).out, "+ edge load → exit\n");
  EXPECT_EQ(run({"flow", "diff", other_, graph_}).out, "- edge load → exit\n");
  write_other("name: store", "name: save");
  write_other("next: [store, ask]", "next: [ask]");
  std::string text = kGraph.substr(0, kGraph.find("  - name: store")) + kGraph.substr(kGraph.find("  - name: ask"));
  text.replace(text.find("[store, ask]"), 12, "[ask]");
  write(other_, text);
  outcome = run({"flow", "diff", other_, graph_});
  EXPECT_EQ(outcome.code, kExitDifferent);
  EXPECT_EQ(
      outcome.out,
      "+ node store: in any order; - POST db.example.com/ (PutItem); - PUT s3.example.com/thumbnails/{int}, 2 to 3 "
      "times\n+ edge load → store\n+ edge store → exit\n");
}

TEST_F(FlowCommand, DiffSpeaksJson) {
  write_other("total: 9", "total: 12");
  const Outcome outcome = run({"flow", "diff", graph_, other_, "-o", "json"});
  EXPECT_EQ(outcome.code, kExitDifferent);
  EXPECT_THAT(outcome.out,
              HasSubstr(R"({"change": "changed", "what": "node", "name": "ask", "text": "total: 9 → 12"})"));
}

TEST_F(FlowCommand, DiffOfAWrongGraphIsNotTold) {
  write_other("[exit]", "[exti]");
  EXPECT_EQ(run({"flow", "diff", graph_, other_}).code, kExitNotTold);
}

TEST_F(FlowCommand, TestLetsPassWhatTheGraphAllows) {
  const Outcome outcome =
      test({Execution("1").loads().stores().trace_,
            Execution("2").loads(503).loads().loads(302).asks("GET", "cdn.example.com", "/x").stores().trace_});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "2 executions: 2 (100.0 %) allowed, 0 (0.0 %) refused, 0 (0.0 %) incomplete\n");
}

TEST_F(FlowCommand, TestSaysWhichExecutionsWouldBeRefusedAndWhere) {
  const Outcome outcome =
      test({Execution("good").loads().stores().trace_,
            Execution("evil").loads().asks("PUT", "evil.example", "/x").trace_, Execution("half").loads().trace_});
  EXPECT_EQ(outcome.code, kExitDifferent);
  EXPECT_EQ(outcome.out, "refused     " + traces_ +
                             ", trace 2, execution evil\n"
                             "            request 2 of 2: PUT evil.example/x\n"
                             "            expected: POST db.example.com/ (PutItem), POST llm.example.com/ask, "
                             "GET s3.example.com/photos/{uuid}/*, PUT s3.example.com/thumbnails/{int}\n"
                             "            stood at: load\n"
                             "incomplete  " +
                             traces_ +
                             ", trace 3, execution half\n"
                             "            expected: POST db.example.com/ (PutItem), POST llm.example.com/ask, "
                             "GET s3.example.com/photos/{uuid}/*, PUT s3.example.com/thumbnails/{int}\n"
                             "            stood at: load\n"
                             "3 executions: 1 (33.3 %) allowed, 1 (33.3 %) refused, 1 (33.3 %) incomplete\n");
}

TEST_F(FlowCommand, TestKnowsThatAnAnswerHasToComeBeforeARetry) {
  Execution early("early");
  early.loads(503).loads().loads().loads().stores();
  // The second begins before the first has failed: it is no retry, and there is one too many.
  early.trace_.mutable_flows(0)->mutable_ended()->set_seconds(2'000);
  EXPECT_THAT(test({early.trace_}).out, HasSubstr("request 3 of 7"));
}

TEST_F(FlowCommand, TestPassesOverWhatWasNeverSent) {
  Execution denied("denied");
  denied.asks("GET", "evil.example", "/").loads().stores();
  denied.trace_.mutable_flows(0)->set_end(flow::v1alpha1::FLOW_END_DENIED);
  EXPECT_EQ(test({denied.trace_}).code, 0);
}

TEST_F(FlowCommand, TestJudgesOnlyWhatItCan) {
  Execution cut("cut"), foreign("foreign"), mixed("mixed"), good("good");
  cut.loads().trace_.set_end(flow::v1alpha1::EXECUTION_END_CUT);
  foreign.trace_.set_function("other");
  mixed.trace_.set_attributed(false);
  const Outcome outcome = test({cut.trace_, foreign.trace_, mixed.trace_});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "1 execution: 1 (100.0 %) allowed, 0 (0.0 %) refused, 0 (0.0 %) incomplete\n2 left out:\n  " +
                             traces_ + ", trace 2: it is of function other\n  " + traces_ +
                             ", trace 3: its requests may belong to another execution that was open\n");
  EXPECT_EQ(test({foreign.trace_}).code, kExitNotTold);
}

TEST_F(FlowCommand, TestShowsAFewAndCountsTheRest) {
  const std::vector<Trace> many(5, Execution("half").loads().trace_);
  const Outcome outcome = test(many, {"--max", "2"});
  EXPECT_THAT(outcome.out, HasSubstr("…           and 3 more\n5 executions"));
}

TEST_F(FlowCommand, TestSpeaksJson) {
  const Outcome outcome = test({Execution("evil\"\n").asks("GET", "evil.example", "/").trace_}, {"-o", "json"});
  EXPECT_EQ(outcome.code, kExitDifferent);
  EXPECT_THAT(outcome.out, HasSubstr(R"("executions": 1, "allowed": 0, "refused": 1, "incomplete": 0, "leftOut": 0)"));
  EXPECT_THAT(outcome.out,
              HasSubstr(R"("trace": 1, "execution": "evil\"\u000a", "flow": 1, "flows": 1, )"
                        R"("request": "GET evil.example/", "expected": "GET s3.example.com/photos/{uuid}/*", )"
                        R"("at": "the entry"})"));
}

TEST_F(FlowCommand, TestOfWhatIsNoTraceIsNotTold) {
  write(traces_, "{\"function\": 7\n");
  const Outcome outcome = run({"flow", "test", graph_, traces_});
  EXPECT_EQ(outcome.code, kExitNotTold);
  EXPECT_THAT(outcome.err, HasSubstr(traces_));
  EXPECT_EQ(run({"flow", "test", graph_, "/nonexistent"}).code, kExitNotTold);
}

TEST_F(FlowCommand, NeedsItsArguments) {
  EXPECT_EQ(run({"flow"}).code, 2);
  EXPECT_EQ(run({"flow", "check"}).code, 2);
  EXPECT_EQ(run({"flow", "show", graph_, "-o", "png"}).code, 2);
  EXPECT_EQ(run({"flow", "diff", graph_}).code, 2);
}

}  // namespace
}  // namespace sallyport::cli
