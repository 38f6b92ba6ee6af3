#include "policy-engine/flow/learn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/limits.h"
#include "policy-engine/flow/trace_builder.h"

namespace sallyport::flow {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
using v1alpha1::FlowGraph;
using v1alpha1::Node;
using v1alpha1::Trace;

constexpr std::string_view kS3 = "s3.us-east-1.amazonaws.com";

std::vector<Trace> spelled(const std::vector<std::string>& words) {
  std::vector<Trace> out;
  for (const std::string& word : words) out.push_back(TraceBuilder().letters(word).done());
  return out;
}

LearnOptions exact() {
  LearnOptions options;
  options.exact_counts = true;
  options.retries = 0;
  options.lcp_threshold = 1'000;  // letters are no identifiers
  return options;
}

FlowGraph graph_of(std::vector<Trace> traces, const LearnOptions& options = {}) {
  auto learned = learn(std::move(traces), options);
  EXPECT_TRUE(learned) << learned.error().text;
  return learned ? learned->graph : FlowGraph();
}

std::string text_of(const FlowGraph& graph) { return graph.DebugString(); }

const Node* node_named(const FlowGraph& graph, const std::string& name) {
  const auto found = std::ranges::find(graph.spec().nodes(), name, [](const Node& node) { return node.name(); });
  return found == graph.spec().nodes().end() ? nullptr : &*found;
}

// Everything that a graph of letters allows, spelled out: slow, and obviously right. Without retries and loops.
class Speller {
 public:
  explicit Speller(const FlowGraph& graph) : graph_(graph) {}

  std::set<std::string> words() {
    for (const std::string& name : graph_.spec().entry()) go(name, "");
    return words_;
  }

 private:
  static std::pair<std::uint32_t, std::uint32_t> times(const std::string& text) {
    if (text.empty()) return {1, 1};
    const std::size_t dots = text.find("..");
    if (dots == std::string::npos) return {1, static_cast<std::uint32_t>(std::stoul(text))};
    return {std::stoul(text.substr(0, dots)), std::stoul(text.substr(dots + 2))};
  }

  template <class Step>
  static std::set<std::string> repeated(const Step& step, const std::set<std::string>& once) {
    const auto [least, most] = times(step.times());
    std::set<std::string> out, now = {""};
    for (std::uint32_t i = 0; i <= most; ++i) {
      if (i >= least) out.insert(now.begin(), now.end());
      now = followed(now, once);
    }
    return out;
  }

  static std::set<std::string> followed(const std::set<std::string>& first, const std::set<std::string>& second) {
    std::set<std::string> out;
    for (const std::string& a : first) {
      for (const std::string& b : second) out.insert(a + b);
    }
    return out;
  }

  static std::string letter(const std::string& request) { return request.substr(request.rfind('/') + 1); }

  static std::set<std::string> words_of(const Node& node) {
    if (node.has_request()) return repeated(node, {letter(node.request())});
    std::set<std::string> pass = {""};
    for (const auto& step : node.group()) pass = followed(pass, repeated(step, {letter(step.request())}));
    for (const auto& step : node.set()) pass = followed(pass, repeated(step, {letter(step.request())}));
    if (node.set_size() > 0) {
      std::set<std::string> orders;
      for (std::string word : pass) {
        std::ranges::sort(word);
        do orders.insert(word);
        while (std::ranges::next_permutation(word).found);
      }
      pass = orders;
    }
    return repeated(node, pass);
  }

  void go(const std::string& name, const std::string& so_far) {
    ASSERT_LT(so_far.size(), 60U) << "no end: a cycle";
    if (name == "exit") {
      words_.insert(so_far);
      return;
    }
    const Node* node = node_named(graph_, name);
    ASSERT_NE(node, nullptr) << name;
    for (const std::string& word : words_of(*node)) {
      for (const std::string& next : node->next()) go(next, so_far + word);
    }
  }

