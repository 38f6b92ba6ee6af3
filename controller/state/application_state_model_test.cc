// The engine against a model of it that keeps everything for ever and looks through all of it for each question: slow,
// and plain enough to be read against the rules in application_state.h.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "controller/state/application_state.h"
#include "controller/state/test_support.h"

namespace sallyport::controller {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

struct ModelExecution {
  Running running;
  bool asked = false, told = false, stored = false;
};

struct ModelFlow {
  Running of;  // its request is the flow's own
  std::uint64_t id = 0;
  std::uint32_t edge = 0;
  Time began{};
  std::optional<Time> ended;
  bool open = false, gone = false;
  std::size_t used = 0;
  Time spent{};
  std::uint64_t spent_order = 0;
};

struct ModelWaiting {
  Entrant entrant;
  Time until{};
};

// What one message led to.
struct Result {
  std::map<std::uint64_t, std::tuple<bool, RequestId, std::string>> answers;
  std::multiset<std::string> alarms;
  bool operator==(const Result&) const = default;
};

class Model {
 public:
  explicit Model(std::shared_ptr<const flow::ApplicationGraph> graph) : graph_(std::move(graph)) {}

  void move_to(Time now, Result& out) {
    now_ = now;
    for (auto* const room : {&asks_, &reports_}) {
      while (!room->empty() && room->front().until <= now_) {
        const Entrant entrant = room->front().entrant;
        room->erase(room->begin());
        entrant.reported ? pair(entrant, false, out) : decide(entrant, false, out);
      }
    }
  }

  void decide(Entrant entrant, bool may_wait, Result& out) {
    if (const ModelExecution* const known = find(entrant.execution)) {
      const bool again = known->running.from.guard == entrant.from.guard && known->asked && !known->told;
      out.answers[entrant.ask] = {again, again ? known->running.request : RequestId{}, ""};
      if (!again) out.alarms.insert("reused-execution");
      return;
    }
    ModelFlow* flow = predecessor(entrant);
    if (may_wait) entrant.may_repeat = may_repeat(entrant);
    const bool entry = !entrant.claim && graph_->is_entry(entrant.from.function);
    if (flow == nullptr && may_wait && !entry && !hopeless(entrant)) {
      asks_.push_back({entrant, now_ + limits::kPairingGrace});
      return;
    }
    if (flow == nullptr && entrant.may_repeat) flow = repeated(entrant);
    if (flow != nullptr) {
      use(*flow);
      const std::uint32_t from = graph_->edges()[flow->edge].from;
      out.answers[entrant.ask] = {true, flow->of.request, entrant.claim ? "" : graph_->name_of(from)};
      executions_.push_back({{entrant.from, entrant.execution, flow->of.request}, true, false, true});
    } else if (entry) {
      out.answers[entrant.ask] = {true, entrant.request, ""};
      const bool stored = !graph_->edges_through_services(entrant.from.function).empty();
      executions_.push_back({{entrant.from, entrant.execution, entrant.request}, true, false, stored});
    } else {
      out.answers[entrant.ask] = {false, RequestId{}, ""};
      out.alarms.insert(why(entrant));
    }
  }

  void report(const Entrant& entrant, bool asked, Result& out) {
    if (ModelExecution* const known = find(entrant.execution)) {
      if (known->running.from.guard != entrant.from.guard) {
        out.alarms.insert("reused-execution");
        return;
      }
      known->told = true;
      if (asked && known->running.request != entrant.request) out.alarms.insert("malformed");
      return;
    }
    executions_.push_back({{entrant.from, entrant.execution, entrant.request}, false, true, true});
    pair(entrant, true, out);
  }

