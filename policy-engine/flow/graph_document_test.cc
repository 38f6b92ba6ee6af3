#include "policy-engine/flow/graph_document.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "base/limits.h"

namespace sallyport::flow {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::HasSubstr;

const std::string kHead =
    "apiVersion: sallyport.dev/v1alpha1\n"
    "kind: FlowGraph\n"
    "metadata: {name: shop}\n"
    "spec:\n";

std::string text_of(const GraphLoad& load) {
  std::string out;
  for (const auto& diagnostic : load.diagnostics) out += diagnostic.to_string() + "\n";
  EXPECT_EQ(load.graph == nullptr, out.find(": error: ") != std::string::npos) << out;
  return out;
}

// What is said of a document with this spec, of which the first line is line 5.
std::string said_of(const std::string& spec) { return text_of(load_graph(kHead + spec, "g.yaml")); }

// The spec with one node that has these fields, from line 8 on.
std::string node(const std::string& fields) { return "  entry: [a]\n  nodes:\n  - name: a\n" + fields; }

const std::string kAll = R"(# The shop's thumbnailer.
apiVersion: sallyport.dev/v1alpha1
kind: FlowGraph
metadata:
  name: shop
spec:
  function: thumbs
  imageDigest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  entry: [load, exit]
  nodes:
  - name: load
    request: GET s3.example.com/photos/{uuid}/*
    times: 2..5
    retries: 3
    redirects:
    - GET cdn.example.com/{any}?*
    next: [pair, turns]
    support: 20
  - name: pair
    group:
    - request: POST api.example.com/
      action: 'Do: it'
      times: 2
    - request: GET api.example.com/?k={int}
      times: 0..1
    times: 3
    next: [both]
  - name: turns
    loop:
      starts: [ask]
      ends: [ask, 'on']
      steps:
      - name: ask
        request: POST llm.example.com/ask
        next: ['on', ask]
      - name: 'on'
        request: GET tool.example.com/{word}
        times: 4
        next: [ask]
      total: 30
    next: [both, exit]
  - name: both
    set:
    - request: PUT s3.example.com/a
    - request: PUT s3.example.com/b
    next: [exit]
  executions: 25
)";

TEST(GraphDocument, IsLoadedAndWrittenAsItWas) {
  const GraphLoad load = load_graph(kAll, "g.yaml");
  EXPECT_EQ(text_of(load), "");
  ASSERT_NE(load.graph, nullptr);
  EXPECT_EQ(load.graph->function(), "thumbs");
  EXPECT_EQ(load.graph->image_digest().substr(0, 10), "sha256:012");
  EXPECT_EQ(load.graph->node_count(), 4U);
  EXPECT_EQ(load.graph->node_name(1), "pair");
  EXPECT_EQ(load.graph->node_line(1), 19);
  // But for its comment it is in the form that is written.
  EXPECT_EQ(write_graph(load.document), kAll.substr(kAll.find("apiVersion")));
  const GraphLoad again = load_graph(write_graph(load.document), "g.yaml");
  EXPECT_TRUE(MessageDifferencer::Equals(again.document, load.document));
}

TEST(GraphDocument, IsWrittenAlikeInWhateverOrderItsNodesStand) {
  v1alpha1::FlowGraph turned = load_graph(kAll, "g.yaml").document;
  auto& nodes = *turned.mutable_spec()->mutable_nodes();
  std::reverse(nodes.pointer_begin(), nodes.pointer_end());
  std::reverse(nodes[0].mutable_next()->begin(), nodes[0].mutable_next()->end());
  std::reverse(nodes[3].mutable_next()->begin(), nodes[3].mutable_next()->end());
  EXPECT_EQ(write_graph(turned), kAll.substr(kAll.find("apiVersion")));
}

TEST(GraphDocument, TakesTheFunctionFromTheName) {
  const GraphLoad load = load_graph(kHead + "  entry: [exit]\n", "g.yaml");
  EXPECT_EQ(text_of(load), "");
  EXPECT_EQ(load.graph->function(), "shop");
}

TEST(GraphDocument, KnowsItsHeader) {
  EXPECT_EQ(text_of(load_graph("", "g.yaml")),
            "g.yaml: error: the file is empty (hint: a document starts with apiVersion: sallyport.dev/v1alpha1)\n");
  EXPECT_EQ(
      text_of(load_graph("apiVersion: v1\nkind: EgressPolicy\nmetadata: {name: A}\nspec: {entry: [exit]}\n", "g.yaml")),
      "g.yaml:1:13: error: apiVersion 'v1' is not known (hint: this version reads sallyport.dev/v1alpha1)\n"
      "g.yaml:2:7: error: the kind is 'EgressPolicy' (hint: it must be FlowGraph)\n"
      "g.yaml:3:18: error: the name 'A' is not valid (hint: up to 253 of a-z, 0-9, '.' and '-', starting and "
      "ending with a letter or digit)\n");
  EXPECT_EQ(
      said_of("  entry: [exit]\n  imageDigest: sha256:12\n"),
      "g.yaml:6:16: error: imageDigest 'sha256:12' is not valid (hint: write sha256: and 64 hexadecimal digits in "
      "lower case)\n");
}

TEST(GraphDocument, RefusesFieldsThatItDoesNotKnow) {
  EXPECT_EQ(said_of(node("    reqest: GET a.com/\n    next: [exit]\n")),
            "g.yaml:8:5: error: unknown field 'reqest' in a node (hint: did you mean 'request'?)\n");
  EXPECT_THAT(said_of(node("    request: GET a.com/\n    next: []\n")),
              HasSubstr("g.yaml:9:5: error: 'next' is empty (hint: write [exit] where the execution ends)"));
  EXPECT_THAT(said_of(node("    request: GET a.com/\n")), HasSubstr("g.yaml:7:5: error: a node has no 'next'"));
  EXPECT_THAT(
      said_of(node("    request: GET a.com/\n    next: [exit]\n    retries: 1e3\n")),
      HasSubstr(
          "g.yaml:10:14: error: 'retries' must be a whole number up to 4294967295, but this is the number '1e3'"));
  for (const char* number : {"-1", "01", "'1'", "4294967296", "99999999999999999999", "1_0", "x", "1.0", ""}) {
    EXPECT_THAT(said_of(node("    request: GET a.com/\n    next: [exit]\n    retries: " + std::string(number) + "\n")),
                HasSubstr("error: 'retries' "));
  }
  EXPECT_THAT(said_of("  entry: [exit]\n  executions: 18446744073709551616\n"), HasSubstr("'executions' must be"));
  EXPECT_EQ(said_of("  entry: [exit]\n  executions: 18446744073709551615\n"), "");
}

TEST(GraphDocument, ANodeSaysOneThing) {
  EXPECT_EQ(
      said_of(node("    next: [exit]\n")),
      "g.yaml:7:5: error: node 'a' says no request (hint: give it one of 'request', 'group', 'set' and 'loop')\n");
  EXPECT_EQ(said_of(node("    request: GET a.com/\n    set: [{request: GET a.com/x}]\n    next: [exit]\n")),
            "g.yaml:7:5: error: node 'a' has 'request' and 'set' (hint: make it several nodes)\n");
  EXPECT_EQ(said_of(node("    set: [{request: GET a.com/x}]\n    action: X\n    next: [exit]\n")),
            "g.yaml:9:13: error: 'action' stands beside 'request' only (hint: give it to the steps)\n");
}

TEST(GraphDocument, NamesAreUnique) {
  const std::string one = "    request: GET a.com/\n    next: [exit]\n";
  EXPECT_EQ(said_of(node(one) + "  - name: a\n" + one),
            "g.yaml:10:11: error: two nodes are named 'a' (hint: the first one is in line 7)\n"
            "g.yaml:10:11: error: nothing leads to node 'a' (hint: name it in 'entry' or in the 'next' of a node, or "
            "remove it)\n");
  EXPECT_THAT(said_of("  entry: [exit]\n  nodes:\n  - name: exit\n" + one),
              HasSubstr("g.yaml:7:11: error: a node is named 'exit'"));
  EXPECT_THAT(said_of("  entry: [a_]\n  nodes:\n  - name: a_\n" + one),
              HasSubstr("the name 'a_' of a node is not valid"));
}

TEST(GraphDocument, SaysWhatIsWrongWithAPattern) {
  EXPECT_EQ(said_of(node("    request: GET a.com/{wrd}\n    next: [exit]\n")),
            "g.yaml:8:14: error: 'GET a.com/{wrd}' is no pattern, at byte 11: there is no placeholder {wrd}: write "
            "{word}\n");
  EXPECT_THAT(said_of(node("    request: GET a.com/\n    redirects: [GET a.com/, GET]\n    next: [exit]\n")),
              HasSubstr("g.yaml:9:29: error: 'GET' is no pattern"));
  EXPECT_THAT(said_of(node("    request: GET a.com/\n    action: \"a\\u0085b\"\n    next: [exit]\n")),
              HasSubstr("is not valid (hint: at most 512 bytes without control characters)"));
}

TEST(GraphDocument, EdgesLeadSomewhere) {
  EXPECT_EQ(
      said_of("  entry: [loda]\n  nodes:\n  - name: load\n    request: GET a.com/\n    next: [exti]\n"),
      "g.yaml:5:11: error: the entry leads to 'loda', and there is no such node (hint: did you mean 'load'?)\n"
      "g.yaml:9:12: error: node 'load' leads to 'exti', and there is no such node (hint: did you mean 'exit'?)\n");
  EXPECT_EQ(said_of(node("    request: GET a.com/\n    next: [exit, exit]\n")),
            "g.yaml:9:18: warning: node 'a' leads to 'exit' twice (hint: remove one)\n");
}

std::string chain(const std::string& edges) {
  std::string out = "  entry: [a]\n  nodes:\n";
  std::size_t at = 0;
  for (const char name : std::string("abc")) {
    const std::size_t end = edges.find(' ', at);
    out += std::string("  - {name: ") + name + ", request: GET a.com/" + name + ", next: [" +
           edges.substr(at, end - at) + "]}\n";
    at = end == std::string::npos ? end : end + 1;
    if (at == std::string::npos) break;
  }
  return out;
}

TEST(GraphDocument, NamesEveryCycle) {
  EXPECT_EQ(
      said_of(chain("b c b,exit")),
      "g.yaml:9:37: error: the graph goes round: b → c → b (hint: make what comes again a group with 'times', or a "
      "loop)\n");
  EXPECT_EQ(said_of(chain("a,exit")),
            "g.yaml:7:37: error: the graph goes round: a → a (hint: write 'times', which says how often it comes)\n");
  EXPECT_THAT(said_of(chain("b a")), HasSubstr("from node 'a' the exit is not reached"));
}

TEST(GraphDocument, AllNodesAreReached) {
  EXPECT_EQ(
      said_of(chain("exit c exit")),
      "g.yaml:8:12: error: nothing leads to node 'b' (hint: name it in 'entry' or in the 'next' of a node, or remove "
      "it)\n"
      "g.yaml:9:12: error: nothing leads to node 'c' (hint: name it in 'entry' or in the 'next' of a node, or remove "
      "it)\n");
}

TEST(GraphDocument, CountersCanBeReached) {
  const auto times = [](const char* text) {
    return said_of(node(std::string("    request: GET a.com/\n    times: ") + text + "\n    next: [exit]\n"));
  };
  EXPECT_EQ(times("5..2"),
            "g.yaml:9:12: error: '5..2' is no number of times (hint: no execution can reach it: write 2..5)\n");
  EXPECT_THAT(times("0"), HasSubstr("what never comes is left out of the graph"));
  EXPECT_THAT(times("0..0"), HasSubstr("what never comes is left out of the graph"));
  EXPECT_THAT(times("0..2"), HasSubstr("a node comes at least once (hint: write 2, and an edge that leads past it)"));
  for (const char* text : {"many", "1...2", "-1", "..3", "3..", "1000001", "99999999999", "01"}) {
    EXPECT_THAT(times(text), HasSubstr("is no number of times")) << text;
  }
  EXPECT_EQ(times("1000000"), "");
  EXPECT_THAT(said_of(node("    request: GET a.com/\n    retries: 255\n    next: [exit]\n")),
              HasSubstr("'retries' is at most 254"));
}

std::string loop(const std::string& head, const std::string& steps) {
  return node("    loop:\n      " + head + "\n      steps:\n" + steps + "    next: [exit]\n");
}

TEST(GraphDocument, LoopsHaveAnEnd) {
  const std::string x = "      - {name: x, request: GET a.com/x, next: [k]}\n",
                    y = "      - {name: k, request: GET a.com/k, times: 2..3}\n";
  const std::string both = x + y;
  EXPECT_EQ(said_of(loop("{starts: [x], ends: [k], total: 4, steps: []}", "")).substr(0, 6), "g.yaml");
  EXPECT_EQ(said_of(loop("starts: [x]\n      ends: [k]\n      total: 4", both)), "");
  EXPECT_THAT(said_of(loop("starts: [z]\n      ends: [k]\n      total: 4", both)), HasSubstr("has no step 'z'"));
  EXPECT_THAT(said_of(loop("starts: [x]\n      ends: [x]\n      total: 4", both)),
              HasSubstr("g.yaml:14:16: error: the loop has no end behind step 'k'"));
  EXPECT_THAT(said_of(loop("starts: [k]\n      ends: [k]\n      total: 4", both)),
              HasSubstr("g.yaml:13:16: error: nothing leads to step 'x'"));
  EXPECT_THAT(
      said_of(loop("starts: [x]\n      ends: [k]\n      total: 1", both)),
      HasSubstr(
          "g.yaml:11:14: error: no execution can keep to the total of node 'a': its steps come 2 times at least"));
  EXPECT_THAT(said_of(loop("starts: [x]\n      ends: [k]\n      total: 9..9",
                           "      - {name: x, request: GET a.com/x, times: 2, next: [k]}\n" + y)),
              HasSubstr("its steps come 5 times at most"));
  EXPECT_THAT(said_of(loop("starts: [x]\n      ends: [x]\n      total: 2", x + x)),
              HasSubstr("two steps of a loop are named 'x'"));
}

TEST(GraphDocument, WarnsOfPatternsThatHideEachOther) {
  EXPECT_EQ(said_of("  entry: [a, b]\n  nodes:\n  - {name: a, request: GET a.com/x/1, next: [exit]}\n"
                    "  - {name: b, request: 'GET a.com/x/{int}', next: [exit]}\n"),
            "g.yaml:8:24: warning: 'GET a.com/x/{int}' does not get the requests of 'GET a.com/x/1' (node 'a', line 7) "
            "(hint: a request is taken for the most specific pattern alone)\n");
  EXPECT_EQ(said_of("  entry: [a, b]\n  nodes:\n  - {name: a, request: 'GET a.com/x/{hex}', next: [exit]}\n"
                    "  - {name: b, request: 'GET a.com/x/{int}', next: [exit]}\n"),
            "");
}

TEST(GraphDocument, WarnsOfHostsOfAnybody) {
  EXPECT_THAT(said_of(node("    request: GET {word}.com/\n    next: [exit]\n")),
              HasSubstr("stands for hosts of anybody"));
  EXPECT_EQ(said_of(node("    request: GET {word}.a.com/\n    next: [exit]\n")), "");
}

TEST(GraphDocument, KeepsToItsLimits) {
  std::string many = "  entry: [n0]\n  nodes:\n";
  for (std::size_t i = 0; i <= limits::kFlowNodesMax; ++i)
    many += "  - {name: n" + std::to_string(i) + ", request: GET a.com/, next: [exit]}\n";
  EXPECT_EQ(
      said_of(many),
      "g.yaml:6:3: error: the graph has more than 4096 nodes (hint: join what belongs together to groups, sets and "
      "loops)\n");
  std::string steps;
  for (std::size_t i = 0; i <= limits::kFlowStepsMax; ++i)
    steps += "    - request: GET a.com/" + std::to_string(i) + "\n";
  EXPECT_THAT(said_of(node("    set:\n" + steps + "    next: [exit]\n")), HasSubstr("node 'a' has more than 64 steps"));
}

TEST(GraphDocument, AMessageIsCheckedAsAFileIs) {
  v1alpha1::FlowGraph document = load_graph(kAll, "g.yaml").document;
  EXPECT_EQ(text_of(load_graph(document, "learned")), "");
  document.mutable_spec()->clear_entry();
  document.mutable_spec()->mutable_nodes(0)->set_request("GET {x}/");
  document.mutable_spec()->mutable_nodes(3)->clear_next();
  document.clear_kind();
  const std::string said = text_of(load_graph(document, "learned"));
  EXPECT_THAT(said, HasSubstr("learned: error: the kind is ''"));
  EXPECT_THAT(said, HasSubstr("learned: error: the spec has no 'entry'"));
  EXPECT_THAT(said, HasSubstr("learned: error: 'GET {x}/' is no pattern"));
  EXPECT_THAT(said, HasSubstr("learned: error: node 'both' has no 'next'"));
}

const std::string kReviewed = R"(# Looked at by Ann.

apiVersion: sallyport.dev/v1alpha1
kind: FlowGraph
metadata: {name: shop}  # the shop
spec:
  # Where it begins.
  entry:
  - z  # as always
  nodes:
  # First of all.
  - name: z
    # Up to "five" # of them.
    request: "GET a.com/#1"  # 'quoted' is not 'comment'
    times: 5
    next: [old, b]

  - name: old  # goes away
    # with this
    request: GET a.com/old
    next: [b]
  # The last one.
  - {name: b, request: GET a.com/b, next: [exit]}  # the end
# Nothing follows.
)";

TEST(GraphDocument, CommentsOfAReviewedDocumentStay) {
  // A pattern has no '#': the quotes are what is tried.
  const std::string text = std::string(kReviewed).replace(kReviewed.find("#1\""), 3, "x\"");
  v1alpha1::FlowGraph document = load_graph(text, "g.yaml").document;
  auto& spec = *document.mutable_spec();
  spec.mutable_nodes()->DeleteSubrange(1, 1);
  auto& z = *spec.mutable_nodes(0);
  z.clear_next();
  z.add_next("b");
  z.add_next("new");
  z.set_times("7");
  auto& added = *spec.add_nodes();
  added.set_name("new");
  added.set_request("GET a.com/new");
  added.add_next("b");
  const auto merged = write_graph_over(text, document);
  ASSERT_TRUE(merged) << merged.error().text;
  EXPECT_EQ(*merged, R"(# Looked at by Ann.

apiVersion: sallyport.dev/v1alpha1
kind: FlowGraph
metadata:  # the shop
  name: shop
spec:
  # Where it begins.
  # as always
  entry: [z]
  nodes:
  # First of all.
  - name: z
    # Up to "five" # of them.
    request: GET a.com/x  # 'quoted' is not 'comment'
    times: 7
    next: [b, new]
  - name: new
    request: GET a.com/new
    next: [b]
  # The last one.
  - name: b  # the end
    request: GET a.com/b
    next: [exit]
# Nothing follows.
)");
  const auto again = write_graph_over(*merged, document);
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, *merged);
}

TEST(GraphDocument, CommentsOfAFieldThatIsGoneStayWithItsNode) {
  const std::string text = kHead +
                           loop("starts: [x]\n      ends: [x]\n      total: 4",
                                "      - name: x\n        request: GET a.com/x\n        # Not too often.\n"
                                "        times: 2  # or three\n") +
                           "    # It failed in May.\n    retries: 1\n";
  v1alpha1::FlowGraph document = load_graph(text, "g.yaml").document;
  ASSERT_EQ(document.spec().nodes_size(), 1);
  auto& changed = *document.mutable_spec()->mutable_nodes(0);
  changed.clear_retries();
  changed.mutable_loop()->mutable_steps(0)->clear_times();
  const auto merged = write_graph_over(text, document);
  ASSERT_TRUE(merged) << merged.error().text;
  EXPECT_THAT(*merged, HasSubstr("  nodes:\n  # It failed in May.\n  - name: a\n"));
  EXPECT_THAT(*merged, HasSubstr("      # Not too often.\n      # or three\n      - name: x\n"));
}

TEST(GraphDocument, WhatIsNoYamlIsNotWrittenOver) {
  const auto merged = write_graph_over("a: [", load_graph(kAll, "g.yaml").document);
  ASSERT_FALSE(merged);
  EXPECT_THAT(merged.error().text, HasSubstr("this is not YAML"));
}

}  // namespace
}  // namespace sallyport::flow
