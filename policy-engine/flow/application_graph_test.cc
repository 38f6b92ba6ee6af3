#include "policy-engine/flow/application_graph.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/limits.h"
#include "policy-engine/flow/application_graph_document.h"

namespace sallyport::flow {
namespace {

using google::protobuf::util::MessageDifferencer;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string kHead =
    "apiVersion: sallyport.dev/v1alpha1\n"
    "kind: ApplicationGraph\n"
    "metadata: {name: shop}\n"
    "spec:\n"
    "  functions:\n";

std::string text_of(const ApplicationGraphLoad& load) {
  std::string out;
  for (const auto& diagnostic : load.diagnostics) out += diagnostic.to_string() + "\n";
  EXPECT_EQ(load.graph == nullptr, out.find(": error: ") != std::string::npos) << out;
  return out;
}

// What is said of a document with these functions, of which the first line is line 6.
std::string said_of(const std::string& functions) {
  return text_of(load_application_graph(kHead + functions, "a.yaml"));
}

// The same with an entry `web` in line 6 and `store`, which comes after it by these fields, from line 9 on.
std::string said_of_edge(const std::string& fields) {
  return said_of("  - {name: web, entry: true}\n  - name: store\n    after:\n" + fields);
}

const std::string kAll = R"(apiVersion: sallyport.dev/v1alpha1
kind: ApplicationGraph
metadata:
  name: shop
spec:
  application: web-shop
  functions:
  - name: front
    entry: true
    instancesMax: 20
  - name: checkout
    after:
    - function: front
      leadsTo: 0..1
    - function: front
      through: POST sqs.us-east-1.amazonaws.com/
      action: AmazonSQS.SendMessage
      leadsTo: 1
      redeliveries: 3
      redeliveryWindow: 90s
      within: 24h
  - name: archive
    after:
    - function: checkout
      through: PUT orders.s3.us-east-1.amazonaws.com/{uuid}/*
  - name: mail
    entry: false
    after:
    - function: checkout
      through: PUT orders.s3.us-east-1.amazonaws.com/{uuid}/*
      leadsTo: 2..5
)";

TEST(ApplicationGraphDocument, IsLoadedAndWrittenAsItWas) {
  const ApplicationGraphLoad load = load_application_graph(kAll, "a.yaml");
  EXPECT_EQ(text_of(load), "");
  ASSERT_NE(load.graph, nullptr);
  EXPECT_EQ(write_application_graph(load.document), kAll);
  v1alpha1::ApplicationGraph turned = load.document;
  auto& functions = *turned.mutable_spec()->mutable_functions();
  std::reverse(functions.pointer_begin(), functions.pointer_end());
  EXPECT_EQ(write_application_graph(turned), kAll);
  EXPECT_EQ(text_of(load_application_graph(turned, "received")), "");
}

TEST(ApplicationGraphDocument, IsCompiledWithItsDefaults) {
  const auto graph = load_application_graph(kAll, "a.yaml").graph;
  ASSERT_NE(graph, nullptr);
  EXPECT_EQ(graph->application(), "web-shop");
  ASSERT_EQ(graph->function_count(), 4U);
  EXPECT_EQ(graph->function_of("checkout"), 1U);
  EXPECT_EQ(graph->function_of("nobody"), ApplicationGraph::kNone);
  EXPECT_TRUE(graph->is_entry(0));
  EXPECT_FALSE(graph->is_entry(3));
  EXPECT_EQ(graph->instances_max(0), 20U);
  EXPECT_EQ(graph->instances_max(1), 0U);

  const std::uint32_t direct = graph->direct_edge(0, 1);
  ASSERT_NE(direct, ApplicationGraph::kNone);
  EXPECT_TRUE(graph->edges()[direct].direct());
  EXPECT_EQ(graph->edges()[direct].leads_to, (Times{0, 1}));
  EXPECT_EQ(graph->edges()[direct].within, limits::kFollowWithin);
  EXPECT_EQ(graph->edges()[direct].redeliveries, 0U);
  EXPECT_EQ(graph->direct_edge(1, 0), ApplicationGraph::kNone);
  EXPECT_EQ(graph->direct_edge(0, 2), ApplicationGraph::kNone);

  ASSERT_EQ(graph->edges_through_services(1).size(), 1U);
  const ApplicationEdge& queue = graph->edges()[graph->edges_through_services(1).front()];
  EXPECT_EQ(queue.leads_to, (Times{1, 1}));
  EXPECT_EQ(queue.redeliveries, 3U);
  EXPECT_EQ(queue.redelivery_window, 90s);
  EXPECT_EQ(queue.within, 24h);
}

TEST(ApplicationGraphDocument, SaysWhereAFlowLeads) {
  const auto graph = load_application_graph(kAll, "a.yaml").graph;
  ASSERT_NE(graph, nullptr);
  std::vector<std::uint32_t> edges = {7};
  const auto led_to = [&](std::uint32_t from, const Operation& operation) {
    graph->find_edges(from, operation, edges);
    std::vector<std::string> names;
    for (const std::uint32_t edge : edges) names.push_back(graph->name_of(graph->edges()[edge].to));
    std::ranges::sort(names);
    return names;
  };
  const std::string uuid = "/f81d4fae-7dec-11d0-a765-00a0c91e6bf6/1.json";
  const Operation put{"PUT", "orders.s3.us-east-1.amazonaws.com", uuid, "", ""};
  EXPECT_THAT(led_to(1, put), ElementsAre("archive", "mail"));
  EXPECT_THAT(led_to(0, put), IsEmpty());
  const Operation send{"POST", "sqs.us-east-1.amazonaws.com", "/", "", "AmazonSQS.SendMessage"};
  EXPECT_THAT(led_to(0, send), ElementsAre("checkout"));
  EXPECT_THAT(led_to(0, {"POST", "sqs.us-east-1.amazonaws.com", "/", "", "AmazonSQS.ReceiveMessage"}), IsEmpty());
}

TEST(ApplicationGraphDocument, AFlowCountsOnceForAFunctionWhateverPatternsItMatches) {
  // The samples do not show that the two share requests.
  const auto load =
      load_application_graph(kHead +
                                 "  - {name: web, entry: true}\n"
                                 "  - name: store\n"
                                 "    after:\n"
                                 "    - {function: web, through: 'PUT s3.example.com/{int}-{word}', leadsTo: 1}\n"
                                 "    - {function: web, through: 'PUT s3.example.com/{word}-1', leadsTo: 2}\n",
                             "a.yaml");
  EXPECT_EQ(text_of(load), "");
  ASSERT_NE(load.graph, nullptr);
  std::vector<std::uint32_t> edges;
  load.graph->find_edges(0, {"PUT", "s3.example.com", "/5-1", "", ""}, edges);
  ASSERT_EQ(edges.size(), 1U);
  EXPECT_EQ(load.graph->edges()[edges[0]].leads_to.most, 1U);
}

TEST(ApplicationGraphDocument, SaysWhatIsWrongAtItsPlace) {
  EXPECT_EQ(said_of("  - {name: web, entry: true, afters: []}\n"),
            "a.yaml:6:30: error: unknown field 'afters' in a function (hint: did you mean 'after'?)\n");
  EXPECT_EQ(said_of("  - {name: Web, entry: true}\n"),
            "a.yaml:6:12: error: the name 'Web' of a function is not valid (hint: up to 253 of a-z, 0-9, '.' and '-', "
            "starting and ending with a letter or digit)\n");
  EXPECT_EQ(said_of("  - {name: web, entry: true}\n  - {name: web, entry: true}\n"),
            "a.yaml:7:12: error: two functions are named 'web' (hint: the first one is in line 6)\n");
  EXPECT_EQ(said_of("  - {name: web}\n"),
            "a.yaml:6:12: error: nothing can begin 'web' (hint: write 'entry: true', or what it comes 'after')\n");
  EXPECT_EQ(said_of("  - {name: web, entry: true}\n  - {name: a, after: [{function: b}]}\n  - {name: b, after: "
                    "[{function: a}]}\n"),
            "a.yaml:7:12: error: nothing can begin 'a' (hint: none of those that it comes after can begin: write "
            "'entry: true' where messages come from outside)\n"
            "a.yaml:8:12: error: nothing can begin 'b' (hint: none of those that it comes after can begin: write "
            "'entry: true' where messages come from outside)\n");
  EXPECT_EQ(said_of("  - {name: web, entry: true, instancesMax: 0}\n"),
            "a.yaml:6:44: error: no instance of 'web' may run (hint: remove the function, or the field where there is "
            "no limit)\n");
  EXPECT_THAT(text_of(load_application_graph(kHead.substr(0, kHead.find("spec:")), "a.yaml")),
              HasSubstr("the application graph has no 'spec'"));
  EXPECT_THAT(said_of("  []\n"), HasSubstr("'functions' is empty (hint: name the functions of the application)"));
}

TEST(ApplicationGraphDocument, SaysWhatIsWrongWithAnEdge) {
  EXPECT_EQ(
      said_of_edge("    - {function: wed}\n"),
      "a.yaml:9:18: error: there is no function 'wed', which would lead to 'store' (hint: did you mean 'web'?)\n");
  EXPECT_EQ(said_of_edge("    - {function: web}\n    - {function: web, leadsTo: 2}\n"),
            "a.yaml:10:18: error: 'web' leads to 'store' twice (hint: it is in line 9)\n");
  EXPECT_EQ(said_of_edge("    - {function: web, action: Put}\n"),
            "a.yaml:9:31: error: 'action' stands beside 'through' only (hint: say through what 'web' leads to it, or "
            "remove the field)\n");
  EXPECT_THAT(said_of_edge("    - {function: web, through: PUT s3.example.com}\n"),
              HasSubstr("a.yaml:9:32: error: 'PUT s3.example.com' is no pattern"));
  EXPECT_EQ(said_of_edge("    - {function: web, through: 'PUT s3.example.com/a'}\n"
                         "    - {function: web, through: 'PUT s3.example.com/a', action: A}\n"
                         "    - {function: web, through: 'PUT s3.example.com/a'}\n"),
            "a.yaml:11:32: error: 'web' leads to 'store' through this twice (hint: the other one is in line 9)\n");
  EXPECT_EQ(said_of_edge("    - {function: web, through: 'PUT s3.example.com/{word}'}\n"
                         "    - {function: web, through: 'PUT s3.example.com/{int}'}\n"),
            "a.yaml:10:32: error: 'web' leads to 'store' through two patterns that share requests (hint: the other one "
            "is in line 9; which executions a request leads to must not depend on two of them)\n");
  EXPECT_EQ(said_of_edge("    - {function: web, through: 'PUT {word}.com/a'}\n"),
            "a.yaml:9:32: warning: 'PUT {word}.com/a' stands for hosts of anybody (hint: what is sent there lets "
            "'store' begin: write out the last two labels of the host)\n");
  EXPECT_THAT(said_of_edge("    - {function: web, leadsTo: 5..2}\n"),
              HasSubstr("a.yaml:9:32: error: '5..2' is no number of executions"));
  EXPECT_THAT(said_of_edge("    - {function: web, leadsTo: 0}\n"), HasSubstr("is no number of executions"));
  EXPECT_THAT(said_of_edge("    - {function: web, redeliveries: 1001}\n"), HasSubstr("'redeliveries' is at most 1000"));
  EXPECT_THAT(said_of_edge("    - {function: web, redeliveryWindow: 5m}\n"),
              HasSubstr("warning: 'redeliveryWindow' has no effect without 'redeliveries'"));
  for (const char* const within :
       {"5", "0s", "05m", "-1s", "25h", "1d", "'5 m'", "''", "99999999999999999999s", "1.5h"}) {
    EXPECT_THAT(said_of_edge("    - {function: web, within: " + std::string(within) + "}\n"),
                testing::AnyOf(HasSubstr("is no length of time (hint: write a number and ms, s, m or h"),
                               HasSubstr("'within' must be a string")))
        << within;
  }
}

TEST(ApplicationGraphDocument, HasBounds) {
  std::string functions;
  for (std::size_t i = 0; i <= limits::kApplicationFunctionsMax; ++i) {
    functions += "  - {name: f" + std::to_string(i) + ", entry: true}\n";
  }
  EXPECT_THAT(said_of(functions), HasSubstr("more than 1024 functions"));
  std::string edges;
  for (std::size_t i = 0; i <= limits::kApplicationEdgesMax; ++i) {
    edges += "    - {function: web, through: 'GET a.example.com/" + std::to_string(i) + "'}\n";
  }
  EXPECT_THAT(said_of_edge(edges), HasSubstr("more than 8192 predecessors"));
}

TEST(ApplicationGraphDocument, TimesHaveUnits) {
  EXPECT_EQ(parse_time_span("1ms").value(), 1ms);
  EXPECT_EQ(parse_time_span("90s").value(), 90s);
  EXPECT_EQ(parse_time_span("10m").value(), 10min);
  EXPECT_EQ(parse_time_span("24h").value(), 24h);
}

}  // namespace
}  // namespace sallyport::flow