  void pair(Entrant entrant, bool may_wait, Result& out) {
    ModelFlow* flow = predecessor(entrant);
    if (may_wait) entrant.may_repeat = may_repeat(entrant);
    const bool entry = !entrant.claim && graph_->is_entry(entrant.from.function);
    if (flow == nullptr && may_wait && !entry && !hopeless(entrant)) {
      reports_.push_back({entrant, now_ + limits::kReportGrace});
      return;
    }
    if (flow == nullptr && entrant.may_repeat) flow = repeated(entrant);
    if (flow != nullptr) use(*flow);
    if (flow == nullptr && !entry) out.alarms.insert(why(entrant));
  }

  void add_flow(const Running& from, std::uint64_t id, std::string_view operation, const std::string& to, bool open,
                Result& out) {
    const std::vector<std::uint32_t> edges = edges_of(from.from.function, operation, to);
    if (edges.empty()) return;
    const ModelExecution* const of = find(from.id);
    if (of == nullptr || of->running.from.guard != from.from.guard) {
      out.alarms.insert("unknown-execution");
      return;
    }
    for (const std::uint32_t edge : edges) {
      ModelFlow flow;
      flow.of = from;
      flow.id = id;
      flow.edge = edge;
      flow.began = now_;
      flow.open = open;
      if (!open) flow.ended = now_;
      flows_.push_back(flow);
    }
    serve(reports_, out);
    serve(asks_, out);
  }

  void end_flow(const Running& from, std::uint64_t id, std::string_view operation, const std::string& to,
                bool succeeded, Result& out) {
    bool found = false;
    for (ModelFlow& flow : flows_) {
      if (!flow.open || flow.id != id || flow.of.id != from.id) continue;
      found = true;
      flow.open = false;
      if (succeeded) flow.ended = now_;
      if (!succeeded && flow.used == 0) flow.gone = true;
      if (!succeeded) excused_[pairing_of(flow.edge)] += flow.used;
    }
    if (!found && succeeded) add_flow(from, id, operation, to, false, out);
  }

  // A controller that was killed knows what was stored.
  void restart() {
    asks_.clear();
    std::erase_if(executions_, [](const ModelExecution& execution) { return !execution.told && !execution.stored; });
  }

  // Executions with flows that led to too little.
  struct Missing {
    std::multiset<ExecutionId> certain;
    // Perhaps: their exchange ended about when it was found out, or a flow that is paired with the same messages failed
    // after it had led to something, which may have been what they led to.
    std::multiset<ExecutionId> all;
    std::size_t least = 0;  // how many of them there are for certain
  };
  Missing missing() const {
    Missing out;
    std::map<std::uint32_t, std::size_t> of_pairing;
    for (const ModelFlow& flow : flows_) {
      const flow::ApplicationEdge& edge = graph_->edges()[flow.edge];
      if (!flow.ended || flow.used >= edge.leads_to.least || graph_->is_entry(edge.to)) continue;
      const Time over = flow.began + edge.within;
      if (*flow.ended <= over + 2s) out.all.insert(flow.of.id);
      if (*flow.ended >= over) continue;
      ++of_pairing[pairing_of(flow.edge)];
      if (!excused_.contains(pairing_of(flow.edge))) out.certain.insert(flow.of.id);
    }
    for (const auto& [pairing, count] : of_pairing) {
      const auto excused = excused_.find(pairing);
      const std::size_t fewer = excused == excused_.end() ? 0 : excused->second;
      out.least += count - std::min(count, fewer);
    }
    return out;
  }
  std::size_t allowed_by_flows() const {
    std::size_t count = 0;
    for (const ModelFlow& flow : flows_) count += flow.used;
    return count;
  }

 private:
  ModelExecution* find(const ExecutionId& id) {
    const auto same = [&](const ModelExecution& execution) { return execution.running.id == id; };
    const auto found = std::ranges::find_if(executions_, same);
    return found == executions_.end() ? nullptr : &*found;
  }

