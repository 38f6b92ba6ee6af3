#include "controller/core/controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>

#include "base/read_file.h"
#include "controller/link/test_controller.h"
#include "controller/store/sqlite_store.h"

namespace sallyport::controller {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using testing::eventually;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kPolicy = R"(apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: FUNCTION}
spec:
  endpoints:
  - name: api
    host: api.example.com
    rules: [{methods: [GET], path: {prefix: /}}]
)";

constexpr const char* kGraph = R"(apiVersion: sallyport.dev/v1alpha1
kind: ApplicationGraph
metadata: {name: shop}
spec:
  functions:
  - name: front
    entry: true
  - name: back
    instancesMax: 2
    after:
    - {function: front, through: "PUT queue.example.com/{any}"}
)";

std::string policy_of(const std::string& function, const std::string& more = {}) {
  std::string out = kPolicy;
  out.replace(out.find("FUNCTION"), 8, function);
  return out + more;
}

Document document(DocumentKind kind, std::string text, const std::string& function = {}) {
  Document out;
  out.application = "shop";
  out.function = function;
  out.kind = kind;
  out.text = std::move(text);
  return out;
}

// A guard's end of a real link, and what has come over it.
class TestGuard {
 public:
  TestGuard(std::uint16_t port, const std::string& ca_file, const std::string& function, const std::string& instance,
            const std::string& token) {
    link::LinkHandlers handlers;
    handlers.on_update = [this](v1alpha1::Update&& update) {
      const std::lock_guard lock(mutex_);
      updates_.push_back(std::move(update));
    };
    handlers.on_registered = [this](const v1alpha1::Registered& registered) {
      const std::lock_guard lock(mutex_);
      ids_.push_back(registered.guard_id());
    };
    auto registration = [=]() -> Result<v1alpha1::Register> {
      v1alpha1::Register wanted;
      wanted.set_join_token(token);
      wanted.set_application("shop");
      wanted.set_function(function);
      wanted.set_instance(instance);
      return wanted;
    };
    auto made = link::RemoteLink::start({.host = "127.0.0.1", .port = port, .ca_file = ca_file}, registration,
                                        std::move(handlers));
    EXPECT_TRUE(made) << made.error().text;
    link_ = std::move(*made);
  }

  link::ControllerLink& link() { return *link_; }
  bool connected() const { return link_->status().state == link::LinkState::connected; }
  std::vector<v1alpha1::Update> updates() {
    const std::lock_guard lock(mutex_);
    return updates_;
  }
  v1alpha1::Update update() { return updates().back(); }
  std::vector<std::string> ids() {
    const std::lock_guard lock(mutex_);
    return ids_;
  }

  Result<v1alpha1::EntryAnswer> ask(v1alpha1::EntryAsk wanted) {
    std::promise<Result<v1alpha1::EntryAnswer>> answer;
    net::Loop loop;
    std::thread thread([&] {
      loop.spawn(ask_and_stop(*link_, loop, wanted, answer));
      loop.run();
      loop.drop_tasks();
    });
    auto result = answer.get_future().get();
    thread.join();
    return result;
  }

  // m_in, answered or not, and then one flow.
  void tell_execution(const std::string& execution, const std::string& request, bool asked) {
    v1alpha1::Event event;
    event.mutable_execution_began()->set_execution(execution);
    event.mutable_execution_began()->set_request_id(request);
    event.mutable_execution_began()->set_asked(asked);
    link_->report(event);
  }
  void tell_flow(const std::string& execution, const std::string& request, std::uint64_t id) {
    v1alpha1::Event event;
    v1alpha1::FlowBegan& flow = *event.mutable_flow_began();
    flow.set_execution(execution);
    flow.set_request_id(request);
    flow.set_id(id);
    flow.mutable_operation()->set_method("PUT");
    flow.mutable_operation()->set_host("queue.example.com");
    flow.mutable_operation()->set_path("/one");
    link_->report(event);
  }

 private:
  static net::Task<void> ask_and_stop(link::ControllerLink& link, net::Loop& loop, v1alpha1::EntryAsk wanted,
                                      std::promise<Result<v1alpha1::EntryAnswer>>& answer) {
    answer.set_value(co_await link.ask(loop, std::move(wanted), loop.in(5s)));
    loop.stop();
  }

  std::mutex mutex_;
  std::vector<v1alpha1::Update> updates_;
  std::vector<std::string> ids_;
  std::unique_ptr<link::RemoteLink> link_;  // last: its thread calls back
};

