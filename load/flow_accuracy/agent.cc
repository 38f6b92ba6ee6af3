// A model that answers questions with tools, as tests/apps/agent.

#include <algorithm>
#include <utility>

#include "load/flow_accuracy/recorder.h"

namespace sallyport::flow_accuracy {

namespace {

constexpr int kTurnsMax = 10;

// A question about orders, the weather and topics of help. A model decides which tools are called: one to three of
// those that are still needed in a turn, in any order; an order that was shipped leads to its shipment.
class Agent {
 public:
  explicit Agent(Random& random) : random_(random), recorder_("agent", random) {}

  Round run() {
    ask();
    for (int turn = 1; turn <= kTurnsMax; ++turn) {
      recorder_.send({"think", "POST", "llm.example.com", "/v1/chat/completions"});
      if (needed_.empty()) break;
      use_tools();
    }
    return {recorder_.done()};
  }

 private:
  int one_of(std::initializer_list<int> values) { return values.begin()[random_() % values.size()]; }

  void ask() {
    static constexpr const char* kCities[] = {"Oslo", "Lima", "Pune", "Accra", "Quito", "Perth"};
    for (int i = one_of({0, 1, 1, 2, 3}); i > 0; --i) {
      needed_.push_back({"order", "GET", "orders.example.com", "/v1/orders/" + digits(random_, 4)});
    }
    const int first = between(random_, 0, 5);
    for (int i = one_of({0, 0, 1, 2}); i > 0; --i) {
      needed_.push_back(
          {"weather", "GET", "weather.example.com", "/v1/forecast", std::string("city=") + kCities[(first + i) % 6]});
    }
    if (one_of({0, 0, 1}) == 1) needed_.push_back({"help", "POST", "search.example.com", "/v1/query"});
  }

  void use_tools() {
    std::ranges::shuffle(needed_, random_);
    const auto count = std::min(needed_.size(), static_cast<std::size_t>(one_of({1, 1, 2, 3})));
    const std::vector<Request> now(needed_.end() - static_cast<std::ptrdiff_t>(count), needed_.end());
    needed_.resize(needed_.size() - count);
    for (const Request& tool : now) {
      recorder_.send(tool);
      if (tool.line == "order" && chance(random_, 0.5)) {
        needed_.push_back(
            {"shipment", "GET", "shipping.example.com", "/v1/shipments/" + digits(random_, 10) + "/events"});
      }
    }
  }

  Random& random_;
  Recorder recorder_;
  std::vector<Request> needed_;
};

}  // namespace

Round agent_round(Random& random) { return Agent(random).run(); }

}  // namespace sallyport::flow_accuracy
