// The applications of tests/apps under their reviewed graphs, as their guards tell of them: hundreds of jobs at once,
// with messages that overtake each other and what the guards say. And attackers in the midst of them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "controller/state/application_state.h"
#include "controller/state/test_support.h"
#include "policy-engine/flow/application_graph_document.h"

namespace sallyport::controller {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using testing::Each;
using testing::IsEmpty;

std::shared_ptr<const flow::ApplicationGraph> reviewed(const std::string& name) {
  const std::string file = SALLYPORT_SOURCE_DIR "/tests/apps/graphs/" + name + ".application.yaml";
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  const auto load = flow::load_application_graph(text.str(), file);
  EXPECT_THAT(load.diagnostics, IsEmpty());
  EXPECT_EQ(flow::load_application_graph(flow::write_application_graph(load.document), file).diagnostics.size(), 0U);
  return load.graph;
}

// What happens, each at its time.
class World {
 public:
  World(const std::string& application, std::uint64_t seed) : app(reviewed(application)), random_(seed) {}

  void at(Time time, std::function<void()> what) { todo_.push({time, ++order_, std::move(what)}); }
  void after(milliseconds low, milliseconds high, std::function<void()> what) {
    at(app.now() + milliseconds(std::uniform_int_distribution(low.count(), high.count())(random_)), std::move(what));
  }
  std::size_t draw(std::size_t below) { return std::uniform_int_distribution<std::size_t>(0, below - 1)(random_); }

  // Asks as a guard does, and goes on when it may.
  void enter(const Source& from, std::function<void(const Running&)> allowed, std::function<void()> refused = [] {}) {
    const std::uint64_t number = app.ask(from);
    asks_[number] = {from, app.last_execution(), std::move(allowed), std::move(refused)};
    answer();
  }

  void run() {
    while (!todo_.empty()) {
      const Item item = todo_.top();
      todo_.pop();
      app.pass(item.time - app.now());
      answer();
      item.what();
    }
    app.pass(1s);
    answer();
    EXPECT_TRUE(asks_.empty());
  }

  Application app;

 private:
  struct Item {
    Time time;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Item& other) const { return std::tie(other.time, other.order) < std::tie(time, order); }
  };
  struct Asked {
    Source from;
    ExecutionId execution;
    std::function<void(const Running&)> allowed;
    std::function<void()> refused;
  };

  void answer() {
    for (const Answer& answer : app.take_answers()) {
      const auto found = asks_.find(answer.ask);
      if (found == asks_.end()) continue;
      const Asked asked = std::move(found->second);
      asks_.erase(found);
      if (!answer.allowed) {
        asked.refused();
        continue;
      }
      const Running running{asked.from, asked.execution, answer.request};
      app.began(running, nullptr, true);
      asked.allowed(running);
    }
  }

  std::mt19937_64 random_;
  std::priority_queue<Item> todo_;
  std::uint64_t order_ = 0;
  std::map<std::uint64_t, Asked> asks_;
};

constexpr const char* kInvokeMapper = "POST lambda.us-east-1.amazonaws.com/2015-03-31/functions/mapper/invocations";
constexpr const char* kInvokeReducer = "POST lambda.us-east-1.amazonaws.com/2015-03-31/functions/reducer/invocations";

class MapReduce {
 public:
  MapReduce(World& world, std::size_t mappers, bool fails = false)
      : world_(world), mappers_(mappers), left_(mappers), fails_(fails) {
    static std::uint64_t jobs = 0xabcd00;
    std::ostringstream name;
    name << std::hex << ++jobs;
    bucket_ = "PUT mapreduce-jobs.s3.us-east-1.amazonaws.com/job-" + name.str();
  }

  void start() {
    world_.enter(world_.app.guard("driver"), [this](const Running& driver) {
      request_ = driver.request;
      world_.app.flow(driver, bucket_ + "/jobdata");
      for (std::size_t i = 0; i < mappers_; ++i) send(driver, kInvokeMapper, [this, i] { map(i); });
      world_.after(500ms, 900ms, [this, driver] { world_.app.end(driver); });
    });
  }
  bool done() const { return done_; }
  bool of_one_request() const { return of_one_request_; }

