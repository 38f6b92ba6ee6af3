#include "cli/flow_learn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "base/read_file.h"
#include "policy-engine/flow/application_graph_document.h"
#include "policy-engine/flow/graph_document.h"
#include "policy-engine/flow/trace_builder.h"
#include "policy-engine/flow/trace_file.h"

namespace sallyport::cli {
namespace {

using testing::HasSubstr;

class FlowLearn : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/flow-learn-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  std::string traces(const std::string& name, const std::vector<std::string>& words) {
    std::string bytes;
    for (const std::string& word : words) {
      append_trace(bytes, flow::TraceBuilder().letters(word).done(), flow::TraceForm::json_lines, bytes.empty());
    }
    EXPECT_TRUE(write_file(path(name), bytes));
    return path(name);
  }

  int run(std::vector<std::string> arguments) {
    CLI::App app;
    int exit_code = -1;
    add_flow_learn_commands(app, exit_code);
    std::ostringstream out, err;
    std::streambuf* const old_out = std::cout.rdbuf(out.rdbuf());
    std::streambuf* const old_err = std::cerr.rdbuf(err.rdbuf());
    std::ranges::reverse(arguments);
    try {
      app.parse(arguments);
    } catch (const CLI::ParseError& error) {
      exit_code = app.exit(error, out, err);
    }
    std::cout.rdbuf(old_out);
    std::cerr.rdbuf(old_err);
    out_ = out.str();
    err_ = err.str();
    return exit_code;
  }

  std::string folder_, out_, err_;
};

TEST_F(FlowLearn, WritesAGraphThatGuardsLoadAndNotesForItsReview) {
  EXPECT_EQ(run({"learn", traces("a", {"ABBD", "ABD", "AXD"}), "-o", path("graph.yaml")}), 0) << err_;
  EXPECT_THAT(err_, HasSubstr("note: get-x: seen in 1 of 3 executions\n"));
  EXPECT_THAT(err_, HasSubstr("learned from 3 executions: 4 nodes"));
  EXPECT_EQ(out_, "");
  const auto text = read_file(path("graph.yaml"), 1 << 20);
  ASSERT_TRUE(text);
  const flow::GraphLoad load = flow::load_graph(*text, "graph.yaml");
  EXPECT_NE(load.graph, nullptr) << *text;
  EXPECT_TRUE(load.diagnostics.empty()) << load.diagnostics.front().to_string() << *text;
}

TEST_F(FlowLearn, ReadsSeveralFilesAndGivesTheSameBytes) {
  const std::string a = traces("a", {"ABBD", "ABD"}), b = traces("b", {"AXD"});
  EXPECT_EQ(run({"learn", a, b}), 0);
  const std::string first = out_;
  EXPECT_EQ(run({"learn", b, a}), 0);
  EXPECT_EQ(out_, first);
}

TEST_F(FlowLearn, LearnsAnApplicationGraphFromTracesOfAll) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    for (const bool second : {false, true}) {
      auto trace = flow::TraceBuilder(second ? "store" : "web").put("orders.example", "/new").done();
      trace.mutable_began()->set_seconds(1'700'000'000 + i * 10 + (second ? 2 : 0));
      append_trace(bytes, trace, flow::TraceForm::json_lines, bytes.empty());
    }
  }
  const std::string file = path("traces");
  ASSERT_TRUE(write_file(file, bytes));
  ASSERT_EQ(run({"learn", "--global", "-a", "shop", "--entry", "web", file, "-o", path("shop.yaml")}), 0) << err_;
  EXPECT_THAT(err_, HasSubstr("learned from 16 executions: 2 functions\n"));
  const auto text = read_file(path("shop.yaml"), 1 << 20);
  const auto load = flow::load_application_graph(*text, "shop.yaml");
  ASSERT_NE(load.graph, nullptr) << *text;
  EXPECT_EQ(load.graph->application(), "shop");
  EXPECT_EQ(load.graph->edges().size(), 1U);