std::string id_of(char byte) { return std::string(16, byte); }

v1alpha1::EntryAsk ask_of(char execution) {
  v1alpha1::EntryAsk out;
  out.set_execution(id_of(execution));
  out.mutable_inbound()->set_method("POST");
  return out;
}

class ControllerTest : public ::testing::Test {
 protected:
  ControllerTest() : folder_(::testing::TempDir() + "/sallyport_controller." + std::to_string(getpid())) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    ca_file_ = folder_ + "/ca.pem";
    EXPECT_TRUE(write_file(ca_file_, identity_.root_pem));
    start();
    EXPECT_TRUE(controller_->create_application("shop", "test"));
    put(document(DocumentKind::policy, policy_of("front"), "front"));
    put(document(DocumentKind::policy, policy_of("back"), "back"));
    token_ = controller_->make_token("shop", "", std::nullopt, "test")->text;
  }
  ~ControllerTest() override {
    stop();
    std::filesystem::remove_all(folder_);
  }

  void start() {
    auto opened = SqliteStore::open(folder_ + "/data");
    ASSERT_TRUE(opened) << opened.error().text;
    store_ = std::move(*opened);
    auto started = Controller::start(*store_, {.beat = 200ms, .say = [this](const std::string& text) {
                                                 const std::lock_guard lock(mutex_);
                                                 said_.push_back(text);
                                               }});
    ASSERT_TRUE(started) << started.error().text;
    controller_ = std::move(*started);
    server_ = testing::serve(*controller_, identity_, port_);
    port_ = server_.port;
  }
  void stop() {
    server_.server.reset();
    controller_.reset();
    store_.reset();
  }
  void restart() {
    stop();
    start();
  }

  void put(const Document& document) {
    const auto put = controller_->put_document(document, 0, "test");
    ASSERT_TRUE(put) << put.error().text;
    ASSERT_GT(put->version, 0U) << (put->diagnostics.empty() ? "" : put->diagnostics[0].to_string());
  }
  std::unique_ptr<TestGuard> guard(const std::string& function, const std::string& instance = "pod-1") {
    return std::make_unique<TestGuard>(port_, ca_file_, function, instance, token_);
  }
  // Registered, and in possession of what it is given.
  std::unique_ptr<TestGuard> ready_guard(const std::string& function, const std::string& instance = "pod-1") {
    auto made = guard(function, instance);
    EXPECT_TRUE(eventually([&] { return !made->updates().empty(); })) << made->link().status().text;
    return made;
  }
  std::vector<std::string> stored_events() {
    std::vector<std::string> out;
    EventQuery query;
    query.application = "shop";
    EXPECT_TRUE(store_->search(query, [&](std::uint64_t, EventBatch&& batch) {
      v1alpha1::Events events;
      EXPECT_TRUE(events.ParseFromString(batch.events));
      for (const auto& event : events.events()) {
        out.push_back(batch.function + " " + std::to_string(event.sequence()) + " " +
                      std::to_string(event.exchange().id()));
      }
      return true;
    }));
    return out;
  }
  bool alarmed(const std::string& kind) {
    const auto counts = controller_->alarm_counts();
    return counts.contains({"shop", kind});
  }

  const std::string folder_;
  std::string ca_file_, token_;
  const testing::TestIdentity identity_;
  std::mutex mutex_;
  std::vector<std::string> said_;
  std::unique_ptr<SqliteStore> store_;
  std::unique_ptr<Controller> controller_;
  testing::Served server_;
  std::uint16_t port_ = 0;
};

TEST_F(ControllerTest, GivesAGuardWhatItsFunctionHas) {
  put(document(DocumentKind::application_graph, kGraph));
  const auto front = ready_guard("front");
  const v1alpha1::Update update = front->update();
  EXPECT_EQ(update.policy().spec().endpoints(0).host(), "api.example.com");
  EXPECT_FALSE(update.has_graph());
  ASSERT_EQ(update.tag_keys_size(), 1);
  EXPECT_EQ(update.tag_keys(0).size(), tag::kKeyBytes);
  EXPECT_EQ(update.entry_check(), v1alpha1::ENTRY_CHECK_UNTAGGED);
  EXPECT_EQ(update.on_controller_loss(), v1alpha1::ON_CONTROLLER_LOSS_DENY);
  ASSERT_EQ(update.announced_size(), 1);
  EXPECT_EQ(update.announced(0).request(), "PUT queue.example.com/{any}");
  EXPECT_THAT(front->ids(), ElementsAre(SizeIs(16)));
  const auto back = ready_guard("back");
  EXPECT_EQ(back->update().announced_size(), 0);
}