  const FlowGraph& graph_;
  std::set<std::string> words_;
};

// "A", "B×3", "CD×2": the steps in order, as the notes of a review would say them.
std::vector<std::string> steps_of(const FlowGraph& graph) {
  std::vector<std::string> out;
  const auto letter = [](const std::string& request) { return request.substr(request.rfind('/') + 1); };
  for (const Node& node : graph.spec().nodes()) {
    std::string text = node.has_request() ? letter(node.request()) : "";
    for (const auto& step : node.group()) text += letter(step.request()) + step.times();
    for (const auto& step : node.set()) text += "|" + letter(step.request()) + step.times();
    if (node.has_times()) text += "×" + node.times();
    out.push_back(text);
  }
  return out;
}

std::vector<std::string> requests_of(const FlowGraph& graph) {
  std::set<std::string> out;
  for (const Node& node : graph.spec().nodes()) {
    if (node.has_request()) out.insert(node.request());
    for (const auto& step : node.group()) out.insert(step.request());
    for (const auto& step : node.set()) out.insert(step.request());
    for (const auto& step : node.loop().steps()) out.insert(step.request());
  }
  return {out.begin(), out.end()};
}

// SecLambda, figure 3.
TEST(Learn, GivesTheGraphOfThePaper) {
  const FlowGraph graph = graph_of(spelled({"ABBBCD", "BABCD", "AFD"}), exact());
  EXPECT_THAT(steps_of(graph), UnorderedElementsAre("A", "A", "B", "B", "B×3", "C", "D", "F")) << text_of(graph);
  EXPECT_THAT(Speller(graph).words(), UnorderedElementsAre("ABCD", "ABBCD", "ABBBCD", "BABCD", "AFD"));
}

TEST(Learn, KeepsTwoOrdersApartRatherThanMakeACycle) {
  EXPECT_THAT(Speller(graph_of(spelled({"XY", "YX"}), exact())).words(), UnorderedElementsAre("XY", "YX"));
}

TEST(Learn, FoldsALoopIntoOneNodeWithACounter) {
  std::vector<std::string> words;
  for (std::size_t i = 1; i <= 9; ++i) words.push_back("L" + std::string(i, 'G') + "P");
  const FlowGraph graph = graph_of(spelled(words), exact());
  EXPECT_THAT(steps_of(graph), ElementsAre("L", "G×9", "P")) << text_of(graph);
  EXPECT_THAT(steps_of(graph_of(spelled(words))), ElementsAre("L", "G×100", "P"))
      << "the same GET again and again is a poll";
}

TEST(Learn, GeneralisesOptionalStepsAsTheInvariantsAllow) {
  const FlowGraph graph = graph_of(spelled({"L", "LGIP", "LIIP", "LIIIP", "LGIIP"}), exact());
  EXPECT_THAT(steps_of(graph), ElementsAre("L", "G", "I×3", "P")) << text_of(graph);
  EXPECT_THAT(Speller(graph).words(), UnorderedElementsAre("L", "LGIP", "LGIIP", "LGIIIP", "LIP", "LIIP", "LIIIP"));
}

TEST(Learn, FoldsSequencesIntoGroups) {
  EXPECT_THAT(steps_of(graph_of(spelled({"LABABABP", "LABABP"}), exact())), ElementsAre("L", "AB×3", "P"));
  EXPECT_THAT(steps_of(graph_of(spelled({"AABAAB"}), exact())), ElementsAre("A2B×2"));
  EXPECT_THAT(steps_of(graph_of(spelled({"LABABABP", "LABP"}), exact())), ElementsAre("L", "AB×3", "P"))
      << "one pass is the same group";
}

TEST(Learn, LetsStepsBeSkippedTogetherThatWereSkippedAlone) {
  const auto words = Speller(graph_of(spelled({"AXYB", "AXB", "AYB"}), exact())).words();
  EXPECT_THAT(words, UnorderedElementsAre("AXYB", "AXB", "AYB", "AB"));
}

TEST(Learn, AllowsAnEmptyExecutionOnlyWhereOneWasSeen) {
  EXPECT_THAT(Speller(graph_of(spelled({"A", ""}), exact())).words(), UnorderedElementsAre("A", ""));
  EXPECT_THAT(Speller(graph_of(spelled({""}), exact())).words(), UnorderedElementsAre(""));
}

std::vector<std::string> random_words(std::mt19937& random) {
  std::vector<std::string> words(1 + random() % 8);
  const std::size_t letters = 2 + random() % 4;
  for (std::string& word : words) {
    for (std::size_t i = random() % 9; i > 0; --i) word += static_cast<char>('A' + random() % letters);
  }
  return words;
}

TEST(Learn, OfRandomTracesIsFreeOfCyclesAndHasThemAll) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 100; ++round) {
    const std::vector<std::string> words = random_words(random);
    const auto learned = learn(spelled(words), exact());
    ASSERT_TRUE(learned) << testing::PrintToString(words) << learned.error().text;
    const bool loops = std::ranges::any_of(learned->graph.spec().nodes(), [](const Node& n) { return n.has_loop(); });
    if (loops) continue;  // learn() itself has replayed each trace in the matcher
    const auto spelled_out = Speller(learned->graph).words();
    for (const std::string& word : words) {
      ASSERT_TRUE(spelled_out.contains(word))
          << word << " of " << testing::PrintToString(words) << text_of(learned->graph);
    }
  }
}

TEST(Learn, GivesTheSameBytesForAnyOrderOfTheTraces) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 20; ++round) {
    std::vector<Trace> traces;
    for (int i = 0; i < 30; ++i) {
      TraceBuilder builder;
      builder.letters(random_words(random)[0]).get(kS3, "/photos/" + std::to_string(random()) + "/a.jpg");
      if (random() % 2 == 0) builder.get(kS3, "/photos/cat-" + std::to_string(random() % 9)).beside();
      if (random() % 4 == 0) builder.put(kS3, "/x").status(503).put(kS3, "/x");
      traces.push_back(builder.done());
    }
    const std::string before = graph_of(traces).SerializeAsString();
    std::ranges::shuffle(traces, random);
    ASSERT_EQ(graph_of(traces).SerializeAsString(), before);
  }
}

// URLs.

std::vector<std::string> patterns(const std::vector<std::vector<std::string>>& paths_by_execution,
                                  std::uint32_t threshold = 3, std::string_view host = "a.example") {
  std::vector<Trace> traces;
  for (const auto& paths : paths_by_execution) {
    TraceBuilder builder;
    for (const std::string& path : paths) {
      const std::size_t mark = path.find('?');
      builder.get(host, path.substr(0, mark), mark == std::string::npos ? "" : path.substr(mark + 1));
    }
    traces.push_back(builder.done());
  }
  LearnOptions options;
  options.lcp_threshold = threshold;
  return requests_of(graph_of(std::move(traces), options));
}