  // Patterns of these graphs have no placeholders.
  std::vector<std::uint32_t> edges_of(std::uint32_t function, std::string_view operation, const std::string& to) const {
    std::vector<std::uint32_t> out;
    for (std::uint32_t i = 0; i < graph_->edges().size(); ++i) {
      const flow::ApplicationEdge& edge = graph_->edges()[i];
      if (edge.from != function) continue;
      if (edge.direct() ? graph_->name_of(edge.to) == to : edge.through->to_string() == operation) out.push_back(i);
    }
    return out;
  }

  // Of all edges through services to one function it is one, as a message without a tag may be of any of them.
  std::uint32_t pairing_of(std::uint32_t edge) const {
    const flow::ApplicationEdge& of = graph_->edges()[edge];
    for (std::uint32_t i = 0; i < edge && !of.direct(); ++i) {
      if (!graph_->edges()[i].direct() && graph_->edges()[i].to == of.to) return i;
    }
    return edge;
  }

  bool leads(const ModelFlow& flow, const Entrant& entrant) const {
    const flow::ApplicationEdge& edge = graph_->edges()[flow.edge];
    if (flow.gone || edge.to != entrant.from.function || edge.direct() != entrant.claim.has_value()) return false;
    if (!entrant.claim) return true;
    return edge.from == entrant.claim->function && flow.of.from.guard == entrant.claim->guard &&
           flow.of.request == entrant.claim->request;
  }

  ModelFlow* predecessor(const Entrant& entrant) {
    return oldest(entrant, [&](const ModelFlow& flow, const flow::ApplicationEdge& edge) {
      return flow.used < edge.leads_to.most && flow.began + edge.within > now_;
    });
  }
  bool may_repeat(const Entrant& entrant) {
    return oldest(entrant, [&](const ModelFlow& flow, const flow::ApplicationEdge& edge) {
             return is_spent(flow) && flow.spent + edge.redelivery_window > now_;
           }) != nullptr;
  }
  ModelFlow* repeated(const Entrant& entrant) {
    return oldest(entrant, [&](const ModelFlow& flow, const flow::ApplicationEdge& edge) {
      return is_spent(flow) && flow.spent + edge.redelivery_window + limits::kReportGrace > now_;
    });
  }
  bool is_spent(const ModelFlow& flow) const {
    const flow::ApplicationEdge& edge = graph_->edges()[flow.edge];
    return flow.used >= edge.leads_to.most && flow.used < edge.leads_to.most + edge.redeliveries;
  }

  // Of those for which `may` is true, the one that began, or was spent, first.
  template <class May>
  ModelFlow* oldest(const Entrant& entrant, May&& may) {
    using Order = std::tuple<Time, std::uint32_t, std::uint64_t>;
    std::optional<Order> best;
    ModelFlow* found = nullptr;
    for (std::size_t i = 0; i < flows_.size(); ++i) {
      ModelFlow& flow = flows_[i];
      if (!leads(flow, entrant) || !may(flow, graph_->edges()[flow.edge])) continue;
      const bool spent = is_spent(flow);
      const Order order{spent ? flow.spent : flow.began, flow.edge, spent ? flow.spent_order : i};
      if (best && *best <= order) continue;
      best = order;
      found = &flow;
    }
    return found;
  }

  void use(ModelFlow& flow) {
    if (++flow.used != graph_->edges()[flow.edge].leads_to.most) return;
    flow.spent = now_;
    flow.spent_order = ++orders_;
  }

  bool hopeless(const Entrant& entrant) const {
    if (!entrant.claim) return graph_->edges_through_services(entrant.from.function).empty();
    return foreign(entrant);
  }
  bool foreign(const Entrant& entrant) const {
    const Claim& claim = *entrant.claim;
    if (claim.function == flow::ApplicationGraph::kNone) return true;
    if (graph_->direct_edge(claim.function, entrant.from.function) == flow::ApplicationGraph::kNone) return true;
    // Known as one of another function.
    return std::ranges::any_of(executions_, [&](const ModelExecution& execution) {
      return execution.running.from.guard == claim.guard && execution.running.request == claim.request &&
             execution.running.from.function != claim.function;
    });
  }
  std::string why(const Entrant& entrant) const {
    if (entrant.claim) return foreign(entrant) ? "foreign-sender" : "tag";
    const bool lately = std::ranges::any_of(flows_, [&](const ModelFlow& flow) {
      const flow::ApplicationEdge& edge = graph_->edges()[flow.edge];
      return !edge.direct() && edge.to == entrant.from.function && flow.began + edge.within > now_;
    });
    return lately ? "too-many-executions" : "no-predecessor";
  }