  EXPECT_EQ(run({"learn", "--global", file}), kExitNotLearned);
  EXPECT_THAT(err_, HasSubstr("--global needs --application NAME"));
  EXPECT_EQ(run({"learn", "--global", "-a", "shop", "--after", "store", file}), kExitNotLearned);
  EXPECT_THAT(err_, HasSubstr("--after has the form FUNCTION='METHOD URL'"));
  EXPECT_EQ(run({"learn", "--global", "-a", "shop", "--entry", "shop", file}), kExitNotLearned);
  EXPECT_THAT(err_, HasSubstr("no execution of the entry 'shop'"));
  EXPECT_NE(run({"learn", "-a", "shop", file}), 0) << "it is for --global alone";
}

TEST_F(FlowLearn, MergesIntoAReviewedGraphAndKeepsItsComments) {
  ASSERT_EQ(run({"learn", traces("a", {"ABD", "ABD"}), "-o", path("graph.yaml")}), 0);
  auto text = read_file(path("graph.yaml"), 1 << 20);
  ASSERT_TRUE(write_file(path("graph.yaml"), "# reviewed by nobody but a test\n" + *text));
  ASSERT_EQ(run({"merge", path("graph.yaml"), traces("b", {"ABBXD"}), "-o", path("graph.yaml")}), 0) << err_;
  text = read_file(path("graph.yaml"), 1 << 20);
  EXPECT_THAT(*text, HasSubstr("# reviewed by nobody but a test"));
  EXPECT_THAT(*text, HasSubstr("/X"));
  EXPECT_NE(flow::load_graph(*text, "graph.yaml").graph, nullptr);
  EXPECT_THAT(err_, HasSubstr("added: GET a.example/X"));
}

TEST_F(FlowLearn, SaysWhatIsWrongWithItsInput) {
  EXPECT_EQ(run({"learn", path("none")}), kExitNotLearned);
  EXPECT_THAT(err_, HasSubstr("none"));
  ASSERT_TRUE(write_file(path("bad"), "{\"function\": 1}\nx\n"));
  EXPECT_EQ(run({"learn", path("bad")}), kExitNotLearned);
  EXPECT_THAT(err_, HasSubstr("bad:1: "));
  EXPECT_EQ(run({"learn", traces("empty", {}), "-o", path("graph.yaml")}), kExitNotLearned);
  EXPECT_FALSE(std::filesystem::exists(path("graph.yaml")));
  EXPECT_EQ(run({"merge", path("bad"), path("bad")}), kExitNotLearned);
  EXPECT_NE(run({"learn"}), 0);
}

TEST_F(FlowLearn, SaysThatTheLastTraceWasCutOff) {
  const std::string file = traces("a", {"AB", "AB"});
  const auto bytes = read_file(file, 1 << 20);
  ASSERT_TRUE(write_file(file, bytes->substr(0, bytes->size() - 20)));
  EXPECT_EQ(run({"learn", file}), 0);
  EXPECT_THAT(err_, HasSubstr("the last trace was cut off"));
  EXPECT_THAT(err_, HasSubstr("learned from 1 execution:"));
}

TEST_F(FlowLearn, ListsTraces) {
  const std::string file = traces("a", {"ABB", "A"});
  EXPECT_EQ(run({"traces", file}), 0);
  EXPECT_EQ(out_,
            "thumbnailer: 2 executions (0 incomplete, 0 mixed with others) of 1 image, 4 flows (0 failed, 0 denied), 2 "
            "different requests\n");
  EXPECT_EQ(run({"traces", "-v", file}), 0);
  EXPECT_THAT(out_, HasSubstr("  11.0-21.0 ms  GET a.example/B  200\n"));
  EXPECT_EQ(run({"traces", "-o", "json", file}), 0);
  EXPECT_THAT(out_, HasSubstr("{\"function\": \"thumbnailer\", \"executions\": 2,"));
}

}  // namespace
}  // namespace sallyport::cli
