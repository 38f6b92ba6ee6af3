#pragma once
// An application as its guards tell of it, for the tests of this folder: each call is a message that a guard would
// send.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "controller/state/application_state.h"
#include "controller/state/decided.h"
#include "policy-engine/flow/application_graph_document.h"

namespace sallyport::controller {

inline std::shared_ptr<const flow::ApplicationGraph> graph_of(const std::string& functions) {
  const auto load = flow::load_application_graph(
      "apiVersion: sallyport.dev/v1alpha1\nkind: ApplicationGraph\nmetadata: {name: app}\nspec:\n  functions:\n" +
          functions,
      "app.yaml");
  for (const auto& diagnostic : load.diagnostics) ADD_FAILURE() << diagnostic.to_string();
  return load.graph;
}

// 16 bytes that nothing else has.
template <class Id = ExecutionId>
Id id_of(std::uint64_t number, unsigned char what) {
  Id id{};
  id[0] = what;
  for (std::size_t i = 0; i < 8; ++i) id[15 - i] = static_cast<unsigned char>(number >> (8 * i));
  return id;
}
inline std::string bytes_of(const std::array<unsigned char, 16>& id) { return {id.begin(), id.end()}; }

// "PUT bucket.s3.example.com/key" as an operation.
inline void set_operation(flow::v1alpha1::Operation& operation, std::string_view text) {
  const std::size_t space = text.find(' '), slash = text.find('/');
  operation.set_method(std::string(text.substr(0, space)));
  operation.set_host(std::string(text.substr(space + 1, slash - space - 1)));
  operation.set_path(std::string(text.substr(slash)));
}

// What a store would hold: events with their sources and times, and what was decided, in one order.
struct Stored {
  struct Told {
    Source from;
    v1alpha1::Event event;
    Time time;
  };
  std::vector<std::variant<Told, std::string>> all;

  void replay_into(ApplicationState& state) const {
    Outcome out;
    for (const auto& item : all) {
      if (const auto* const told = std::get_if<Told>(&item)) state.apply(told->from, told->event, told->time, out);
      if (const auto* const bytes = std::get_if<std::string>(&item)) {
        const Result<Decided> decided = read_decided(*bytes);
        ASSERT_TRUE(decided.has_value());
        state.replay(*decided, out);
      }
    }
  }
};

struct Running {  // an execution
  Source from;
  ExecutionId id{};
  RequestId request{};
};

class Application {
 public:
  explicit Application(std::shared_ptr<const flow::ApplicationGraph> graph, ApplicationState::Options options = {})
      : graph_(std::move(graph)), options_(options), state_(std::make_unique<ApplicationState>(graph_, options_)) {}

  ApplicationState& state() { return *state_; }
  Time now() const { return now_; }
  void pass(std::chrono::milliseconds time) {
    now_ += time;
    state_->advance(now_, out_);
    note();
  }
  // A controller that was killed.
  void restart() {
    state_ = std::make_unique<ApplicationState>(graph_, options_);
    stored_.replay_into(*state_);
  }

  Source guard(const std::string& function) { return {id_of<GuardId>(++numbers_, 'g'), graph_->function_of(function)}; }

  // The number of the ask; its answer is in answers().
  std::uint64_t ask(const Source& from, const Running* sender = nullptr, const ExecutionId* execution = nullptr) {
    v1alpha1::EntryAsk message;
    message.set_execution(bytes_of(execution != nullptr ? *execution : id_of(++numbers_, 'e')));
    if (sender != nullptr) set_sender(*message.mutable_sender(), *sender);
    last_execution_ = {};
    std::ranges::copy(message.execution(), last_execution_.begin());
    state_->ask(++asks_, from, message, id_of<RequestId>(++numbers_, 'r'), now_, out_);
    note();
    return asks_;
  }
  ExecutionId last_execution() const { return last_execution_; }

  // Asks, is allowed, and says that it has begun.
  Running enter(const Source& from, const Running* sender = nullptr) {
    const std::uint64_t number = ask(from, sender);
    const ExecutionId execution = last_execution_;
    const Answer* const answer = answer_to(number);
    EXPECT_TRUE(answer != nullptr && answer->allowed) << (answer != nullptr ? answer->refusal : "it waits");
    const Running running{from, execution, answer != nullptr ? answer->request : RequestId{}};
    began(running, sender, true);
    return running;
  }
  // The same with a message that has been delivered before, which waits.
  Running enter_again(const Source& from, const Running* sender = nullptr) {
    const std::uint64_t number = ask(from, sender);
    const ExecutionId execution = last_execution_;
    pass(limits::kPairingGrace);
    const Answer* const answer = answer_to(number);
    EXPECT_TRUE(answer != nullptr && answer->allowed) << (answer != nullptr ? answer->refusal : "it waits");
    const Running running{from, execution, answer != nullptr ? answer->request : RequestId{}};
    began(running, sender, true);
    return running;
  }
  void began(const Running& running, const Running* sender = nullptr, bool asked = false) {
    v1alpha1::Event event;
    auto& began = *event.mutable_execution_began();
    began.set_execution(bytes_of(running.id));
    began.set_request_id(bytes_of(running.request));
    if (sender != nullptr) set_sender(*began.mutable_sender(), *sender);
    began.set_asked(asked);
    tell(running.from, event);
  }
  Running report(const Source& from, const Running* sender = nullptr) {
    const Running running{from, id_of(++numbers_, 'e'),
                          sender != nullptr ? sender->request : id_of<RequestId>(++numbers_, 'r')};
    began(running, sender);
    return running;
  }