std::vector<std::vector<std::string>> one_each(const std::vector<std::string>& paths) {
  std::vector<std::vector<std::string>> out;
  for (const std::string& path : paths) out.push_back({path});
  return out;
}

// The paper's example: a.com, a.com/test/x, a.com/test/y with a threshold of 1.
TEST(UrlGrouping, GroupsByTheLongestCommonPrefix) {
  EXPECT_THAT(patterns({{"/", "/test/x", "/test/y"}}, 1), ElementsAre("GET a.example/", "GET a.example/test/{word}"));
}

// By the paper's own rule, that of two URLs each must have more in common with the other than with any third, three
// siblings make no group: x has as much in common with y as with z.
TEST(UrlGrouping, GroupsMoreThanTwoSiblingsWhichThePapersRuleDoesNot) {
  EXPECT_THAT(patterns({{"/", "/test/x", "/test/y", "/test/z"}}, 2),
              ElementsAre("GET a.example/", "GET a.example/test/{word}"));
}

TEST(UrlGrouping, JoinsOnlyMoreDifferentNamesThanTheThreshold) {
  const auto paths = one_each({"/pets/cat", "/pets/dog", "/pets/owl"});
  EXPECT_EQ(patterns(paths, 3).size(), 3U);
  EXPECT_THAT(patterns(paths, 2), ElementsAre("GET a.example/pets/{word}"));
}

TEST(UrlGrouping, TakesTheNumbersOfPartsForNumbers) {
  std::vector<std::string> paths;
  for (int i = 0; i < 10; ++i) paths.push_back("/text/tiny/rankings/part-0000" + std::to_string(i));
  EXPECT_THAT(patterns({paths}), ElementsAre("GET a.example/text/tiny/rankings/part-{int}"));
  EXPECT_THAT(patterns(one_each({"/d/prefix0009", "/d/prefix0010", "/d/prefix0011"})),
              ElementsAre("GET a.example/d/prefix{int}"));
}

struct Identifier {
  std::vector<std::string> paths;
  std::string pattern;
};
class EachIdentifier : public testing::TestWithParam<Identifier> {};
TEST_P(EachIdentifier, IsFoundWhereItVaries) {
  EXPECT_THAT(patterns(one_each(GetParam().paths)), ElementsAre("GET a.example" + GetParam().pattern));
}
INSTANTIATE_TEST_SUITE_P(
    UrlGrouping, EachIdentifier,
    testing::Values(
        Identifier{{"/orders/17", "/orders/4"}, "/orders/{int}"},
        Identifier{{"/o/550e8400-e29b-41d4-a716-446655440000/x", "/o/6ba7b810-9dad-11d1-80b4-00c04fd430c8/x"},
                   "/o/{uuid}/x"},
        Identifier{{"/o/9b74c9897bac770ffc029102a200c5de", "/o/0cc175b9c0f1b6a831c399e269772661"}, "/o/{hex}"},
        Identifier{{"/logs/2026-11-21", "/logs/2026-11-22"}, "/logs/{date}"},
        Identifier{{"/logs/20261121.gz", "/logs/20261122.gz"}, "/logs/{date}.gz"},
        Identifier{{"/c/cus_NffrFeUfNV2Hib", "/c/cus_9s6XKzkNRiz8i3"}, "/c/cus_{word}"},
        Identifier{{"/u/a/orders", "/u/b/orders", "/u/c/orders", "/u/d/orders"}, "/u/{word}/orders"},
        Identifier{{"/u/a.jpg", "/u/b.jpg", "/u/c.jpg", "/u/d.jpg"}, "/u/{word}.jpg"},
        Identifier{{"/u/a%20a", "/u/b%20b", "/u/c%20c", "/u/d"}, "/u/{any}"},
        Identifier{{"/b/x/y/z.png", "/b/q.png", "/b/i/u.gif", "/b/p/o.png", "/b/m/n/o/p"}, "/b/*"},
        Identifier{{"/s?q=tea", "/s?q=milk", "/s?q=rice%20pudding", "/s?q=salt"}, "/s?q={any}"},
        Identifier{{"/s?page=1&size=10", "/s?page=2&size=10"}, "/s?page={int}&size=10"},
        Identifier{{"/s?prefix=a/b", "/s?prefix=c/d", "/s?prefix=e/f/g", "/s?prefix=h"}, "/s?prefix={any}"}));

TEST(UrlGrouping, LeavesVersionsAndConstantsAlone) {
  EXPECT_THAT(patterns({{"/v1/a", "/v2/a"}, {"/v1/a", "/v2/a"}}),
              ElementsAre("GET a.example/v1/a", "GET a.example/v2/a"));
  const std::vector<std::string> sizes = {"/thumbs/128.jpg", "/thumbs/256.jpg", "/thumbs/512.jpg", "/thumbs/64.jpg"};
  EXPECT_EQ(patterns({sizes, sizes, sizes}).size(), 4U) << "what is in every execution is no identifier";
}

TEST(UrlGrouping, FindsIdentifiersInTheMiddleAndKeepsConstantSiblingsApart) {
  std::vector<std::vector<std::string>> executions;
  for (const std::string job : {"job-x7f3a", "job-k2m9q", "job-p0z1v", "job-w8h4c", "job-q1r7t"}) {
    const std::string id = std::to_string(executions.size());
    executions.push_back({"/bucket/" + job + "/task/mapper/" + id, "/bucket/" + job + "/task/reducer/1/" + id,
                          "/bucket/" + job + "/task/mapper/1" + id, "/bucket/" + job + "/result"});
  }
  EXPECT_THAT(patterns(executions),
              ElementsAre("GET a.example/bucket/job-{word}/result", "GET a.example/bucket/job-{word}/task/mapper/{int}",
                          "GET a.example/bucket/job-{word}/task/reducer/1/{int}"));
}