TEST_F(ControllerTest, BelievesNobodyWithoutAGoodToken) {
  token_[token_.size() - 3] ^= 1;
  const auto stranger = guard("front");
  EXPECT_TRUE(eventually([&] { return stranger->link().status().state == link::LinkState::refused; }));
  EXPECT_THAT(stranger->link().status().text, HasSubstr("CREDENTIAL"));
  EXPECT_THAT(stranger->updates(), IsEmpty());
}

TEST_F(ControllerTest, KnowsNoFunctionThatNobodyHasPut) {
  const auto other = guard("other");
  EXPECT_TRUE(eventually([&] { return other->link().status().state == link::LinkState::refused; }));
  EXPECT_THAT(other->link().status().text, HasSubstr("no function 'other'"));
}

TEST_F(ControllerTest, CutsOffWhoseTokenIsRevoked) {
  const auto front = ready_guard("front");
  const auto tokens = store_->tokens();
  ASSERT_TRUE(controller_->revoke_token(tokens->at(0).id, "test"));
  EXPECT_TRUE(eventually([&] { return front->link().status().state == link::LinkState::refused; }));
}

TEST_F(ControllerTest, SendsWhatHasChangedToTheGuardsOfTheFunction) {
  const auto front = ready_guard("front");
  const auto back = ready_guard("back");
  const std::size_t before = back->updates().size();
  const std::uint64_t generation = front->update().generation();
  put(document(DocumentKind::policy, policy_of("front", "  mode: audit\n"), "front"));
  ASSERT_TRUE(eventually([&] { return front->update().generation() > generation; }, 1s));
  EXPECT_EQ(front->update().policy().spec().mode(), policy::v1alpha1::MODE_AUDIT);
  const auto back_again = controller_->roll_back(document(DocumentKind::policy, {}, "front"), 0, "test");
  ASSERT_TRUE(back_again) << back_again.error().text;
  EXPECT_EQ(back_again->version, 3U);
  EXPECT_TRUE(eventually([&] { return front->update().policy().spec().mode() == policy::v1alpha1::MODE_UNSPECIFIED; }));
  EXPECT_EQ(back->updates().size(), before) << "it is nothing to other functions";
}

TEST_F(ControllerTest, ChangesNothingForADocumentWithErrors) {
  const auto front = ready_guard("front");
  const std::size_t before = front->updates().size();
  const auto put = controller_->put_document(
      document(DocumentKind::policy, policy_of("front", "  mood: audit\n"), "front"), 0, "test");
  ASSERT_TRUE(put);
  EXPECT_EQ(put->version, 0U);
  ASSERT_THAT(put->diagnostics, SizeIs(1));
  EXPECT_EQ(put->diagnostics[0].line, 9);
  EXPECT_EQ(front->updates().size(), before);
  EXPECT_EQ(controller_->versions(document(DocumentKind::policy, {}, "front"))->size(), 1U);
}

TEST_F(ControllerTest, RefusesAChangeOfWhatHasChangedMeanwhile) {
  put(document(DocumentKind::policy, policy_of("front", "  mode: audit\n"), "front"));
  const auto stale = controller_->put_document(document(DocumentKind::policy, policy_of("front"), "front"), 1, "test");
  ASSERT_FALSE(stale);
  EXPECT_EQ(stale.error().kind, ErrorKind::refused);
}

TEST_F(ControllerTest, GivesASecretToThoseAloneWhosePolicyNamesIt) {
  ASSERT_TRUE(controller_->put_secret("shop", "stripe", "sk-12345\n", "test"));
  const auto front = ready_guard("front");
  EXPECT_EQ(front->update().secrets_size(), 0);
}

TEST_F(ControllerTest, KeepsEventsAcrossARestartAndTakesNoneTwice) {
  const auto front = ready_guard("front");
  for (std::uint64_t id = 1; id <= 50; ++id) front->link().report(testing::event_of(id));
  ASSERT_TRUE(front->link().flush(5s));
  restart();
  for (std::uint64_t id = 51; id <= 60; ++id) front->link().report(testing::event_of(id));
  ASSERT_TRUE(front->link().flush(10s)) << front->link().status().text;
  std::vector<std::string> expected;
  for (int id = 1; id <= 60; ++id) expected.push_back("front " + std::to_string(id) + " " + std::to_string(id));
  EXPECT_EQ(stored_events(), expected);
  EXPECT_THAT(front->ids(), SizeIs(2));
  EXPECT_EQ(front->ids()[0], front->ids()[1]) << "it keeps its id";
}

