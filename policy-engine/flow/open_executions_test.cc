#include "policy-engine/flow/open_executions.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "policy-engine/flow/graph_compiler.h"

namespace sallyport::flow {
namespace {

std::shared_ptr<const Graph> graph_of(const std::string& text) {
  v1alpha1::FlowGraph document;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, document.mutable_spec())) << text;
  document.mutable_metadata()->set_name("shop");
  return GraphCompiler(document).compile({});
}

Operation get(std::string_view path) { return {"GET", "a.com", path, "", ""}; }

// load → store, each once.
std::shared_ptr<const Graph> load_store() {
  return graph_of(R"(entry: "load"
    nodes { name: "load" request: "GET a.com/load" retries: 1 next: "store" }
    nodes { name: "store" request: "GET a.com/store" next: "exit" })");
}

// q then r, or p then q then s: whose a q is decides what may follow.
std::shared_ptr<const Graph> either() {
  return graph_of(R"(entry: ["q", "p"]
    nodes { name: "q" request: "GET a.com/q" next: "r" }
    nodes { name: "r" request: "GET a.com/r" next: "exit" }
    nodes { name: "p" request: "GET a.com/p" next: "q2" }
    nodes { name: "q2" request: "GET a.com/q" next: "s" }
    nodes { name: "s" request: "GET a.com/s" next: "exit" })");
}

class Crowd {
 public:
  explicit Crowd(std::shared_ptr<const Graph> graph, std::size_t size) : graph_(std::move(graph)) {
    for (std::size_t i = 0; i < size; ++i) executions.begin(graph_);
  }
  bool sends(std::string_view path, std::optional<OpenExecutions::Id> by = std::nullopt, Answer answer = Answer::fine) {
    const OpenExecutions::Id id = ++last_;
    if (!executions.request(by, get(path), id)) return false;
    executions.answered(id, answer);
    return true;
  }
  OpenExecutions executions;

 private:
  std::shared_ptr<const Graph> graph_;
  OpenExecutions::Id last_ = 100;
};

TEST(OpenExecutions, LetEachSendWhatItsGraphAllowsAndNoMore) {
  Crowd crowd(load_store(), 2);
  EXPECT_TRUE(crowd.sends("/load"));
  EXPECT_TRUE(crowd.sends("/load"));
  EXPECT_FALSE(crowd.sends("/load")) << "there are two, not three";
  EXPECT_TRUE(crowd.sends("/store"));
  EXPECT_EQ(crowd.executions.end(1), "");
  EXPECT_NE(crowd.executions.end(2), "") << "one has not stored anything";
}

TEST(OpenExecutions, OneThatIsKnownHasItsOwnWay) {
  Crowd crowd(load_store(), 2);
  EXPECT_TRUE(crowd.sends("/load", 1));
  EXPECT_FALSE(crowd.sends("/store", 2)) << "it was the other that has loaded";
  EXPECT_TRUE(crowd.sends("/store", 1));
  EXPECT_NE(crowd.executions.end(2), "");
  EXPECT_EQ(crowd.executions.end(1), "");
}

TEST(OpenExecutions, WhoSentWhatIsLeftOpenUntilItMatters) {
  // p and q may be of one execution (then s comes) or of two (then r does): both stay possible.
  Crowd one(either(), 2);
  EXPECT_TRUE(one.sends("/p") && one.sends("/q") && one.sends("/s"));
  EXPECT_FALSE(one.sends("/r")) << "q was the first one's, as s has shown";
  Crowd two(either(), 2);
  EXPECT_TRUE(two.sends("/p") && two.sends("/q") && two.sends("/r"));
  EXPECT_TRUE(two.sends("/q") && two.sends("/s"));
  EXPECT_EQ(two.executions.end(1) + two.executions.end(2), "");
}