TEST(UrlGrouping, KeepsAConstantBesideIdentifiers) {
  std::vector<std::vector<std::string>> executions;
  for (int i = 0; i < 6; ++i) executions.push_back({"/users/me", "/users/" + std::to_string(1000 + i)});
  EXPECT_THAT(patterns(executions), ElementsAre("GET a.example/users/me", "GET a.example/users/{int}"));
}

TEST(UrlGrouping, TakesWhatOneRequestWritesForWhatAnotherReads) {
  std::vector<Trace> traces;
  for (int i = 0; i < 12; ++i) {
    TraceBuilder builder;
    builder.get("a.example", "/jobs/state.1").put("a.example", "/jobs/state.1");
    if (i % 2 == 0) builder.put("a.example", "/jobs/state.2");
    traces.push_back(builder.done());
  }
  EXPECT_THAT(requests_of(graph_of(std::move(traces))),
              UnorderedElementsAre("GET a.example/jobs/state.{int}", "PUT a.example/jobs/state.{int}"));
}

TEST(UrlGrouping, TakesTheOnlyHashBehindOneOfSeveralNamesForAHash) {
  std::vector<std::vector<std::string>> executions(3, {"/visits/0f80a5ca"});
  for (const std::string hash : {"1a2b3c4d", "5e6f7a8b", "9c0d1e2f"}) executions.push_back({"/ranks/" + hash});
  EXPECT_THAT(patterns(executions), ElementsAre("GET a.example/ranks/{hex}", "GET a.example/visits/{hex}"));
}

TEST(UrlGrouping, KeepsAConstantOfManyExecutionsBesideIdentifiersOfASibling) {
  std::vector<std::vector<std::string>> executions;
  for (int i = 0; i < 12; ++i) executions.push_back({"/tenants/4711", "/users/" + std::to_string(1000 + i)});
  EXPECT_THAT(patterns(executions), ElementsAre("GET a.example/tenants/4711", "GET a.example/users/{int}"));
}

TEST(UrlGrouping, TakesHashesOfDigitsAloneForHashes) {
  EXPECT_THAT(
      patterns(one_each({"/o/1a2b3c4d", "/o/5e6f7a8b", "/o/9c0d1e2f", "/o/0a1b2c3d", "/o/12345678", "/o/87654321"})),
      ElementsAre("GET a.example/o/{hex}"));
}

TEST(UrlGrouping, TakesFourHashesThatComeBackForHashesButFourSizesForSizes) {
  const auto each_three_times = [](const std::vector<std::string>& paths) {
    std::vector<std::vector<std::string>> out;
    for (int i = 0; i < 3; ++i) {
      for (const std::string& path : paths) out.push_back({path});
    }
    return patterns(out).size();
  };
  EXPECT_EQ(each_three_times({"/o/1a2b3c4d", "/o/5e6f7a8b", "/o/9c0d1e2f", "/o/0a1b2c3d"}), 1U);
  EXPECT_EQ(each_three_times({"/o/64", "/o/128", "/o/256", "/o/512"}), 4U);
}

TEST(UrlGrouping, TakesNamesInAQueryForInputUnlessEachCameBackAgainAndAgain) {
  std::vector<std::vector<std::string>> executions;
  for (const std::string city : {"Oslo", "Lima", "Pune", "Quito"}) {
    for (int i = 0; i < 3; ++i) executions.push_back({"/forecast?city=" + city});
  }
  EXPECT_THAT(patterns(executions), ElementsAre("GET a.example/forecast?city={word}"));
  const auto again = executions;
  executions.insert(executions.end(), again.begin(), again.end());
  EXPECT_EQ(patterns(executions).size(), 4U);
}

TEST(UrlGrouping, KeepsTheResourcesOfAnApiApart) {
  std::vector<std::vector<std::string>> executions(10, {"/v1/charges", "/v1/customers", "/v1/events", "/v1/payouts"});
  for (int i = 0; i < 3; ++i) executions[static_cast<std::size_t>(i)].push_back("/v1/refunds");
  EXPECT_EQ(patterns(executions).size(), 5U);
}

TEST(UrlGrouping, TakesALongIdentifierForOneThoughSeenOnce) {
  std::vector<std::vector<std::string>> executions(5, {"/a"});
  executions[2].push_back("/o/550e8400-e29b-41d4-a716-446655440000");
  executions[3].push_back("/p/first");
  EXPECT_THAT(patterns(executions), ElementsAre("GET a.example/a", "GET a.example/o/{uuid}", "GET a.example/p/first"));
}

TEST(UrlGrouping, TellsMethodsAndActionsApart) {
  const auto trace = [] {
    return TraceBuilder()
        .put(kS3, "/b/1")
        .get(kS3, "/b/1")
        .post("ddb.example", "/", "X.Put")
        .post("ddb.example", "/", "X.Get")
        .done();
  };
  const FlowGraph graph = graph_of({trace(), trace()});
  ASSERT_EQ(graph.spec().nodes_size(), 4);
  EXPECT_EQ(graph.spec().nodes(2).action(), "X.Put");
  EXPECT_EQ(graph.spec().nodes(3).name(), "get");
}