 private:
  // The service calls `then`, perhaps before the guard's report of the flow is here; the answer may come later still.
  void send(const Running& from, const std::string& operation, const std::function<void()>& then) {
    if (fails_ && world_.draw(8) == 0) {  // it fails before it does anything, and is sent again
      const std::uint64_t failed = world_.app.begin_flow(from, operation);
      world_.app.end_flow(from, failed, operation, world_.draw(2) == 0 ? 0 : 503);
    }
    world_.after(0ms, 120ms, [this, from, operation] {
      const std::uint64_t id = world_.app.begin_flow(from, operation);
      world_.after(5ms, 400ms, [this, from, operation, id] { world_.app.end_flow(from, id, operation); });
    });
    world_.after(2ms, 150ms, then);
  }

  void check(const Running& running) { of_one_request_ &= running.request == request_; }

  void map(std::size_t index) {
    world_.enter(world_.app.guard("mapper"), [this, index](const Running& mapper) {
      check(mapper);
      world_.app.flow(mapper, "GET crawl-data.s3.us-east-1.amazonaws.com/text/abcd/part-0");
      world_.after(5ms, 300ms, [this, mapper, index] {
        send(mapper, bucket_ + "/task/mapper/" + std::to_string(index), [this] { coordinate(); });
        world_.after(450ms, 600ms, [this, mapper] { world_.app.end(mapper); });
      });
    });
  }

  // Whoever comes last runs the reducers.
  void coordinate() {
    world_.enter(world_.app.guard("reducer-coordinator"), [this](const Running& coordinator) {
      check(coordinator);
      world_.app.flow(coordinator, "GET mapreduce-jobs.s3.us-east-1.amazonaws.com/");
      if (--left_ == 0) {
        const std::size_t reducers = (files_ == 0 ? mappers_ : files_) / 4 + 1;
        const bool last = reducers == 1;
        files_ = left_ = reducers;
        for (std::size_t i = 0; i < reducers; ++i)
          send(coordinator, kInvokeReducer, [this, i, last] { reduce(i, last); });
        world_.app.flow(coordinator, bucket_ + "/reducerstate.1");
      }
      world_.after(450ms, 600ms, [this, coordinator] { world_.app.end(coordinator); });
    });
  }

  void reduce(std::size_t index, bool last) {
    world_.enter(world_.app.guard("reducer"), [this, index, last](const Running& reducer) {
      check(reducer);
      if (last) {
        world_.app.flow(reducer, bucket_ + "/result");
        done_ = true;
      } else {
        send(reducer, bucket_ + "/task/reducer/1/" + std::to_string(index), [this] { coordinate(); });
      }
      world_.after(450ms, 600ms, [this, reducer] { world_.app.end(reducer); });
    });
  }

  World& world_;
  std::size_t mappers_, left_, files_ = 0;
  bool fails_, done_ = false, of_one_request_ = true;
  RequestId request_{};
  std::string bucket_;
};

TEST(MapReduceState, AJobIsOneRequestFromItsDriverToItsResult) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    World world("mapreduce", seed);
    MapReduce job(world, 1 + seed % 9, true);
    job.start();
    world.run();
    EXPECT_TRUE(job.done());
    EXPECT_TRUE(job.of_one_request());
    world.app.pass(10min);
    EXPECT_THAT(world.app.alarms(), IsEmpty());
  }
}

TEST(MapReduceState, HundredsOfJobsAtOnceRaiseNoAlarm) {
  World world("mapreduce", 5);
  std::vector<std::unique_ptr<MapReduce>> jobs;
  for (std::size_t i = 0; i < 300; ++i) {
    jobs.push_back(std::make_unique<MapReduce>(world, 1 + world.draw(9), true));
    world.after(0ms, 2s, [job = jobs.back().get()] { job->start(); });
  }
  world.run();
  for (const auto& job : jobs) EXPECT_TRUE(job->done());
  world.app.pass(10min);
  EXPECT_THAT(world.app.alarms(), IsEmpty());
}