TEST(OpenExecutions, SayAtWhichNodeAndWhetherTheAnswerMakesADifference) {
  OpenExecutions executions;
  executions.begin(load_store());
  const auto load = executions.request(1, get("/load"), 101);
  ASSERT_TRUE(load.has_value());
  EXPECT_EQ(load->node, "load");
  EXPECT_TRUE(load->awaited) << "it may be sent again";
  const auto store = executions.request(1, get("/store"), 102);
  ASSERT_TRUE(store.has_value());
  EXPECT_EQ(store->node, "store");
  EXPECT_FALSE(store->awaited);
  EXPECT_FALSE(executions.request(1, get("/store"), 103).has_value());

  // A q of either node, of which one has retries: its answer is awaited where one reading may want it.
  OpenExecutions two;
  const auto graph = graph_of(R"(entry: ["q", "p"]
    nodes { name: "q" request: "GET a.com/q" next: "exit" }
    nodes { name: "p" request: "GET a.com/p" next: "q2" }
    nodes { name: "q2" request: "GET a.com/q" retries: 1 next: "exit" })");
  two.begin(graph);
  two.begin(graph);
  const auto p = two.request(std::nullopt, get("/p"), 101);
  ASSERT_TRUE(p.has_value());
  EXPECT_FALSE(p->awaited);
  const auto q = two.request(std::nullopt, get("/q"), 102);
  ASSERT_TRUE(q.has_value());
  EXPECT_TRUE(q->awaited);
  two.answered(102, Answer::retryable);
  EXPECT_TRUE(two.request(std::nullopt, get("/q"), 103));
}

TEST(OpenExecutions, ARefusalChangesNothing) {
  Crowd crowd(load_store(), 2);
  EXPECT_FALSE(crowd.sends("/store"));
  EXPECT_FALSE(crowd.sends("/elsewhere"));
  EXPECT_TRUE(crowd.sends("/load"));
}

TEST(OpenExecutions, AreNoneAfterTheLastHasEnded) {
  Crowd crowd(load_store(), 1);
  EXPECT_TRUE(crowd.sends("/load") && crowd.sends("/store"));
  EXPECT_EQ(crowd.executions.end(1), "");
  EXPECT_EQ(crowd.executions.size(), 0U);
  EXPECT_FALSE(crowd.sends("/load"));
  EXPECT_FALSE(crowd.sends("/load", 1));
}

TEST(OpenExecutions, RetriesFollowTheAnswerToWhomeverItIs) {
  Crowd crowd(load_store(), 2);
  EXPECT_TRUE(crowd.sends("/load", std::nullopt, Answer::retryable));
  EXPECT_TRUE(crowd.sends("/load"));  // sent again, or the other's
  EXPECT_TRUE(crowd.sends("/load"));
  EXPECT_FALSE(crowd.sends("/load"));
}

TEST(OpenExecutions, OneThatIsCutTakesItsAllowanceWithIt) {
  Crowd crowd(load_store(), 2);
  EXPECT_TRUE(crowd.sends("/load", 1));
  crowd.executions.forget(1);
  EXPECT_FALSE(crowd.sends("/store"));
  EXPECT_TRUE(crowd.sends("/load") && crowd.sends("/store"));
}

TEST(OpenExecutions, TellWhereARefusedOneStands) {
  Crowd crowd(load_store(), 1);
  EXPECT_TRUE(crowd.sends("/load", 1, Answer::retryable) && crowd.sends("/load", 1));
  EXPECT_EQ(crowd.executions.refusal(1, get("/load")),
            "GET a.com/load may not come now; expected: GET a.com/store; at: load (so far: load ×2)");
  EXPECT_EQ(crowd.executions.refusal(1, get("/x")),
            "GET a.com/x is nowhere in the flow graph; expected: GET a.com/store; at: load (so far: load ×2)");
  EXPECT_EQ(crowd.executions.end(1), "expected: GET a.com/store; at: load (so far: load ×2)");
  EXPECT_EQ(Crowd(load_store(), 2).executions.refusal(std::nullopt, get("/store")),
            "GET a.com/store may not come now in any of the 2 executions that are open; the first of them: expected: "
            "GET a.com/load; at: the entry");
  EXPECT_EQ(OpenExecutions().refusal(std::nullopt, get("/load")), "no execution is open that could send it");
}