std::vector<std::string> hosts(const std::vector<std::string>& names) {
  std::vector<Trace> traces;
  for (const std::string& name : names) traces.push_back(TraceBuilder().get(name, "/").done());
  return requests_of(graph_of(std::move(traces)));
}

TEST(HostGrouping, FindsARandomStringInALabel) {
  EXPECT_THAT(hosts({"codepipeline-x7f3.us-east-1.amazonaws.com", "codepipeline-9kq2.us-east-1.amazonaws.com",
                     "codepipeline-bb41.us-east-1.amazonaws.com", "codepipeline-0z8w.us-east-1.amazonaws.com"}),
              ElementsAre("GET codepipeline-{word}.us-east-1.amazonaws.com/"));
}

TEST(HostGrouping, FindsALongNumberInTheNameOfABucketThatComesBack) {
  const auto bucket = [](const std::string& number) {
    return "pipeline-us-east-1-" + number + ".s3.us-east-1.amazonaws.com";
  };
  const std::string mine = bucket("569923473013");
  EXPECT_THAT(hosts({mine, mine, mine, bucket("121637798181"), bucket("994430089158")}),
              ElementsAre("GET pipeline-us-east-1-{int}.s3.us-east-1.amazonaws.com/"));
  EXPECT_EQ(hosts({mine, mine, mine, bucket("121637798181")}).size(), 2U) << "of two, both may be meant";
  std::vector<std::string> again;
  for (int i = 0; i < 3; ++i) again.insert(again.end(), {mine, bucket("121637798181"), bucket("994430089158")});
  EXPECT_EQ(hosts(again).size(), 3U) << "each came back again and again";
  EXPECT_EQ(hosts({bucket("1"), bucket("2"), bucket("3")}).size(), 3U) << "somebody counts";
}

TEST(HostGrouping, NeverJoinsWordsNorDomains) {
  EXPECT_EQ(hosts({"s3.amazonaws.com", "sqs.amazonaws.com", "dynamodb.amazonaws.com", "kinesis.amazonaws.com",
                   "lambda.amazonaws.com"})
                .size(),
            5U);
  EXPECT_EQ(hosts({"data-east.api.example.com", "data-west.api.example.com", "data-north.api.example.com",
                   "data-south.api.example.com"})
                .size(),
            4U);
  EXPECT_EQ(hosts({"x7f3.com", "k2m9.com", "p0z1.com", "w8h4.com", "q1r7.com"}).size(), 5U);
  EXPECT_EQ(hosts({"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"}).size(), 5U) << "addresses";
}

TEST(HostGrouping, SaysThatAHostIsOpen) {
  std::vector<Trace> traces;
  for (const std::string id : {"x7f3", "9kq2", "bb41", "0z8w"})
    traces.push_back(TraceBuilder().get("h-" + id + ".w.example.com", "/").done());
  const auto learned = learn(traces, {});
  ASSERT_TRUE(learned);
  EXPECT_THAT(learned->notes, Contains(testing::Field(&LearnNote::text, HasSubstr("every host of this form"))));
}

// Retries and redirects.

class EachFailure : public testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Learn, EachFailure, testing::Values(0, 408, 425, 429, 500, 503, 599));
TEST_P(EachFailure, MakesTheSameRequestAgainARetry) {
  TraceBuilder builder;
  builder.letters("AB");
  GetParam() == 0 ? builder.failed() : builder.status(GetParam());
  const FlowGraph graph = graph_of({builder.letters("BC").done()}, exact());
  EXPECT_THAT(steps_of(graph), ElementsAre("A", "B", "C"));
  EXPECT_EQ(graph.spec().nodes(1).retries(), 1U);
}

TEST(Learn, TakesTheSameRequestAfterASuccessForAStepOfItsOwn) {
  for (const std::uint32_t status : {200U, 404U, 400U, 409U}) {
    const FlowGraph graph = graph_of({TraceBuilder().letters("AB").status(status).letters("BC").done()}, exact());
    EXPECT_THAT(steps_of(graph), ElementsAre("A", "B×2", "C"));
    EXPECT_EQ(graph.spec().nodes(1).retries(), 0U);
  }
}

TEST(Learn, TakesWhatComesBackAfterAnotherStepForAStepOfItsOwn) {
  EXPECT_THAT(steps_of(graph_of({TraceBuilder().letters("A").status(503).letters("BA").done()}, exact())),
              ElementsAre("A", "B", "A"));
}

TEST(Learn, TakesAnotherKeyAfterAFailureForAStepOfItsOwn) {
  const FlowGraph graph =
      graph_of({TraceBuilder().put(kS3, "/b/1001").status(500).put(kS3, "/b/1002").done()}, exact());
  EXPECT_EQ(graph.spec().nodes(0).times(), "2");
}

TEST(Learn, AllowsRetriesWhereNoneWereSeen) { EXPECT_EQ(graph_of(spelled({"A"})).spec().nodes(0).retries(), 2U); }

TEST(Learn, MakesARedirectPartOfTheRequestBefore) {
  const FlowGraph graph = graph_of({TraceBuilder()
                                        .letters("A")
                                        .get("a.example", "/B")
                                        .redirects(307, "b.example", "/x")
                                        .get("b.example", "/x")
                                        .redirects(302, "c.example", "/y")
                                        .get("c.example", "/y")
                                        .letters("C")
                                        .done()},
                                   exact());
  EXPECT_THAT(steps_of(graph), ElementsAre("A", "B", "C"));
  EXPECT_THAT(graph.spec().nodes(1).redirects(), ElementsAre("GET b.example/x", "GET c.example/y"));
}