  void serve(std::vector<ModelWaiting>& room, Result& out) {
    for (std::size_t i = 0; i < room.size();) {
      const Entrant entrant = room[i].entrant;
      if (predecessor(entrant) == nullptr) {
        ++i;
        continue;
      }
      room.erase(room.begin() + static_cast<std::ptrdiff_t>(i));
      entrant.reported ? pair(entrant, false, out) : decide(entrant, false, out);
    }
  }

  std::shared_ptr<const flow::ApplicationGraph> graph_;
  Time now_{};
  std::vector<ModelExecution> executions_;
  std::vector<ModelFlow> flows_;
  std::vector<ModelWaiting> asks_, reports_;
  std::map<std::uint32_t, std::size_t> excused_;  // by pairing: executions that flows led to and then failed
  std::uint64_t orders_ = 0;
};

class History {
 public:
  History(std::uint64_t seed, std::size_t guards) : random_(seed), graph_(graph_of(functions())), model_(graph_) {
    state_ = std::make_unique<ApplicationState>(graph_, ApplicationState::Options{.seed = seed});
    for (std::size_t i = 0; i < guards; ++i) {
      guards_.push_back({id_of<GuardId>(i + 1, 'g'), static_cast<std::uint32_t>(i % graph_->function_count())});
    }
  }

  // Until something differs.
  void run(std::size_t steps) {
    for (std::size_t i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      SCOPED_TRACE("step " + std::to_string(i));
      step();
    }
    if (testing::Test::HasFailure()) return;
    Result expected;
    now_ += 40s;
    model_.move_to(now_, expected);
    advance();
    compare(expected);
    const auto [certain, all, least] = model_.missing();
    if (restarts_ == 0) {
      EXPECT_TRUE(std::ranges::includes(missing_, certain)) << missing_.size() << " " << certain.size();
      EXPECT_TRUE(std::ranges::includes(all, missing_)) << missing_.size() << " " << all.size();
      EXPECT_GE(missing_.size(), least);
    } else {
      // About the time of a restart an alarm may be raised twice, or by the replay alone.
      for (const ExecutionId& execution : missing_) EXPECT_TRUE(all.contains(execution));
    }
    for (int i = 0; i < 2; ++i) {
      now_ += 1h;
      state_->advance(now_, out_);
    }
    EXPECT_EQ(state_->executions(), 0U);
    EXPECT_EQ(state_->flows(), 0U);
    EXPECT_EQ(state_->waiting(), 0U);
  }
  std::size_t allowed_by_flows() const { return model_.allowed_by_flows(); }

 private:
  static constexpr std::uint32_t kFunctions = 5;

  std::size_t draw(std::size_t below) { return std::uniform_int_distribution<std::size_t>(0, below - 1)(random_); }
  bool chance(std::size_t percent) { return draw(100) < percent; }