TEST(OpenExecutions, StayBoundedWhereNothingIsKnown) {
  Crowd crowd(either(), limits::kExecutionsOpenMax);
  for (int i = 0; i < 40; ++i) crowd.sends(i % 3 == 0 ? "/p" : i % 3 == 1 ? "/q" : "/r");
  EXPECT_EQ(crowd.executions.size(), limits::kExecutionsOpenMax);
}

// Against all distributions of the requests over the executions, one by one.
struct Event {
  enum class Kind { begin, request, end } kind;
  OpenExecutions::Id id = 0;  // whose; 0 with a request: not known
  std::string path;
};

struct One {
  OpenExecutions::Id id;
  Execution at;
};

// How many of the events the best distribution of those from `from` on takes.
std::size_t best(const std::shared_ptr<const Graph>& graph, const std::vector<Event>& events, std::size_t from,
                 std::vector<One> open) {
  if (from == events.size()) return from;
  const Event& event = events[from];
  if (event.kind == Event::Kind::begin) {
    open.push_back({event.id, Execution(graph)});
    return best(graph, events, from + 1, std::move(open));
  }
  std::size_t reached = from;
  for (std::size_t i = 0; i < open.size(); ++i) {
    if (event.id != 0 && open[i].id != event.id) continue;
    std::vector<One> next = open;
    if (event.kind == Event::Kind::end) {
      if (!next[i].at.complete()) continue;
      next.erase(next.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      Ticket ticket;
      if (!next[i].at.request(get(event.path), ticket)) continue;
      next[i].at.answered(ticket, Answer::fine);
    }
    reached = std::max(reached, best(graph, events, from + 1, std::move(next)));
  }
  return reached;
}

std::size_t reached_by(const std::shared_ptr<const Graph>& graph, const std::vector<Event>& events) {
  OpenExecutions executions;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const Event& event = events[i];
    const OpenExecutions::Id request = 1'000 + i;
    switch (event.kind) {
      case Event::Kind::begin:
        executions.begin(graph);
        break;
      case Event::Kind::end:
        if (!executions.end(event.id).empty()) return i;
        break;
      case Event::Kind::request:
        if (!executions.request(event.id == 0 ? std::nullopt : std::optional(event.id), get(event.path), request)) {
          return i;
        }
        executions.answered(request, Answer::fine);
        break;
    }
  }
  return events.size();
}

std::vector<Event> random_events(std::mt19937& random, double known) {
  std::vector<Event> events;
  std::vector<OpenExecutions::Id> open;
  OpenExecutions::Id last = 0;
  const char* const paths[] = {"/p", "/q", "/r", "/s"};
  for (int i = 0; i < 12; ++i) {
    const unsigned what = random() % 10;
    if (open.empty() || (what < 2 && open.size() < 3)) {
      open.push_back(++last);
      events.push_back({Event::Kind::begin, last, ""});
    } else if (what < 3) {
      const std::size_t who = random() % open.size();
      events.push_back({Event::Kind::end, open[who], ""});
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(who));
    } else {
      const bool is_known = std::uniform_real_distribution<>(0, 1)(random) < known;
      events.push_back({Event::Kind::request, is_known ? open[random() % open.size()] : 0, paths[random() % 4]});
    }
  }
  return events;
}

TEST(OpenExecutions, AgreeWithAllDistributionsWhereAllIsKnown) {
  std::mt19937 random(7);
  const auto graph = either();
  for (int i = 0; i < 3'000; ++i) {
    const std::vector<Event> events = random_events(random, 1.0);
    EXPECT_EQ(reached_by(graph, events), best(graph, events, 0, {})) << i;
  }
}

TEST(OpenExecutions, RefuseNothingThatSomeDistributionAllows) {
  std::mt19937 random(11);
  const auto graph = either();
  for (int i = 0; i < 4'000; ++i) {
    const std::vector<Event> events = random_events(random, i % 2 == 0 ? 0.0 : 0.5);
    EXPECT_GE(reached_by(graph, events), best(graph, events, 0, {})) << i;
  }
}

}  // namespace
}  // namespace sallyport::flow