TEST(Learn, DoesNotTakeARequestForARedirectThatWasNotSentThere) {
  const FlowGraph graph = graph_of(
      {TraceBuilder().get("a.example", "/B").redirects(307, "b.example", "/x").get("b.example", "/z").done()}, exact());
  EXPECT_EQ(graph.spec().nodes_size(), 2);
  EXPECT_THAT(graph.spec().nodes(0).redirects(), IsEmpty());
}

// Parallel requests.

TEST(Learn, PutsParallelRequestsIntoASetInWhicheverOrderTheyBegan) {
  const FlowGraph graph = graph_of({TraceBuilder().letters("AB").letters("C").beside().letters("D").done(),
                                    TraceBuilder().letters("AC").letters("B").beside().letters("D").done()},
                                   exact());
  EXPECT_THAT(steps_of(graph), ElementsAre("A", "|B|C", "D"));
}

TEST(Learn, KeepsTheSetWhereTimingMadeItsRequestsSequential) {
  const FlowGraph graph = graph_of(
      {TraceBuilder().letters("AB").letters("C").beside().letters("D").done(), TraceBuilder().letters("ACBD").done()},
      exact());
  EXPECT_THAT(steps_of(graph), ElementsAre("A", "|B|C", "D"));
}

TEST(Learn, MakesAMemberOfASetOptionalThatIsMissingInOne) {
  const auto first = TraceBuilder().letters("AB").letters("C").beside().letters("D").beside().letters("E").done();
  const auto second = TraceBuilder().letters("AB").letters("D").beside().letters("E").done();
  const FlowGraph graph = graph_of({first, second}, exact());
  EXPECT_THAT(steps_of(graph), ElementsAre("A", "|B|C0..1|D", "E")) << text_of(graph);
}

TEST(Learn, KeepsTheOrderOfWhatOneLongRequestOnlyOverlaps) {
  // T runs beside A, B and C, which follow each other.
  const auto trace = [] {
    return TraceBuilder()
        .letters("T")
        .at_ms(0, 100)
        .letters("A")
        .at_ms(10, 20)
        .letters("B")
        .at_ms(30, 40)
        .letters("C")
        .at_ms(50, 60)
        .done();
  };
  const auto words = Speller(graph_of({trace(), trace()}, exact())).words();
  for (const std::string& word : words) {
    EXPECT_LT(word.find('A'), word.find('B')) << word;
    EXPECT_LT(word.find('B'), word.find('C')) << word;
  }
}

TEST(Learn, TakesARetryAmongParallelRequestsForARetry) {
  const FlowGraph graph =
      graph_of({TraceBuilder().letters("A").letters("B").status(500).beside().letters("B").done()}, exact());
  EXPECT_THAT(steps_of(graph), ElementsAre("|A|B"));
  EXPECT_EQ(graph.spec().nodes(0).retries(), 1U);
}

// Turns.

std::vector<Trace> agent_rounds(std::mt19937& random, int rounds) {
  std::vector<Trace> out;
  for (int i = 0; i < rounds; ++i) {
    std::string word = "SM";
    for (std::size_t turns = random() % 7; turns > 0; --turns) word += std::string(1, "TUV"[random() % 3]) + "M";
    out.push_back(TraceBuilder().letters(word + "E").done());
  }
  return out;
}

TEST(Learn, MakesTurnsOfVaryingOrderOneLoop) {
  std::mt19937 random(7);
  const FlowGraph graph = graph_of(agent_rounds(random, 30));
  ASSERT_EQ(graph.spec().nodes_size(), 3) << text_of(graph);
  const Node& node = graph.spec().nodes(1);
  ASSERT_TRUE(node.has_loop());
  EXPECT_EQ(node.loop().steps_size(), 4);
  EXPECT_THAT(node.loop().starts(), ElementsAre("get-m"));
  EXPECT_THAT(node.loop().ends(), ElementsAre("get-m"));
  for (const auto& step : node.loop().steps()) {
    if (step.name() != "get-m") EXPECT_THAT(step.next(), ElementsAre("get-m")) << "no tool was seen behind a tool";
  }
}

// A tool that was seen behind another tool only is one of them all the same.
TEST(Learn, TakesAToolThatWasSeenOnceForOneOfTheTools) {
  const FlowGraph graph = graph_of(
      spelled({"AMTMUTMUME", "AMUMTUMTME", "AMTUMTMUTME", "AMTTMUMUUME", "AMUMUTVMTME", "AMUTMTMUME", "AMTMTUMUME"}));
  ASSERT_EQ(graph.spec().nodes_size(), 3) << text_of(graph);
  for (const auto& step : graph.spec().nodes(1).loop().steps()) {
    if (step.name() == "get-m") {
      EXPECT_THAT(step.next(), UnorderedElementsAre("get-t", "get-u", "get-v")) << "never the model behind itself";
    } else {
      EXPECT_THAT(step.next(), UnorderedElementsAre("get-m", "get-t", "get-u", "get-v")) << step.name();
    }
  }
}