  std::string functions() {
    std::string out = "  - {name: f0, entry: true}\n";
    for (std::uint32_t to = 1; to < kFunctions; ++to) {
      out += "  - name: f" + std::to_string(to) + (chance(20) ? "\n    entry: true" : "") + "\n    after:\n";
      std::set<std::string> seen;
      for (std::size_t i = 0; i < 1 + draw(3); ++i) {
        // The first is from one before it, so that each can begin.
        std::string key = "function: f" + std::to_string(i == 0 ? draw(to) : draw(kFunctions));
        if (chance(65)) key += ", through: '" + operation() + "'";
        if (!seen.insert(key).second) continue;
        constexpr std::array<const char*, 5> kLeadsTo = {"", ", leadsTo: 2", ", leadsTo: 0..1", ", leadsTo: 2..3", ""};
        out += "    - {" + key + kLeadsTo[draw(kLeadsTo.size())];
        if (const std::size_t redeliveries = draw(3); redeliveries > 0) {
          out += ", redeliveries: " + std::to_string(redeliveries) +
                 ", redeliveryWindow: " + std::to_string(1 + draw(3)) + "s";
        }
        out += ", within: " + std::to_string(1 + draw(8)) + "s}\n";
      }
    }
    return out;
  }
  std::string operation() {
    constexpr std::array<const char*, 3> kAll = {"POST s.example.com/a", "POST s.example.com/b", "PUT s.example.com/c"};
    return kAll[draw(kAll.size())];
  }