TEST_F(ControllerTest, EventsThatAreNoExchangeAreFoundToo) {
  const auto front = ready_guard("front");
  front->tell_execution(id_of('a'), id_of('r'), false);
  ASSERT_TRUE(front->link().flush(5s));
  EXPECT_THAT(stored_events(), SizeIs(1));
}

TEST_F(ControllerTest, AllowsAnEntryFromOutsideWhereTheGraphHasOne) {
  put(document(DocumentKind::application_graph, kGraph));
  const auto front = ready_guard("front");
  const auto answer = front->ask(ask_of('a'));
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_TRUE(answer->allowed()) << answer->refusal();
  EXPECT_EQ(answer->request_id().size(), 16U);
}

TEST_F(ControllerTest, RefusesAMiddleFunctionThatNothingHasLedTo) {
  put(document(DocumentKind::application_graph, kGraph));
  const auto back = ready_guard("back");
  const auto answer = back->ask(ask_of('a'));
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_FALSE(answer->allowed());
  EXPECT_FALSE(answer->refusal().empty());
  EXPECT_TRUE(eventually([&] { return alarmed("no-predecessor"); }));
}

TEST_F(ControllerTest, PairsAMessageWithTheFlowThatHasLedToIt) {
  put(document(DocumentKind::application_graph, kGraph));
  const auto front = ready_guard("front");
  const auto back = ready_guard("back");
  const auto first = front->ask(ask_of('a'));
  ASSERT_TRUE(first && first->allowed());
  front->tell_execution(id_of('a'), first->request_id(), true);
  front->tell_flow(id_of('a'), first->request_id(), 7);
  ASSERT_TRUE(front->link().flush(5s));
  const auto second = back->ask(ask_of('b'));
  ASSERT_TRUE(second) << second.error().text;
  EXPECT_TRUE(second->allowed()) << second->refusal();
  EXPECT_EQ(second->request_id(), first->request_id());
  EXPECT_EQ(second->predecessor(), "front");
  const auto third = back->ask(ask_of('c'));
  ASSERT_TRUE(third);
  EXPECT_FALSE(third->allowed()) << "one flow leads to one execution";
}

TEST_F(ControllerTest, AMessageThatIsFasterThanTheReportOfItsFlowWaitsForIt) {
  put(document(DocumentKind::application_graph, kGraph));
  const auto front = ready_guard("front");
  const auto back = ready_guard("back");
  const auto first = front->ask(ask_of('a'));
  ASSERT_TRUE(first && first->allowed());
  auto asking = std::async(std::launch::async, [&] { return back->ask(ask_of('b')); });
  std::this_thread::sleep_for(100ms);
  front->tell_execution(id_of('a'), first->request_id(), true);
  front->tell_flow(id_of('a'), first->request_id(), 7);
  const auto second = asking.get();
  ASSERT_TRUE(second) << second.error().text;
  EXPECT_TRUE(second->allowed()) << second->refusal();
}

TEST_F(ControllerTest, WhatWasUsedUpIsUsedUpAfterARestart) {
  put(document(DocumentKind::application_graph, kGraph));
  const auto front = ready_guard("front");
  const auto back = ready_guard("back");
  const auto first = front->ask(ask_of('a'));
  ASSERT_TRUE(first && first->allowed());
  front->tell_execution(id_of('a'), first->request_id(), true);
  front->tell_flow(id_of('a'), first->request_id(), 7);
  front->tell_flow(id_of('a'), first->request_id(), 8);
  ASSERT_TRUE(front->link().flush(5s));
  const auto second = back->ask(ask_of('b'));
  ASSERT_TRUE(second && second->allowed());
  restart();
  ASSERT_TRUE(eventually([&] { return back->connected() && back->ids().size() == 2; }));
  EXPECT_TRUE(back->ask(ask_of('c'))->allowed()) << "the second flow has not been used";
  EXPECT_FALSE(back->ask(ask_of('d'))->allowed());
}