  std::uint64_t begin_flow(const Running& from, std::string_view operation, const std::string& to_function = "") {
    v1alpha1::Event event;
    auto& began = *event.mutable_flow_began();
    began.set_execution(bytes_of(from.id));
    began.set_request_id(bytes_of(from.request));
    set_operation(*began.mutable_operation(), operation);
    began.set_to_function(to_function);
    began.set_id(++numbers_);
    tell(from.from, event);
    return numbers_;
  }
  void end_flow(const Running& from, std::uint64_t id, std::string_view operation, std::uint32_t status = 200,
                const std::string& to_function = "") {
    v1alpha1::Event event;
    auto& exchange = *event.mutable_exchange();
    exchange.set_kind(v1alpha1::EXCHANGE_KIND_OUTBOUND);
    exchange.set_decision(status == 0 ? v1alpha1::DECISION_ERROR : v1alpha1::DECISION_ALLOW);
    exchange.set_id(id);
    exchange.set_execution(bytes_of(from.id));
    exchange.set_request_id(bytes_of(from.request));
    set_operation(*exchange.mutable_operation(), operation);
    exchange.set_to_function(to_function);
    exchange.set_status(status);
    tell(from.from, event);
  }
  void flow(const Running& from, std::string_view operation, std::uint32_t status = 200) {
    end_flow(from, begin_flow(from, operation), operation, status);
  }
  void end(const Running& running, const std::string& incomplete = "") {
    v1alpha1::Event event;
    auto& ended = *event.mutable_execution_ended();
    ended.set_execution(bytes_of(running.id));
    ended.set_end(flow::v1alpha1::EXECUTION_END_COMPLETE);
    ended.set_incomplete(incomplete);
    tell(running.from, event);
  }
  void tell(const Source& from, const v1alpha1::Event& event) {
    pass(std::chrono::milliseconds(0));
    stored_.all.emplace_back(Stored::Told{from, event, now_});
    state_->apply(from, event, now_, out_);
    note();
  }

  const Answer* answer_to(std::uint64_t ask) const {
    const auto found = std::ranges::find(answers_.rbegin(), answers_.rend(), ask, &Answer::ask);
    return found == answers_.rend() ? nullptr : &*found;
  }
  // Those since the last time that this was asked.
  std::vector<Answer> take_answers() {
    const std::vector<Answer> out(answers_.begin() + static_cast<std::ptrdiff_t>(taken_), answers_.end());
    taken_ = answers_.size();
    return out;
  }
  // "" while it waits, "allowed" or the kind of the alarm.
  std::string verdict_of(std::uint64_t ask) const {
    const Answer* const answer = answer_to(ask);
    return answer == nullptr ? "" : answer->allowed ? "allowed" : answer->refusal;
  }
  // The kinds of the alarms since the last time.
  std::vector<std::string> alarms() {
    std::vector<std::string> out;
    for (const Alarm& alarm : std::exchange(alarms_, {})) out.emplace_back(to_string(alarm.kind));
    return out;
  }
  const std::vector<Alarm>& all_alarms() const { return alarms_; }

 private:
  void set_sender(v1alpha1::Sender& out, const Running& sender) const {
    const bool known = sender.from.function < graph_->function_count();
    out.set_function(known ? graph_->name_of(sender.from.function) : "nobody");
    out.set_guard_id(bytes_of(sender.from.guard));
    out.set_request_id(bytes_of(sender.request));
  }

  void note() {
    for (Answer& answer : out_.answers) {
      if (answer.decided) stored_.all.emplace_back(to_bytes(*answer.decided));
      answers_.push_back(std::move(answer));
    }
    std::ranges::move(out_.alarms, std::back_inserter(alarms_));
    out_.clear();
  }

  std::shared_ptr<const flow::ApplicationGraph> graph_;
  ApplicationState::Options options_;
  std::unique_ptr<ApplicationState> state_;
  Time now_{std::chrono::hours(480'000)};
  Outcome out_;
  Stored stored_;
  std::vector<Answer> answers_;
  std::vector<Alarm> alarms_;
  std::uint64_t numbers_ = 0, asks_ = 0;
  std::size_t taken_ = 0;
  ExecutionId last_execution_{};
};

}  // namespace sallyport::controller
