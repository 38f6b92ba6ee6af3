// A receiver of a shop's events, as tests/apps/webhook.

#include <utility>

#include "load/flow_accuracy/recorder.h"

namespace sallyport::flow_accuracy {

namespace {

constexpr double kFailing = 0.02;       // of the requests to services of others
constexpr double kTwice = 0.1;          // of events are delivered so
constexpr double kNewCustomers = 0.25;  // of orders

// A shop's events: orders that are paid, refunds, pings, and what is not from the shop.
class Webhook {
 public:
  explicit Webhook(Random& random) : random_(random) {}

  Round run() {
    const int kind = between(random_, 0, 9);
    const bool is_new = chance(random_, kNewCustomers), declined = chance(random_, 0.2), points = chance(random_, 0.25);
    const int deliveries = chance(random_, kTwice) ? 2 : 1;
    for (int i = 0; i < deliveries; ++i) {
      Recorder recorder("receiver", random_, kFailing);
      if (kind < 6) order(recorder, is_new && i == 0, !declined && points);
      if (kind == 6 || kind == 7) refund(recorder);
      out_.push_back(recorder.done());
    }
    return std::move(out_);
  }

 private:
  static Request payments(std::string line, std::string method, const std::string& path) {
    return {std::move(line), std::move(method), "payments.example.com", "/v1/" + path};
  }
  static Request tell() { return {"tell", "POST", "chat.example.com", "/api/chat.postMessage"}; }

  void order(Recorder& recorder, bool is_new, bool points) {
    if (customer_.empty()) customer_ = "cus_" + hex(random_, 14);
    recorder.send(payments("customer", "GET", "customers/" + customer_));
    if (is_new) recorder.send(payments("create", "POST", "customers"));
    recorder.send(payments("pay", "POST", "payment_intents"));
    if (points) recorder.send({"points", "POST", "loyalty.example.com", "/v1/points"});
    recorder.send(tell());
  }
  static void refund(Recorder& recorder) {
    recorder.send(payments("refund", "POST", "refunds"));
    recorder.send(tell());
  }

  Random& random_;
  std::string customer_;
  Round out_;
};

}  // namespace

Round webhook_round(Random& random) { return Webhook(random).run(); }

}  // namespace sallyport::flow_accuracy