TEST(MapReduceState, ARestartInTheMidstOfHundredsOfJobsLosesNothing) {
  World world("mapreduce", 6);
  std::vector<std::unique_ptr<MapReduce>> jobs;
  for (std::size_t i = 0; i < 100; ++i) {
    jobs.push_back(std::make_unique<MapReduce>(world, 1 + world.draw(9)));
    world.after(0ms, 1s, [job = jobs.back().get()] { job->start(); });
  }
  // Who waits for an answer then asks again: that is the link's, so here nobody does.
  for (int i = 1; i <= 10; ++i) {
    world.at(world.app.now() + i * 300ms, [&world] {
      if (world.app.state().waiting() == 0) world.app.restart();
    });
  }
  world.run();
  for (const auto& job : jobs) EXPECT_TRUE(job->done());
  world.app.pass(10min);
  EXPECT_THAT(world.app.alarms(), IsEmpty());
}

// While nothing is under way, whoever calls a function in the middle is refused, each time.
TEST(MapReduceState, NoFunctionInTheMiddleCanBeCalled) {
  World world("mapreduce", 7);
  MapReduce job(world, 9);
  job.start();
  world.run();
  EXPECT_TRUE(job.done());
  world.app.pass(10min);
  EXPECT_THAT(world.app.alarms(), IsEmpty());
  for (const char* const function : {"mapper", "reducer-coordinator", "reducer"}) {
    world.enter(world.app.guard(function), [](const Running&) { ADD_FAILURE() << "allowed"; });
  }
  world.run();
  const auto alarms = world.app.alarms();
  EXPECT_EQ(alarms.size(), 3U);
  EXPECT_THAT(alarms, Each("no-predecessor"));
}

// Where hundreds are under way an attacker may be faster than a message, and be taken for it. Then that one finds
// nothing: each call too many is found out, whoever it is that is refused.
TEST(MapReduceState, EachCallOfAMapperThatNoDriverMadeIsFoundOut) {
  World world("mapreduce", 8);
  std::vector<std::unique_ptr<MapReduce>> jobs;
  std::size_t refused = 0, allowed = 0;
  for (std::size_t i = 0; i < 300; ++i) {
    jobs.push_back(std::make_unique<MapReduce>(world, 5));
    world.after(0ms, 1s, [job = jobs.back().get()] { job->start(); });
  }
  for (std::size_t i = 0; i < 40; ++i) {
    world.after(0ms, 1s, [&] {
      world.enter(world.app.guard("mapper"), [&](const Running&) { ++allowed; }, [&] { ++refused; });
    });
  }
  world.run();
  EXPECT_EQ(allowed + refused, 40U);
  EXPECT_GT(allowed, 0U);  // the race
  const auto alarms = world.app.alarms();
  EXPECT_EQ(alarms.size(), 40U);
}

TEST(WebhookState, EachDeliveryIsARequestOfItsOwn) {
  World world("webhook", 9);
  std::map<RequestId, int> requests;
  for (int i = 0; i < 500; ++i) {
    world.after(0ms, 1s, [&] {
      world.enter(world.app.guard("receiver"), [&](const Running& receiver) {
        ++requests[receiver.request];
        world.app.flow(receiver, "POST payments.example.com/v1/payment_intents");
        world.app.end(receiver);
      });
    });
  }
  world.run();
  EXPECT_EQ(requests.size(), 500U);
  // With a tag it is of somebody who has no business there.
  const Running stranger{world.app.guard("receiver"), id_of(1, 'x'), requests.begin()->first};
  EXPECT_NE(world.app.verdict_of(world.app.ask(world.app.guard("receiver"), &stranger)), "allowed");
  EXPECT_THAT(world.app.alarms(), testing::ElementsAre("foreign-sender"));
}

}  // namespace
}  // namespace sallyport::controller
