#include "controller/core/controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <set>

#include "base/limits.h"
#include "base/read_file.h"
#include "controller/core/test_guard.h"
#include "controller/link/raw_guard.h"
#include "controller/store/sqlite_store.h"

namespace sallyport::controller {
namespace {

using namespace std::chrono_literals;
using testing::ask_of;
using ::testing::ElementsAre;
using testing::eventually;
using ::testing::HasSubstr;
using testing::id_of;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::TestGuard;

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

// A guard of `front` that sends on, whatever it is told, and comes again under its id.
class Flood {
 public:
  Flood(std::uint16_t port, std::string token) : port_(port), token_(std::move(token)) {}

  // Why it was refused; empty: it was not, for `most` messages.
  std::string until_refused(const std::function<v1alpha1::Envelope()>& next, int most) {
    std::string why;
    testing::RawGuard guard(loop_, context_.get(), port_);
    net::testing::run(loop_, send(*this, guard, next, most, why));
    return why;
  }

 private:
  static net::Task<void> send(Flood& self, testing::RawGuard& guard, std::function<v1alpha1::Envelope()> next, int most,
                              std::string& why) {
    const Result<void> opened = co_await guard.open(self.loop_.in(5s));
    if (!opened) co_return;
    v1alpha1::Envelope hello = testing::RawGuard::hello("flood", self.token_);
    hello.mutable_register_()->set_function("front");
    hello.mutable_register_()->set_guard_id(self.id_);
    guard.send(hello);
    for (int i = 0; i < most;) {
      const auto answer = co_await guard.receive(self.loop_.in(50ms));
      if (answer && answer->has_registered()) self.id_ = answer->registered().guard_id();
      if (answer && answer->has_refused()) why = answer->refused().text();
      if (!why.empty()) co_return;
      if (answer || self.id_.empty()) continue;
      guard.send(next());
      ++i;
    }
  }

  const std::uint16_t port_;
  const std::string token_;
  std::string id_;
  net::Loop loop_;
  net::testing::ContextPtr context_ = net::testing::client_context(nullptr);
};

class ControllerTest : public ::testing::Test {
 public:
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

