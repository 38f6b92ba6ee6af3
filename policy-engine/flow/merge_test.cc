// New traces merged into a graph that was reviewed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "policy-engine/flow/graph_document.h"
#include "policy-engine/flow/learn.h"
#include "policy-engine/flow/trace_builder.h"

namespace sallyport::flow {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using v1alpha1::FlowGraph;
using v1alpha1::Node;
using v1alpha1::Trace;

constexpr const char* kReviewed = R"(
apiVersion: sallyport.dev/v1alpha1
kind: FlowGraph
metadata: {name: thumbnailer}
spec:
  entry: [first]
  nodes:
  - {name: first, request: GET a.example/A, next: [load]}
  - {name: load, request: "GET s3.example/photos/{int}", times: 3, next: [store]}
  - {name: store, request: GET a.example/D, next: [exit]}
  executions: 10
)";

FlowGraph reviewed() {
  GraphLoad load = load_graph(kReviewed, "reviewed");
  EXPECT_NE(load.graph, nullptr);
  return load.document;
}

TraceBuilder loads(int photos) {
  TraceBuilder builder;
  builder.letters("A");
  for (int i = 0; i < photos; ++i) builder.get("s3.example", "/photos/" + std::to_string(i));
  return builder;
}

Learned merged(const FlowGraph& graph, std::vector<Trace> traces) {
  auto out = merge(graph, std::move(traces), {});
  EXPECT_TRUE(out) << out.error().text;
  return out ? std::move(*out) : Learned();
}

TEST(Merge, ChangesNothingWhereEachExecutionIsAllowed) {
  FlowGraph expected = reviewed();
  const Learned got = merged(reviewed(), {loads(1).letters("D").done(), loads(3).letters("D").done()});
  EXPECT_THAT(got.notes, IsEmpty());
  expected.mutable_spec()->set_executions(12);
  for (Node& node : *expected.mutable_spec()->mutable_nodes()) node.set_support(2);
  EXPECT_EQ(got.graph.DebugString(), expected.DebugString());
}

TEST(Merge, RaisesACounterAndSaysSo) {
  const Learned got = merged(reviewed(), {loads(5).letters("D").done()});
  EXPECT_EQ(got.graph.spec().nodes(1).times(), "5");
  EXPECT_THAT(got.notes, ElementsAre(Field(&LearnNote::text, "counter changed from 3 to 5")));
}

TEST(Merge, AddsAnEdgeOverWhatWasLeftOut) {
  const Learned got = merged(reviewed(), {TraceBuilder().letters("AD").done()});
  EXPECT_THAT(got.graph.spec().nodes(0).next(), ElementsAre("load", "store"));
  EXPECT_EQ(got.graph.spec().nodes_size(), 3);
}

TEST(Merge, AddsANodeForWhatIsNew) {
  const Learned got = merged(reviewed(), {loads(1).letters("XD").done()});
  ASSERT_EQ(got.graph.spec().nodes_size(), 4);
  EXPECT_EQ(got.graph.spec().nodes(3).request(), "GET a.example/X");
  EXPECT_THAT(got.graph.spec().nodes(3).next(), ElementsAre("store"));
  EXPECT_THAT(got.graph.spec().nodes(1).next(), ElementsAre("store", "get-x"));
  EXPECT_THAT(got.notes, Contains(Field(&LearnNote::text, HasSubstr("added: GET a.example/X"))));
}

TEST(Merge, MakesNoCycleOfAnotherOrder) {
  const Learned got = merged(reviewed(), {TraceBuilder().letters("DA").done()});
  EXPECT_EQ(got.graph.spec().nodes_size(), 4) << "one of the two stands twice";
}

TEST(Merge, RaisesRetriesAndAddsRedirects) {
  const Learned got =
      merged(reviewed(), {loads(1).letters("D").status(503).letters("D").status(503).letters("D").done(),
                          TraceBuilder()
                              .letters("A")
                              .redirects(307, "b.example", "/A")
                              .get("b.example", "/A")
                              .get("s3.example", "/photos/1")
                              .letters("D")
                              .done()});
  EXPECT_EQ(got.graph.spec().nodes(2).retries(), 2U);
  EXPECT_THAT(got.graph.spec().nodes(0).redirects(), ElementsAre("GET b.example/A"));
}

TEST(Merge, WidensALoop) {
  FlowGraph graph = load_graph(R"(
apiVersion: sallyport.dev/v1alpha1
kind: FlowGraph
metadata: {name: thumbnailer}
spec:
  entry: [turns]
  nodes:
  - name: turns
    loop:
      starts: [think]
      ends: [think]
      total: 5
      steps:
      - {name: think, request: GET a.example/M, next: [tool]}
      - {name: tool, request: GET a.example/T, times: 2, next: [think]}
    next: [exit]
)",
                               "loop")
                        .document;
  const Learned got = merged(graph, {TraceBuilder().letters("MTTMTM").done()});
  ASSERT_EQ(got.graph.spec().nodes_size(), 1);
  EXPECT_EQ(got.graph.spec().nodes(0).loop().total(), "6");
  EXPECT_EQ(got.graph.spec().nodes(0).loop().steps(1).times(), "3");
  EXPECT_THAT(got.graph.spec().nodes(0).loop().steps(1).next(), ElementsAre("think", "tool"));
}

TEST(Merge, RefusesAnotherImage) {
  FlowGraph graph = reviewed();
  graph.mutable_spec()->set_image_digest("sha256:" + std::string(64, 'a'));
  EXPECT_THAT(merge(graph, {loads(1).letters("D").done()}, {}).error().text, HasSubstr("change imageDigest"));
}

TEST(Merge, RefusesTracesOfAnotherFunction) {
  EXPECT_THAT(merge(reviewed(), {TraceBuilder("other").letters("A").done()}, {}).error().text,
              HasSubstr("no execution of 'thumbnailer'"));
}

TEST(Merge, OfRandomTracesHasThemAllAndDoesNotDependOnTheirOrder) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 30; ++round) {
    std::vector<Trace> before, after;
    for (int i = 0; i < 12; ++i) {
      std::string word;
      for (std::size_t n = random() % 8; n > 0; --n) word += static_cast<char>('A' + random() % 4);
      (i < 6 ? before : after).push_back(TraceBuilder().letters(word).done());
    }
    LearnOptions options;
    options.lcp_threshold = 1'000;
    const auto graph = learn(before, options);
    ASSERT_TRUE(graph) << graph.error().text;
    const auto first = merge(graph->graph, after, options);  // replays each trace itself
    ASSERT_TRUE(first) << first.error().text;
    std::ranges::shuffle(after, random);
    ASSERT_EQ(merge(graph->graph, after, options)->graph.DebugString(), first->graph.DebugString());
    for (const Node& node : graph->graph.spec().nodes()) {
      const auto same = [&](const Node& other) {
        return other.name() == node.name() && other.request() == node.request();
      };
      ASSERT_TRUE(std::ranges::any_of(first->graph.spec().nodes(), same)) << "what was reviewed stays: " << node.name();
    }
  }
}

}  // namespace
}  // namespace sallyport::flow