// The ask is answered in the middle of a batch: what it used stands in the journal before the rest of the batch.
TEST_F(ControllerTest, AnAnswerInTheMiddleOfABatchIsReplayedThere) {
  put(document(DocumentKind::application_graph, kGraph));
  const auto front = ready_guard("front");
  const auto back = ready_guard("back");
  const auto first = front->ask(ask_of('a'));
  ASSERT_TRUE(first && first->allowed());
  auto asking = std::async(std::launch::async, [&] { return back->ask(ask_of('b')); });
  std::this_thread::sleep_for(100ms);
  front->tell_execution(id_of('a'), first->request_id(), true);
  for (std::uint64_t id = 7; id < 9; ++id) front->tell_flow(id_of('a'), first->request_id(), id);
  EXPECT_TRUE(asking.get()->allowed());
  ASSERT_TRUE(front->link().flush(5s));
  restart();
  ASSERT_TRUE(eventually([&] { return back->connected() && back->ids().size() == 2; }));
  EXPECT_TRUE(back->ask(ask_of('c'))->allowed()) << "the second flow has not been used";
  EXPECT_FALSE(back->ask(ask_of('d'))->allowed());
}

TEST_F(ControllerTest, AChangedGraphKnowsWhatHasHappened) {
  const auto front = ready_guard("front");
  const auto back = ready_guard("back");
  front->tell_execution(id_of('a'), id_of('r'), false);
  front->tell_flow(id_of('a'), id_of('r'), 7);
  ASSERT_TRUE(front->link().flush(5s));
  put(document(DocumentKind::application_graph, kGraph));
  const auto answer = back->ask(ask_of('b'));
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_TRUE(answer->allowed()) << answer->refusal();
}

TEST_F(ControllerTest, LetsNoMoreInstancesRunThanTheGraphSays) {
  put(document(DocumentKind::application_graph, kGraph));
  auto first = ready_guard("back", "pod-1");
  const auto second = ready_guard("back", "pod-2");
  const auto third = guard("back", "pod-3");
  EXPECT_TRUE(eventually([&] { return third->link().status().state == link::LinkState::refused; }));
  EXPECT_THAT(third->link().status().text, HasSubstr("2 instances of back are running"));
  EXPECT_TRUE(eventually([&] { return alarmed("too-many-instances"); }));
  first.reset();  // it says goodbye
  const auto fourth = ready_guard("back", "pod-4");
  EXPECT_TRUE(fourth->connected());
  EXPECT_FALSE(alarmed("lost-instance"));
}

TEST_F(ControllerTest, SaysWhatGuardsHaveDenied) {
  const auto front = ready_guard("front");
  v1alpha1::Event event = testing::event_of(1, v1alpha1::DECISION_DENY);
  event.mutable_exchange()->set_reason("flow-not-allowed");
  for (int i = 0; i < 500; ++i) front->link().report(event);
  event.mutable_exchange()->set_reason("foreign-credential");
  front->link().report(event);
  ASSERT_TRUE(front->link().flush(5s));
  ASSERT_TRUE(eventually([&] {
    const auto alarms = store_->alarms("shop", Time{});
    return alarms && alarms->size() == 2 && (*alarms)[0].count + (*alarms)[1].count == 501;
  })) << "a storm is one alarm with a count";
  EXPECT_TRUE(alarmed("denied"));
  EXPECT_TRUE(alarmed("foreign-credential"));
}

TEST_F(ControllerTest, LeasesWhatTheFunctionsShare) {
  put(document(DocumentKind::application, R"(apiVersion: sallyport.dev/v1alpha1
kind: Application
metadata: {name: shop}
spec:
  limits:
  - {name: all, rate: 10/h, burst: 4}
)"));
  const auto front = ready_guard("front");
  ASSERT_EQ(front->update().limits_size(), 1);
  EXPECT_EQ(front->update().limits(0).scope(), v1alpha1::LIMIT_SCOPE_APPLICATION);
}

TEST_F(ControllerTest, ANewTagKeyVerifiesBeforeItMakesTags) {
  const auto front = ready_guard("front");
  const std::string first = front->update().tag_keys(0);
  ASSERT_TRUE(controller_->rotate_tag_key("shop", "test"));
  ASSERT_TRUE(eventually([&] { return front->update().tag_keys_size() == 2; }));
  EXPECT_EQ(front->update().tag_keys(0), first);
}

TEST_F(ControllerTest, WritesDownWhoHasChangedWhat) {
  const auto rows = store_->audited(Time{}, 100);
  ASSERT_TRUE(rows);
  std::vector<std::string> what;
  for (const AuditRow& row : *rows) what.push_back(row.who + ": " + row.what);
  EXPECT_THAT(what, ::testing::UnorderedElementsAre("test: create", "test: put version 1 of", "test: put version 1 of",
                                                    "test: make the join token"));
}

}  // namespace
}  // namespace sallyport::controller