  void step() {
    if (chance(60)) now_ += milliseconds(draw(30));
    if (chance(5)) now_ += milliseconds(draw(2'000));
    Result expected;
    model_.move_to(now_, expected);
    const std::size_t what = draw(100);
    if (what < 24) {
      enter(true, expected);
    } else if (what < 32) {
      enter(false, expected);
    } else if (what < 60) {
      begin_flow(expected);
    } else if (what < 80) {
      end_flow(expected);
    } else if (what < 88) {
      end_execution();
    } else if (what < 97) {
      tell_begun(expected);
    } else if (what < 98) {
      restart(expected);
    }
    // Where nothing was said time has passed all the same.
    advance();
    compare(expected);
  }

  // Of somebody, who may not be who the tag says.
  std::optional<Claim> claim() {
    if (running_.empty() || chance(50)) return {};
    const Running& sender = running_[running_.size() - 1 - draw(std::min<std::size_t>(running_.size(), 12))];
    Claim out{sender.from.function, sender.from.guard, sender.request};
    // How long it is remembered of which function a tag's number is depends on what else is kept of it.
    const bool own = sender.request[0] != 's';
    if (own && chance(5)) out.function = static_cast<std::uint32_t>(draw(kFunctions));
    if (own && chance(3)) out.guard = guards_[draw(guards_.size())].guard;
    if (chance(3)) out.request = id_of<RequestId>(draw(1'000), 'q');
    return out;
  }
  void set_sender(v1alpha1::Sender& out, const Claim& claim) const {
    out.set_function(graph_->name_of(claim.function));
    out.set_guard_id(bytes_of(claim.guard));
    out.set_request_id(bytes_of(claim.request));
  }

  void enter(bool asks, Result& expected) {
    Entrant entrant;
    entrant.from = guards_[draw(guards_.size())];
    entrant.claim = claim();
    entrant.execution = id_of(++numbers_, 'e');
    if (asks && !asked_.empty() && chance(3)) {  // once more
      entrant = asked_[draw(asked_.size())];
    } else if (!running_.empty() && chance(1)) {
      entrant.execution = running_[draw(running_.size())].id;
    }
    entrant.request = id_of<RequestId>(++numbers_, 'r');
    if (asks) {
      entrant.ask = ++numbers_;
      asked_.push_back(entrant);
      v1alpha1::EntryAsk message;
      message.set_execution(bytes_of(entrant.execution));
      if (entrant.claim) set_sender(*message.mutable_sender(), *entrant.claim);
      model_.decide(entrant, true, expected);
      state_->ask(entrant.ask, entrant.from, message, entrant.request, now_, out_);
      note();
      return;
    }
    if (entrant.claim) entrant.request = entrant.claim->request;
    tell_begun({entrant.from, entrant.execution, entrant.request}, entrant.claim, false, expected);
  }

  void tell_begun(const Running& running, const std::optional<Claim>& of, bool asked, Result& expected) {
    Entrant entrant;
    entrant.from = running.from;
    entrant.execution = running.id;
    entrant.claim = of;
    entrant.request = running.request;
    entrant.reported = true;
    model_.report(entrant, asked, expected);
    v1alpha1::Event event;
    auto& began = *event.mutable_execution_began();
    began.set_execution(bytes_of(running.id));
    began.set_request_id(bytes_of(running.request));
    if (of) set_sender(*began.mutable_sender(), *of);
    began.set_asked(asked);
    tell(running.from, event);
    running_.push_back(running);
  }
  // Of one that was allowed; its tag has been looked at then.
  void tell_begun(Result& expected) {
    if (allowed_.empty()) return;
    const std::size_t at = draw(allowed_.size());
    const Running running = allowed_[at];
    allowed_.erase(allowed_.begin() + static_cast<std::ptrdiff_t>(at));
    tell_begun(running, {}, true, expected);
  }

  struct Exchange {
    Running of;
    std::uint64_t id = 0;
    std::string operation, to;
  };
  Exchange new_flow() {
    Exchange out;
    out.of = running_[running_.size() - 1 - draw(std::min<std::size_t>(running_.size(), 20))];
    if (chance(8)) out.of.request = id_of<RequestId>(++numbers_, 's');  // it is not known which execution has sent it
    if (chance(8)) running_.push_back(out.of);                          // so that its tag is shown, too
    out.id = ++numbers_;
    out.operation = chance(70) ? operation() : "GET s.example.com/nothing";
    if (chance(40)) out.to = graph_->name_of(static_cast<std::uint32_t>(draw(kFunctions)));
    return out;
  }

  void begin_flow(Result& expected) {
    if (running_.empty()) return;
    const Exchange flow = new_flow();
    model_.add_flow(flow.of, flow.id, flow.operation, flow.to, true, expected);
    v1alpha1::Event event;
    auto& began = *event.mutable_flow_began();
    began.set_execution(bytes_of(flow.of.id));
    began.set_request_id(bytes_of(flow.of.request));
    set_operation(*began.mutable_operation(), flow.operation);
    began.set_to_function(flow.to);
    began.set_id(flow.id);
    tell(flow.of.from, event);
    // Some ends get lost.
    if (chance(95)) open_.push_back(flow);
  }

  void end_flow(Result& expected) {
    if (running_.empty()) return;
    Exchange flow = new_flow();  // whose beginning got lost
    if (!open_.empty() && chance(90)) {
      const std::size_t at = draw(open_.size());
      flow = open_[at];
      open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(at));
    }
    const bool good = chance(75);
    model_.end_flow(flow.of, flow.id, flow.operation, flow.to, good, expected);
    v1alpha1::Event event;
    auto& exchange = *event.mutable_exchange();
    exchange.set_kind(v1alpha1::EXCHANGE_KIND_OUTBOUND);
    constexpr std::array<v1alpha1::Decision, 3> kGood = {v1alpha1::DECISION_ALLOW, v1alpha1::DECISION_WOULD_DENY,
                                                         v1alpha1::DECISION_ERROR};
    constexpr std::array<std::uint32_t, 3> kBad = {0, 404, 503};
    const bool denied = !good && chance(20);
    exchange.set_decision(denied ? v1alpha1::DECISION_DENY : kGood[draw(kGood.size())]);
    exchange.set_status(good || denied ? 200 : kBad[draw(kBad.size())]);
    exchange.set_id(flow.id);
    exchange.set_execution(bytes_of(flow.of.id));
    exchange.set_request_id(bytes_of(flow.of.request));
    set_operation(*exchange.mutable_operation(), flow.operation);
    exchange.set_to_function(flow.to);
    tell(flow.of.from, event);
  }

  void end_execution() {
    if (running_.empty()) return;
    const Running& running = running_[draw(running_.size())];
    v1alpha1::Event event;
    event.mutable_execution_ended()->set_execution(bytes_of(running.id));
    tell(running.from, event);
  }

  void restart(const Result& expected) {
    // What the time has brought is said first, as it would have been.
    advance();
    compare(expected);
    state_ = std::make_unique<ApplicationState>(graph_, ApplicationState::Options{.seed = random_()});
    stored_.replay_into(*state_);
    state_->advance(now_, out_);
    out_.clear();
    restarted_ = true;
    ++restarts_;
    model_.restart();
  }

  // What the time brings is stored before what happens then.
  void advance() {
    state_->advance(now_, out_);
    note();
  }

  void tell(const Source& from, const v1alpha1::Event& event) {
    advance();
    stored_.all.emplace_back(Stored::Told{from, event, now_});
    state_->apply(from, event, now_, out_);
    note();
  }

  void note() {
    for (const Answer& answer : out_.answers) {
      found_.answers[answer.ask] = {answer.allowed, answer.request, answer.predecessor};
      if (answer.decided) stored_.all.emplace_back(to_bytes(*answer.decided));
      const auto asked = std::ranges::find(asked_, answer.ask, &Entrant::ask);
      if (!answer.allowed || asked == asked_.end()) continue;
      // A guard that has asked twice keeps to what it heard last.
      std::erase_if(allowed_, [&](const Running& running) { return running.id == asked->execution; });
      allowed_.push_back({asked->from, asked->execution, answer.request});
    }
    for (const Alarm& alarm : out_.alarms) {
      if (alarm.kind == AlarmKind::missing_execution) {
        missing_.insert(alarm.execution);
        continue;
      }
      // Which of them it is depends on how long things are remembered.
      const bool tag = alarm.kind == AlarmKind::unknown_sender || alarm.kind == AlarmKind::no_flow ||
                       alarm.kind == AlarmKind::replayed_tag;
      found_.alarms.insert(tag ? "tag" : std::string(to_string(alarm.kind)));
    }
    out_.clear();
  }

  void compare(const Result& expected) {
    const Result found = std::exchange(found_, {});
    if (std::exchange(restarted_, false)) return;
    EXPECT_EQ(found.answers, expected.answers);
    EXPECT_EQ(found.alarms, expected.alarms);
  }

  std::mt19937_64 random_;
  std::shared_ptr<const flow::ApplicationGraph> graph_;
  Model model_;
  std::unique_ptr<ApplicationState> state_;
  Time now_{std::chrono::hours(480'000)};
  Outcome out_;
  Result found_;  // in this step
  Stored stored_;
  std::uint64_t numbers_ = 0;
  std::vector<Source> guards_;
  std::vector<Entrant> asked_;
  std::vector<Running> running_, allowed_;
  std::vector<Exchange> open_;
  std::multiset<ExecutionId> missing_;
  bool restarted_ = false;  // in this step
  int restarts_ = 0;
};

void run_histories(std::uint64_t first, std::uint64_t count, std::size_t guards, std::size_t steps) {
  std::size_t allowed = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    History history(seed, guards);
    history.run(steps);
    allowed += history.allowed_by_flows();
    if (testing::Test::HasFailure()) return;
  }
  // The histories are about something.
  EXPECT_GT(allowed, count * steps / 40);
}

class ApplicationStateModel : public testing::TestWithParam<int> {};

TEST_P(ApplicationStateModel, AgreesOnShortHistories) {
  run_histories(static_cast<std::uint64_t>(GetParam()) * 10'000, 1'250, 8, 120);
}

TEST_P(ApplicationStateModel, AgreesWhereHundredsAreUnderWay) {
  run_histories(1'000'000 + static_cast<std::uint64_t>(GetParam()) * 10'000, 2, 200, 2'000);
}

INSTANTIATE_TEST_SUITE_P(Parts, ApplicationStateModel, testing::Range(0, 8));

}  // namespace
}  // namespace sallyport::controller