// Two tools behind each other, either way round, each way in several executions: the third is one of them all the same.
TEST(Learn, TakesToolsThatCameInEitherOrderForToolsInAnyOrder) {
  std::vector<std::string> words = {"AMTMVMVME", "AMVMTMTME", "AMUMVMUME", "AMTMUMTMVME", "AMVMUMVMTME"};
  for (int i = 0; i < 3; ++i) words.insert(words.end(), {"AMTUME", "AMUTME"});
  const FlowGraph graph = graph_of(spelled(words));
  ASSERT_EQ(graph.spec().nodes_size(), 3) << text_of(graph);
  for (const auto& step : graph.spec().nodes(1).loop().steps()) {
    if (step.name() == "get-m") continue;
    EXPECT_THAT(step.next(), UnorderedElementsAre("get-m", "get-t", "get-u", "get-v")) << step.name();
  }
}

// C and E were never seen together, which chance explains: in 20 executions there were three of one, and two of the
// other.
TEST(Learn, TakesNoRuleFromWhatChanceExplains) {
  std::vector<std::string> words(15, "ABD");
  words.insert(words.end(), {"ABCD", "ABCD", "ABCD", "AEBD", "AEBD"});
  EXPECT_THAT(Speller(graph_of(spelled(words), exact())).words(), Contains("AEBCD"));
  std::vector<std::string> either;
  for (int i = 0; i < 20; ++i) either.push_back(i % 2 == 0 ? "ABCD" : "AEBD");
  EXPECT_THAT(Speller(graph_of(spelled(either), exact())).words(), UnorderedElementsAre("ABCD", "AEBD"));
}

TEST(Learn, MakesNoLoopOfWhatSettles) {
  const FlowGraph graph = graph_of(spelled({"ABACAD", "ABACAD", "ABACAD", "ABACAD"}), exact());
  EXPECT_THAT(steps_of(graph), ElementsAre("A", "B", "A", "C", "A", "D"));
}

// Counters.

// The requests of one place in the middle, by how many of them each execution had; no polls.
std::string times_of(const std::vector<std::size_t>& counts, const LearnOptions& options = {}) {
  std::vector<Trace> traces;
  for (const std::size_t count : counts) {
    TraceBuilder builder;
    builder.post("a.example", "/begin");
    for (std::size_t i = 0; i < count; ++i) builder.post("a.example", "/step");
    traces.push_back(builder.post("a.example", "/end").done());
  }
  return graph_of(std::move(traces), options).spec().nodes(1).times();
}

TEST(Counters, ThatDidNotVaryInFewExecutionsHaveHeadroom) {
  EXPECT_EQ(times_of(std::vector<std::size_t>(5, 3)), "3..5");
  EXPECT_EQ(times_of(std::vector<std::size_t>(25, 3)), "3..4");
  EXPECT_EQ(times_of(std::vector<std::size_t>(300, 3)), "3..3");
  EXPECT_EQ(times_of(std::vector<std::size_t>(5, 3), exact()), "3..3");
  EXPECT_EQ(times_of(std::vector<std::size_t>(5, 1)), "") << "no loop";
}

TEST(Counters, ThatVariedHaveHeadroomThatShrinksWithTheExecutions) {
  const std::vector<std::size_t> counts = {4, 5, 6, 5, 4, 6, 5, 4, 7, 5};
  EXPECT_EQ(times_of(counts), "14");
  std::vector<std::size_t> many;
  for (int i = 0; i < 16; ++i) many.insert(many.end(), counts.begin(), counts.end());
  EXPECT_EQ(times_of(many), "4..9");
  EXPECT_EQ(times_of(many, exact()), "4..7");
}

TEST(Counters, OfWhatIsPolledAreAMatterOfTime) {
  const auto polls = [](const std::string& method, bool same) {
    std::vector<Trace> traces;
    for (const int count : {2, 3, 2, 4, 2, 2, 3}) {
      TraceBuilder builder;
      for (int i = 0; i < count; ++i) {
        builder.request(method, "a.example", "/results/" + std::to_string(same ? 7 : i));
      }
      traces.push_back(builder.post("a.example", "/end").done());
    }
    return graph_of(std::move(traces)).spec().nodes(0).times();
  };
  EXPECT_EQ(polls("HEAD", true), "100");
  EXPECT_EQ(polls("POST", true), "9") << "not what changes something";
  EXPECT_EQ(polls("HEAD", false), "9") << "nor what is another request each time";
}

TEST(Counters, GetNoHeadroomWhereTheMaximumWasSeenOften) {
  std::vector<std::string> words;
  for (int i = 0; i < 120; ++i) words.push_back("A" + std::string(1 + static_cast<std::size_t>(i % 4), 'B'));
  EXPECT_EQ(graph_of(spelled(words)).spec().nodes(1).times(), "4");
}

// What is not learned from.

TEST(Learn, RefusesSeveralFunctionsUnlessOneIsNamed) {
  const std::vector<Trace> traces = {TraceBuilder("a").letters("A").done(), TraceBuilder("b").letters("B").done()};
  const auto both = learn(traces, {});
  ASSERT_FALSE(both);
  EXPECT_THAT(both.error().text, HasSubstr("'a' and 'b'"));
  LearnOptions options;
  options.function = "b";
  const auto one = learn(traces, options);
  ASSERT_TRUE(one);
  EXPECT_EQ(one->executions, 1U);
  EXPECT_EQ(one->graph.metadata().name(), "b");
}

