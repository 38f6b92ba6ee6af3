#include "proxy/guard/execution_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <string>
#include <thread>
#include <vector>

#include "base/hex.h"
#include "base/limits.h"
#include "policy-engine/flow/graph_document.h"

namespace sallyport::guard {
namespace {

namespace api = sallyport::flow::v1alpha1;
using std::chrono::milliseconds;

constexpr std::string_view kTraceA = "0af7651916cd43dd8448eb211c80319c", kTraceB = "4bf92f3577b34da6a3ce929d0e0e4736";

Moment at(milliseconds since) {
  return {net::Deadline(std::chrono::hours(1) + since),
          std::chrono::system_clock::time_point(std::chrono::hours(500'000) + since)};
}

// load, which may be sent again once when it failed, then store.
std::shared_ptr<const flow::Graph> graph() {
  api::FlowGraph document;
  document.set_api_version("sallyport.dev/v1alpha1");
  document.set_kind("FlowGraph");
  document.mutable_metadata()->set_name("f");
  document.mutable_spec()->add_entry("load");
  const auto add = [&](const std::string& name, const std::string& next) {
    api::Node& node = *document.mutable_spec()->add_nodes();
    node.set_name(name);
    node.set_request("GET api.example.com/" + name);
    node.set_retries(1);
    node.add_next(next);
  };
  add("load", "store");
  add("store", "exit");
  flow::GraphLoad load = flow::load_graph(std::move(document), "f");
  for (const document::Diagnostic& one : load.diagnostics) ADD_FAILURE() << one.to_string();
  return load.graph;
}

class Executions : public testing::Test {
 protected:
  std::vector<EndedExecution> ended;
  ExecutionTable::Step step;  // of the request that was sent last
  ExecutionTable table{{.function = "f", .traces = true},
                       [this](EndedExecution&& one) { ended.push_back(std::move(one)); }};

  static flow::Operation get(std::string_view path) { return {"GET", "api.example.com", path, {}, {}}; }
  static api::Operation inbound(const std::string& path) {
    api::Operation out;
    out.set_method("POST");
    out.set_host("f.example.com");
    out.set_path(path);
    return out;
  }
  ExecutionTable::Flow send(std::string_view path, std::optional<std::string_view> trace = {}, milliseconds when = {}) {
    return send(get(path), trace, when, false);
  }
  // A request that will be sent if the graph allows it.
  ExecutionTable::Flow follow(std::string_view path, std::optional<std::string_view> trace = {}) {
    return send(get(path), trace, {}, true);
  }
  std::string refusal(std::string_view path, std::optional<std::string_view> trace = {}) {
    follow(path, trace);
    return step.refusal;
  }
  ExecutionTable::Flow send(const flow::Operation& operation, std::optional<std::string_view> trace, milliseconds when,
                            bool follow) {
    request::HeaderList headers;
    if (trace) headers.add_owned("traceparent", "00-" + std::string(*trace) + "-00f067aa0ba902b7-01");
    step = {};
    return table.send({operation, headers, at(when).steady, follow}, at(when).steady, step);
  }
  static ExecutionTable::Outcome answered(int status) { return {api::FLOW_END_ANSWERED, status, {}, 3, 5}; }
};

TEST_F(Executions, OneExecutionHasAllThatIsSentWhileItIsOpen) {
  const auto id = table.begin({}, at(milliseconds(0)));
  ASSERT_TRUE(id);
  auto first = send("/a", {}, milliseconds(10)), second = send("/b", {}, milliseconds(20));
  EXPECT_EQ(first.attribution(), Attribution::only);
  EXPECT_EQ(first.execution(), *id);
  second.end(answered(500), at(milliseconds(30)).steady);
  first.end(answered(200), at(milliseconds(40)).steady);
  EXPECT_TRUE(ended.empty());
  table.end(*id, api::EXECUTION_END_COMPLETE, at(milliseconds(1'050)).steady);
  ASSERT_EQ(ended.size(), 1U);
  const api::Trace& trace = *ended[0].trace;
  EXPECT_EQ(trace.function(), "f");
  EXPECT_EQ(trace.execution(), to_hex(*id));
  EXPECT_EQ(trace.end(), api::EXECUTION_END_COMPLETE);
  EXPECT_TRUE(trace.attributed());
  EXPECT_FALSE(trace.has_inbound());
  EXPECT_EQ(trace.duration().seconds(), 1);
  EXPECT_EQ(trace.duration().nanos(), 50'000'000);
  ASSERT_EQ(trace.flows_size(), 2);
  EXPECT_EQ(trace.flows(0).operation().path(), "/a");
  EXPECT_EQ(trace.flows(0).began().nanos(), 10'000'000);
  EXPECT_EQ(trace.flows(0).ended().nanos(), 40'000'000);
  EXPECT_EQ(trace.flows(1).status(), 500U);
  EXPECT_EQ(trace.flows(1).bytes_up(), 3U);
  EXPECT_EQ(trace.flows(1).bytes_down(), 5U);
}

TEST_F(Executions, WhatIsSentIsPartOfTheRequestThatTheMessageWasPartOf) {
  const ExecutionId asked{1, 2, 3};
  const auto told = table.begin({.trace_id = std::string(kTraceA), .application_request = asked}, at(milliseconds(0)));
  const auto first = table.begin({.trace_id = std::string(kTraceB)}, at(milliseconds(1)));
  ASSERT_TRUE(told && first);
  ExecutionTable::Flow moved = send("/1", kTraceA);
  const ExecutionTable::Flow of_told(std::move(moved)), of_first = send("/2", kTraceB);
  EXPECT_EQ(of_told.execution(), *told);
  EXPECT_EQ(of_told.application_request(), asked);
  EXPECT_EQ(of_first.application_request(), *first) << "it is the first of its request, which has its number";
}

TEST_F(Executions, NothingIsToldBeforeTheLastFlowHasEnded) {
  const auto id = table.begin({}, at(milliseconds(0)));
  {
    auto open = send("/a");
    table.end(*id, api::EXECUTION_END_COMPLETE, at(milliseconds(5)).steady);
    EXPECT_EQ(table.open(), 0U);
    EXPECT_TRUE(ended.empty());
    EXPECT_EQ(send("/late").attribution(), Attribution::none);
  }
  ASSERT_EQ(ended.size(), 1U);
  ASSERT_EQ(ended[0].trace->flows_size(), 1);
  EXPECT_EQ(ended[0].trace->flows(0).end(), api::FLOW_END_FAILED) << "nobody said how it ended";
}

TEST_F(Executions, SeveralAreToldApartByTheTraceThatTheyBear) {
  const auto a = table.begin({.inbound = inbound("/a"), .trace_id = std::string(kTraceA)}, at(milliseconds(0)));
  const auto b = table.begin({.inbound = inbound("/b"), .trace_id = std::string(kTraceB)}, at(milliseconds(1)));
  auto of_b = send("/1", kTraceB), of_a = send("/2", kTraceA);
  EXPECT_EQ(of_b.attribution(), Attribution::trace_context);
  EXPECT_EQ(of_b.execution(), *b);
  EXPECT_EQ(of_a.execution(), *a);
  of_a.end(answered(200), at(milliseconds(3)).steady);
  of_b.end(answered(200), at(milliseconds(3)).steady);
  table.end_all(api::EXECUTION_END_CUT, at(milliseconds(9)).steady);
  ASSERT_EQ(ended.size(), 2U);
  for (const EndedExecution& one : ended) EXPECT_TRUE(one.attributed);
  EXPECT_EQ(ended[0].inbound->path(), "/a");
  EXPECT_EQ(ended[0].trace->flows(0).operation().path(), "/2");
}

TEST_F(Executions, WhatCannotBeToldApartSpoilsEveryTraceThatIsOpen) {
  const auto before = table.begin({.inbound = inbound("/x")}, at(milliseconds(0)));
  table.end(*before, api::EXECUTION_END_COMPLETE, at(milliseconds(0)).steady);
  ASSERT_TRUE(table.begin({.inbound = inbound("/a"), .trace_id = std::string(kTraceA)}, at(milliseconds(1))));
  ASSERT_TRUE(table.begin({.inbound = inbound("/b"), .trace_id = std::string(kTraceA)}, at(milliseconds(2))));
  EXPECT_EQ(send("/1").attribution(), Attribution::set);
  EXPECT_EQ(send("/2", kTraceB).attribution(), Attribution::set) << "a trace that nobody has";
  EXPECT_EQ(send("/3", kTraceA).attribution(), Attribution::set) << "a trace that two have";
  table.end_all(api::EXECUTION_END_COMPLETE, at(milliseconds(9)).steady);
  ASSERT_EQ(ended.size(), 3U);
  EXPECT_TRUE(ended[0].attributed);
  EXPECT_FALSE(ended[1].attributed);
  EXPECT_FALSE(ended[2].attributed);
  EXPECT_EQ(ended[1].trace->flows_size(), 3) << "with the one that began first";
  EXPECT_FALSE(ended[1].trace->attributed());
}

TEST_F(Executions, ATimeLimitEndsRequestsButNoProcess) {
  ASSERT_TRUE(table.begin({.process = true}, at(milliseconds(0))));
  ASSERT_TRUE(table.begin({.inbound = inbound("/a")}, at(milliseconds(0))));
  EXPECT_EQ(send("/1", {}, limits::kExecutionTimeout - milliseconds(1)).attribution(), Attribution::set);
  EXPECT_EQ(send("/2", {}, limits::kExecutionTimeout).attribution(), Attribution::only);
  EXPECT_EQ(table.open(), 1U);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].end, api::EXECUTION_END_TIMEOUT);
}

TEST_F(Executions, WhatIsBeforeTheFirstMessageIsOneOfItsOwn) {
  const auto start = table.begin({.start = true}, at(milliseconds(0)));
  auto early = send("/config", {}, limits::kExecutionTimeout + milliseconds(1));
  EXPECT_EQ(early.execution(), *start) << "no limit on time: nobody may ask for anything for long";
  early.end(answered(200), at(milliseconds(1)).steady);
  const auto first = table.begin({.inbound = inbound("/a")}, at(milliseconds(9)));
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].id, *start);
  EXPECT_EQ(ended[0].end, api::EXECUTION_END_COMPLETE);
  EXPECT_EQ(ended[0].flows, 1U);
  EXPECT_EQ(send("/b").execution(), *first);
  ASSERT_TRUE(table.begin({.inbound = inbound("/b")}, at(milliseconds(10))));
  EXPECT_EQ(table.open(), 2U) << "only the start ends so";
  table.end_all(api::EXECUTION_END_CUT, at(milliseconds(11)).steady);
  EXPECT_EQ(ended.size(), 3U);
}

TEST_F(Executions, AStartThatSendsNothingIsNone) {
  table.set_graph(graph());
  ASSERT_TRUE(table.begin({.start = true}, at(milliseconds(0))));
  const auto first = table.begin({}, at(milliseconds(1)));
  EXPECT_TRUE(ended.empty());
  EXPECT_EQ(refusal("/load"), "");
  table.end(*first, api::EXECUTION_END_CUT, at(milliseconds(2)).steady);
}

TEST_F(Executions, OnlySoManyCanBeOpen) {
  for (std::size_t i = 0; i < limits::kExecutionsOpenMax; ++i) ASSERT_TRUE(table.begin({}, at(milliseconds(0))));
  EXPECT_FALSE(table.begin({}, at(milliseconds(0))));
}

TEST_F(Executions, ATraceThatHasNoRoomIsCutAndSaysHowMuchItLacks) {
  const auto id = table.begin({}, at(milliseconds(0)));
  for (std::size_t i = 0; i < limits::kTraceFlowsMax + 7; ++i)
    send("/a").end(answered(200), at(milliseconds(1)).steady);
  table.end(*id, api::EXECUTION_END_COMPLETE, at(milliseconds(2)).steady);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].end, api::EXECUTION_END_CUT);
  EXPECT_EQ(ended[0].flows, limits::kTraceFlowsMax + 7);
  EXPECT_EQ(ended[0].left_out, 7U);
  EXPECT_EQ(static_cast<std::size_t>(ended[0].trace->flows_size()), limits::kTraceFlowsMax);
}

TEST_F(Executions, LongPathsTakeNoMoreThanATraceMay) {
  const auto id = table.begin({}, at(milliseconds(0)));
  const std::string path = "/" + std::string(limits::kRequestTargetBytesMax - 1, 'x');
  for (int i = 0; i < 1'000; ++i) send(path).end(answered(200), at(milliseconds(1)).steady);
  table.end(*id, api::EXECUTION_END_COMPLETE, at(milliseconds(2)).steady);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_LE(ended[0].trace->ByteSizeLong(), limits::kTraceBytesMax);
  EXPECT_EQ(ended[0].left_out + static_cast<std::uint64_t>(ended[0].trace->flows_size()), 1'000U);
}

TEST_F(Executions, WhereRedirectsLeadTakesNoMoreThanATraceMayEither) {
  const auto id = table.begin({}, at(milliseconds(0)));
  api::Operation far = inbound("/" + std::string(limits::kRequestTargetBytesMax - 1, 'x'));
  for (int i = 0; i < 1'000; ++i) {
    send("/a").end({api::FLOW_END_ANSWERED, 307, far, 0, 0}, at(milliseconds(1)).steady);
  }
  table.end(*id, api::EXECUTION_END_COMPLETE, at(milliseconds(2)).steady);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_LE(ended[0].trace->ByteSizeLong(), limits::kTraceBytesMax);
  EXPECT_GT(ended[0].left_out, 0U);
  EXPECT_EQ(ended[0].end, api::EXECUTION_END_CUT) << "a request lacks its redirect: that is not all that happened";
  EXPECT_FALSE(ended[0].trace->flows(ended[0].trace->flows_size() - 1).has_redirect());
}

TEST_F(Executions, FlowsStandInTheOrderInWhichTheirHeadsCame) {
  const auto id = table.begin({}, at(milliseconds(0)));
  auto later = send("/later", {}, milliseconds(20)), held = send("/held", {}, milliseconds(10));
  held.end(answered(200), at(milliseconds(30)).steady);
  later.end(answered(200), at(milliseconds(30)).steady);
  table.end(*id, api::EXECUTION_END_COMPLETE, at(milliseconds(40)).steady);
  EXPECT_EQ(ended.at(0).trace->flows(0).operation().path(), "/held");
}

TEST_F(Executions, AGraphRefusesWhatIsOutOfOrder) {
  table.set_graph(graph());
  const auto id = table.begin({}, at(milliseconds(0)));
  {
    auto early = follow("/store");
    EXPECT_NE(step.refusal.find("expected: GET api.example.com/load; at: the entry"), std::string::npos)
        << step.refusal;
    EXPECT_EQ(early.execution(), *id) << "whose it was is told all the same";
    early.end({api::FLOW_END_DENIED, 403, {}, 0, 0}, at(milliseconds(1)).steady);
  }
  auto first = follow("/load");
  EXPECT_EQ(step.refusal, "");
  EXPECT_EQ(step.node, "load");
  EXPECT_NE(refusal("/load"), "") << "while the first has no answer it is no retry";
  first.answered(503);
  EXPECT_EQ(refusal("/load"), "");
  EXPECT_EQ(refusal("/store"), "");
  table.end(*id, api::EXECUTION_END_COMPLETE, at(milliseconds(9)).steady);
  first.end(answered(503), at(milliseconds(10)).steady);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].incomplete, "");
  EXPECT_EQ(ended[0].trace->flows_size(), 5);
}

TEST_F(Executions, OneThatEndsTooEarlyIsToldSo) {
  table.set_graph(graph());
  const auto early = table.begin({}, at(milliseconds(0)));
  follow("/load").answered(200);
  table.end(*early, api::EXECUTION_END_COMPLETE, at(milliseconds(1)).steady);
  const auto cut = table.begin({}, at(milliseconds(2)));
  table.end(*cut, api::EXECUTION_END_CUT, at(milliseconds(3)).steady);
  ASSERT_EQ(ended.size(), 2U);
  EXPECT_NE(ended[0].incomplete.find("expected: GET api.example.com/store; at: load (so far: load)"), std::string::npos)
      << ended[0].incomplete;
  EXPECT_EQ(ended[1].incomplete, "") << "nobody knows what it would have done";
}

TEST_F(Executions, NothingMayBeSentWhereNoneIsOpen) {
  table.set_graph(graph());
  EXPECT_NE(refusal("/load"), "");
  const auto id = table.begin({}, at(milliseconds(0)));
  table.end(*id, api::EXECUTION_END_CUT, at(milliseconds(1)).steady);
  EXPECT_NE(refusal("/load"), "") << "after its end";
}

TEST_F(Executions, OneThatBeganWithoutAGraphGoesOnWithoutIt) {
  const auto old = table.begin({}, at(milliseconds(0)));
  table.set_graph(graph());
  EXPECT_EQ(refusal("/anything"), "");
  const auto recent = table.begin({}, at(milliseconds(1)));
  EXPECT_EQ(refusal("/anything"), "") << "it may be the old one's";
  table.end(*old, api::EXECUTION_END_COMPLETE, at(milliseconds(2)).steady);
  EXPECT_NE(refusal("/anything"), "");
  table.set_graph(nullptr);
  EXPECT_NE(refusal("/anything"), "") << "it keeps the graph that it began with";
  table.end(*recent, api::EXECUTION_END_CUT, at(milliseconds(3)).steady);
}

TEST_F(Executions, ATraceGivesARequestToItsExecutionAlone) {
  table.set_graph(graph());
  ASSERT_TRUE(table.begin({.trace_id = std::string(kTraceA)}, at(milliseconds(0))));
  ASSERT_TRUE(table.begin({.trace_id = std::string(kTraceB)}, at(milliseconds(0))));
  EXPECT_EQ(refusal("/load", kTraceA), "");
  EXPECT_NE(refusal("/store", kTraceB), "");
  auto store = follow("/store");
  EXPECT_EQ(step.refusal, "") << "the first one's, as it has loaded";
  EXPECT_NE(refusal("/store", kTraceA), "");
  table.end_all(api::EXECUTION_END_CUT, at(milliseconds(9)).steady);
}

TEST(ExecutionThreads, WorkersMaySendAtOnce) {
  std::vector<EndedExecution> ended;
  ExecutionTable table({.function = "f", .traces = true},
                       [&](EndedExecution&& one) { ended.push_back(std::move(one)); });
  const auto id = table.begin({}, Moment::now());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        const flow::Operation operation{"GET", "a.example", "/", {}, {}};
        ExecutionTable::Step step;
        auto flow = table.send({operation, request::HeaderList(), net::Clock::now(), false}, net::Clock::now(), step);
        flow.end({api::FLOW_END_ANSWERED, 200, {}, 0, 0}, net::Clock::now());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  table.end(*id, api::EXECUTION_END_COMPLETE, net::Clock::now());
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].trace->flows_size(), 2'000);
}

// Whichever comes last tells of it, without a lock: its m_out, or the end of one of its flows.
TEST(ExecutionThreads, EachIsToldOnceWhoeverEndsLast) {
  std::atomic<int> told = 0;
  ExecutionTable table({.function = "f", .messages = true}, [&](EndedExecution&& one) {
    EXPECT_EQ(one.flows, 3U);
    EXPECT_EQ(one.end, api::EXECUTION_END_COMPLETE);
    ++told;
  });
  for (int round = 1; round <= 300; ++round) {
    const auto id = table.begin({}, Moment::now());
    ASSERT_TRUE(id);
    std::barrier start(4);
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      const flow::Operation operation{"GET", "a.example", "/", {}, {}};
      ExecutionTable::Step step;
      auto flow = table.send({operation, request::HeaderList(), net::Clock::now(), false}, net::Clock::now(), step);
      threads.emplace_back([&start, flow = std::move(flow)]() mutable {
        start.arrive_and_wait();
        flow.end({api::FLOW_END_ANSWERED, 200, {}, 0, 0}, net::Clock::now());
      });
    }
    start.arrive_and_wait();
    table.end(*id, api::EXECUTION_END_COMPLETE, net::Clock::now());
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(told, round);
  }
}

std::optional<std::string> parsed(std::initializer_list<std::string_view> values) {
  request::HeaderList headers;
  for (const std::string_view value : values) headers.add("TraceParent", value);
  return trace_id_of(headers);
}

TEST(TraceParent, TheTraceIdOfAWellFormedOneIsTaken) {
  EXPECT_EQ(parsed({"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}), kTraceA);
  EXPECT_EQ(parsed({"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"}), kTraceA) << "a later version";
}

TEST(TraceParent, AMalformedOneCountsAsNone) {
  EXPECT_FALSE(parsed({}));
  for (const std::string_view text : {"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
                                      "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                                      "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                                      "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                                      "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
                                      "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
                                      "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
                                      "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
                                      "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011"}) {
    EXPECT_FALSE(parsed({text})) << text;
  }
  const std::string_view good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  EXPECT_FALSE(parsed({good, good})) << "two of them";
}

}  // namespace
}  // namespace sallyport::guard