 protected:
  void start() {
    auto opened = SqliteStore::open(folder_ + "/data");
    ASSERT_TRUE(opened) << opened.error().text;
    store_ = std::move(*opened);
    auto started = Controller::start(*store_, options_);
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
  ControllerOptions options_{.beat = 200ms, .say = [this](const std::string& text) {
                               const std::lock_guard lock(mutex_);
                               said_.push_back(text);
                             }};
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

TEST_F(ControllerTest, ForgetsAnApplicationOnceNoGuardOfItIsConnected) {
  put(document(DocumentKind::application_graph, kGraph));
  auto front = ready_guard("front");
  front->link().report(testing::event_of(1, v1alpha1::DECISION_DENY));
  ASSERT_TRUE(front->link().flush(5s));
  const auto early = controller_->delete_application("shop", "test");
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().kind, ErrorKind::refused);
  EXPECT_THAT(early.error().text, HasSubstr("guards of shop are connected (sallyport guard list -a shop)"));
  front.reset();
  ASSERT_TRUE(eventually([&] { return controller_->delete_application("shop", "test").has_value(); }));
  EXPECT_THAT(controller_->applications(), IsEmpty());
  EXPECT_THAT(controller_->guards(), IsEmpty());
  EXPECT_EQ(controller_->delete_application("shop", "test").error().kind, ErrorKind::unresolved);
  const auto late = guard("front");
  EXPECT_TRUE(eventually([&] { return late->link().status().state == link::LinkState::refused; })) << "its old token";
  // Of the same name, and another: nothing of the one before is in it, also not for the old token.
  ASSERT_TRUE(controller_->create_application("shop", "test"));
  EXPECT_THAT(controller_->functions("shop"), IsEmpty());
  EXPECT_THAT(*store_->alarms("shop", Time{}), IsEmpty());
  put(document(DocumentKind::policy, policy_of("front"), "front"));
  const auto stranger = guard("front");
  EXPECT_TRUE(eventually([&] { return stranger->link().status().state == link::LinkState::refused; }));
  token_ = controller_->make_token("shop", "", std::nullopt, "test")->text;
  EXPECT_TRUE(ready_guard("front")->connected());
  restart();
  EXPECT_THAT(controller_->applications(), ElementsAre("shop"));
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

// Somebody has set the machine's clock back meanwhile.
TEST_F(ControllerTest, ItsTimeDoesNotGoBackOverARestart) {
  put(document(DocumentKind::application_graph, kGraph));
  const auto front = ready_guard("front");
  front->link().report(testing::event_of(1));
  ASSERT_TRUE(front->link().flush(5s));
  const std::uint64_t generation = front->update().generation();
  const Time later = controller_->now() + std::chrono::hours(2);
  EventBatch batch{.guard = {}, .application = "shop", .function = "front", .earliest = later, .latest = later};
  Store::Entry entry;
  entry.events = std::move(batch);
  ASSERT_TRUE(store_->append({&entry, 1}));
  restart();
  EXPECT_GE(controller_->now(), later);
  ASSERT_TRUE(eventually([&] { return front->update().generation() > generation; }));
  // Who waits for a flow does not wait until the machine's clock is there again.
  const auto back = ready_guard("back");
  const auto begun = std::chrono::steady_clock::now();
  const auto refused = back->ask(ask_of('b'));
  ASSERT_TRUE(refused) << refused.error().text;
  EXPECT_FALSE(refused->allowed());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 2s);
  const std::lock_guard lock(mutex_);
  EXPECT_THAT(said_, ::testing::Contains(HasSubstr("behind what has been stored")));
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

TEST_F(ControllerTest, SaysWhatGuardsSayOfThemselvesAlsoWithoutAGraph) {
  const auto front = ready_guard("front");
  v1alpha1::Event event;
  event.mutable_execution_ended()->set_execution(std::string(16, 'e'));
  event.mutable_execution_ended()->set_incomplete("GET stock.example.com/ was expected");
  front->link().report(event);
  event.mutable_lost()->set_events(10);
  event.mutable_lost()->set_denials(2);
  front->link().report(event);
  ASSERT_TRUE(front->link().flush(5s));
  std::set<std::string> said;
  ASSERT_TRUE(eventually([&] {
    const auto alarms = store_->alarms("shop", Time{});
    for (const AlarmRow& alarm : *alarms) said.insert(alarm.kind + " of " + alarm.function + ": " + alarm.text);
    return said.size() == 2;
  }));
  EXPECT_THAT(said, ElementsAre("events-lost of front: the guard has dropped 10 events, 2 denials among them",
                                "incomplete of front: GET stock.example.com/ was expected"));
}

// What is in an alarm a guard has said.
TEST_F(ControllerTest, AlarmsThatAllDifferDoNotFillTheStore) {
  const auto front = ready_guard("front");
  v1alpha1::Event event = testing::event_of(1, v1alpha1::DECISION_DENY);
  event.mutable_exchange()->set_text(std::string(limits::kAlarmTextBytesMax - 1, 'x') + "\u00e4 and more");
  for (int i = 0; i < 500; ++i) {
    event.mutable_exchange()->set_reason("reason-" + std::to_string(i));
    front->link().report(event);
  }
  ASSERT_TRUE(front->link().flush(5s));
  ASSERT_TRUE(eventually([&] {
    const auto alarms = store_->alarms("shop", Time{});
    std::uint64_t count = 0;
    for (const AlarmRow& row : *alarms) count += row.count;
    return count == 500;
  }));
  const auto alarms = store_->alarms("shop", Time{});
  EXPECT_THAT(*alarms, SizeIs(limits::kAlarmsDifferentMax + 1));
  EXPECT_EQ((*alarms)[0].text, std::string(limits::kAlarmTextBytesMax - 1, 'x')) << "not half a character";
}

TEST_F(ControllerTest, AGuardBeyondItsBudgetWaitsAndLosesNothing) {
  options_.budgets = {.guard_per_second = 100'000, .guard_burst = 20'000};
  restart();
  const auto front = ready_guard("front");
  const auto before = std::chrono::steady_clock::now();
  v1alpha1::Event event = testing::event_of(1);
  event.mutable_exchange()->set_text(std::string(1'000, 'x'));
  for (int i = 0; i < 100; ++i) front->link().report(event);
  ASSERT_TRUE(front->link().flush(10s));
  EXPECT_GT(std::chrono::steady_clock::now() - before, 700ms) << "100 KB at 100 KB a second, but for the first 20";
  EXPECT_TRUE(front->connected());
  EXPECT_THAT(stored_events(), SizeIs(100));
  EXPECT_FALSE(alarmed("event-flood"));
}

TEST_F(ControllerTest, OneThatDoesNotWaitIsDisconnectedAndNotBelievedAnew) {
  options_.budgets = {.guard_per_second = 1'000, .guard_burst = 1'000};
  restart();
  Flood flood(port_, token_);
  v1alpha1::Envelope envelope;
  v1alpha1::Event& event = *envelope.mutable_events()->add_events();
  event.mutable_exchange()->set_text(std::string(1 << 20, 'x'));
  std::uint64_t sequence = 0;
  const auto send = [&] {
    event.set_sequence(++sequence);
    return envelope;
  };
  EXPECT_THAT(flood.until_refused(send, 100), HasSubstr("does not wait"));
  EXPECT_LT(sequence, 20U) << "no more than a guard sends that waits, and one more";
  EXPECT_TRUE(alarmed("event-flood"));
  const std::size_t stored = stored_events().size();
  EXPECT_LT(stored, 15U);
  // A new connection under its id is not worth more.
  EXPECT_THAT(flood.until_refused(send, 3), HasSubstr("does not wait"));
  EXPECT_EQ(stored_events().size(), stored);
}

TEST_F(ControllerTest, WhatFillsTheStoreIsHeldBackAndNobodyElse) {
  options_.store_bytes_max = limits::kStoreBytesMin;
  restart();
  put(document(DocumentKind::application_graph, kGraph));
  const auto front = ready_guard("front"), back = ready_guard("back");
  v1alpha1::Event event = testing::event_of(1);
  event.mutable_exchange()->set_text(std::string(1 << 20, 'x'));
  for (int i = 0; i < 200 && !alarmed("store-full"); ++i) {
    front->link().report(event);
    std::this_thread::sleep_for(50ms);
  }
  EXPECT_TRUE(eventually([&] { return alarmed("store-full"); }));
  EXPECT_TRUE(eventually([&] {
    front->link().report(event);
    return !front->connected();
  })) << "its guards keep their events";
  EXPECT_TRUE(controller_->store_works());
  back->link().report(testing::event_of(7));
  EXPECT_TRUE(back->link().flush(5s));
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