TEST(Learn, RefusesSeveralImages) {
  std::vector<Trace> traces = {TraceBuilder().letters("A").done(), TraceBuilder().letters("A").done()};
  const std::string digest = "sha256:" + std::string(64, 'a');
  traces[0].set_image_digest(digest);
  EXPECT_THAT(learn(traces, {}).error().text, HasSubstr("several images"));
  traces[1].set_image_digest(digest);
  EXPECT_EQ(graph_of(traces).spec().image_digest(), digest);
}

TEST(Learn, LeavesOutWhatHasNoEndOrIsMixedAndSaysSo) {
  std::vector<Trace> traces(4, TraceBuilder().letters("AB").done());
  traces[1].set_end(v1alpha1::EXECUTION_END_CUT);
  traces[2].set_end(v1alpha1::EXECUTION_END_TIMEOUT);
  traces[3].set_attributed(false);
  const auto learned = learn(traces, {});
  ASSERT_TRUE(learned);
  EXPECT_EQ(learned->executions, 1U);
  EXPECT_EQ(learned->left_out, 3U);
  EXPECT_THAT(learned->notes, Contains(testing::Field(&LearnNote::text, HasSubstr("2 executions without an end"))));
  traces.erase(traces.begin());
  EXPECT_THAT(learn(traces, {}).error().text, HasSubstr("3 had no end"));
  EXPECT_THAT(learn({}, {}).error().text, HasSubstr("no execution"));
}

TEST(Learn, DoesNotLearnWhatTheGuardRefused) {
  Trace trace = TraceBuilder().letters("AXB").done();
  trace.mutable_flows(1)->set_end(v1alpha1::FLOW_END_DENIED);
  EXPECT_THAT(steps_of(graph_of({trace}, exact())), ElementsAre("A", "B"));
}

TEST(Learn, RefusesATraceThatIsNotCanonical) { EXPECT_FALSE(learn({TraceBuilder().get("A.EXAMPLE", "/").done()}, {})); }

TEST(Learn, SaysWhatWasSeenOnce) {
  std::vector<std::string> words(9, "AB");
  words.push_back("AXB");
  const auto learned = learn(spelled(words), {});
  ASSERT_TRUE(learned);
  EXPECT_THAT(learned->notes, Contains(testing::AllOf(testing::Field(&LearnNote::node, "get-x"),
                                                      testing::Field(&LearnNote::text, "seen in 1 of 10 executions"))));
  EXPECT_EQ(node_named(learned->graph, "get-a")->support(), 10U);
  EXPECT_EQ(node_named(learned->graph, "get-x")->support(), 1U);
}

// Hostile traces: they end in a graph or in an error, soon. ctest's limit of time is the test.

TEST(Learn, OfThousandsOfRandomOrdersEnds) {
  std::mt19937 random(3);
  std::vector<Trace> traces;
  for (int i = 0; i < 300; ++i) {
    std::string word;
    for (int j = 0; j < 24; ++j) word += static_cast<char>('A' + random() % 20);
    traces.push_back(TraceBuilder().letters(word).done());
  }
  const auto learned = learn(traces, {});
  EXPECT_TRUE(learned || learned.error().kind == ErrorKind::limit) << learned.error().text;
}

TEST(Learn, OfPermutationsWithoutRepetitionEnds) {
  std::mt19937 random(4);
  std::string letters = "ABCDEFGHIJKLMNOP";
  std::vector<Trace> traces;
  for (int i = 0; i < 60; ++i) {
    std::ranges::shuffle(letters, random);
    traces.push_back(TraceBuilder().letters(letters).done());
  }
  const auto learned = learn(traces, {});
  EXPECT_TRUE(learned || learned.error().kind == ErrorKind::limit) << learned.error().text;
}

TEST(Learn, RefusesMoreDifferentRequestsThanAGraphMayHave) {
  TraceBuilder builder;
  for (std::size_t i = 0; i < limits::kTraceFlowsMax; ++i) {
    std::string word;
    for (std::size_t n = i + 1'000; n > 0; n /= 26) word += static_cast<char>('a' + n % 26);
    builder.get("a.example", "/" + word);
  }
  LearnOptions options;
  options.lcp_threshold = UINT32_MAX;
  const auto learned = learn({builder.done()}, options);
  ASSERT_FALSE(learned);
  EXPECT_EQ(learned.error().kind, ErrorKind::limit);
  EXPECT_THAT(learned.error().text, HasSubstr("--lcp-threshold"));
}

TEST(Learn, OfALongTraceThatAllOverlapsEnds) {
  TraceBuilder builder;
  for (std::size_t i = 0; i < limits::kTraceFlowsMax; ++i) {
    builder.get("a.example", "/" + std::string(1, static_cast<char>('a' + i % 26))).at_ms(0, 1'000'000);
  }
  const FlowGraph graph = graph_of({builder.done()}, exact());
  ASSERT_EQ(graph.spec().nodes_size(), 1);
  EXPECT_EQ(graph.spec().nodes(0).set_size(), 26);
}

TEST(Learn, OfADeepPathAndALongQueryEnds) {
  std::string deep, query;
  for (int i = 0; i < 1'000; ++i) {
    deep += "/a";
    query += (i == 0 ? "k" : "&k") + std::to_string(i) + "=1";
  }
  EXPECT_THAT(patterns({{deep + "?" + query}}), ElementsAre(testing::EndsWith("/*?*")));
}

}  // namespace
}  // namespace sallyport::flow
