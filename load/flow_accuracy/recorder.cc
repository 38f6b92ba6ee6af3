#include "load/flow_accuracy/recorder.h"

#include <algorithm>
#include <utility>

namespace sallyport::flow_accuracy {

namespace {

using flow::v1alpha1::Flow;

constexpr int kRetriesMax = 4;  // as boto3 and urllib3 are set up in these applications
constexpr std::uint32_t kFailed[] = {0, 429, 500, 503};

std::string characters(Random& random, std::size_t size, std::string_view alphabet) {
  std::string out;
  for (std::size_t i = 0; i < size; ++i) out += alphabet[random() % alphabet.size()];
  return out;
}

void set(flow::v1alpha1::Operation& to, const Request& request) {
  to.set_method(request.method);
  to.set_host(request.host);
  to.set_path(request.path);
  to.set_query(request.query);
  to.set_action(request.action);
}

void set(google::protobuf::Duration& to, std::int64_t microseconds) {
  to.set_seconds(microseconds / 1'000'000);
  to.set_nanos(static_cast<std::int32_t>(microseconds % 1'000'000) * 1'000);
}

}  // namespace

int between(Random& random, int least, int most) { return std::uniform_int_distribution(least, most)(random); }
bool chance(Random& random, double probability) { return std::bernoulli_distribution(probability)(random); }
double long_tailed(Random& random) { return std::lognormal_distribution(0.0, 0.8)(random); }
std::string alphanumeric(Random& random, std::size_t size) {
  return characters(random, size, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
}
std::string hex(Random& random, std::size_t size) { return characters(random, size, "0123456789abcdef"); }
std::string digits(Random& random, std::size_t size) {
  return characters(random, 1, "123456789") + characters(random, size - 1, "0123456789");
}
std::string uuid(Random& random) {
  return hex(random, 8) + "-" + hex(random, 4) + "-4" + hex(random, 3) + "-a" + hex(random, 3) + "-" + hex(random, 12);
}

Request call(std::string line, std::string_view host, std::string action) {
  return {std::move(line), "POST", std::string(host), "/", "", std::move(action)};
}
std::string bucket(std::string_view name) { return std::string(name) + ".s3.us-east-1.amazonaws.com"; }

Recorder::Recorder(std::string function, Random& random, double failing) : random_(random), failing_(failing) {
  out_.trace.set_function(std::move(function));
  out_.trace.set_execution(hex(random, 32));
  out_.trace.set_end(flow::v1alpha1::EXECUTION_END_COMPLETE);
  out_.trace.set_attributed(true);
}

std::int64_t Recorder::took() { return static_cast<std::int64_t>(2'000 + 10'000 * long_tailed(random_)); }

void Recorder::send_redirected(const Request& request, std::uint32_t status, const Request& to) {
  const std::int64_t ended = now_us_ + took();
  add(request, now_us_, ended, status);
  set(*out_.trace.mutable_flows(out_.trace.flows_size() - 1)->mutable_redirect(), to);
  Request followed = to;
  followed.line += kRedirected;
  now_us_ = at(followed, ended + 500);
}

void Recorder::send_beside(const std::vector<Request>& requests, std::size_t connections) {
  std::vector<std::int64_t> free(connections, now_us_);
  for (const Request& request : requests) {
    std::int64_t& next = *std::ranges::min_element(free);
    next = at(request, next + between(random_, 0, 300));
  }
  now_us_ = *std::ranges::max_element(free);
}

Execution Recorder::done() {
  std::vector<std::size_t> order(out_.lines.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(began_us_[i], i); });
  Execution sorted;
  sorted.trace = out_.trace;
  sorted.trace.clear_flows();
  for (const std::size_t i : order) {
    *sorted.trace.add_flows() = out_.trace.flows(static_cast<int>(i));
    sorted.lines.push_back(out_.lines[i]);
  }
  return sorted;
}

void Recorder::add(const Request& request, std::int64_t began, std::int64_t ended, std::uint32_t status) {
  Flow& flow = *out_.trace.add_flows();
  set(*flow.mutable_operation(), request);
  set(*flow.mutable_began(), began);
  set(*flow.mutable_ended(), ended);
  flow.set_status(status);
  flow.set_end(status == 0 ? flow::v1alpha1::FLOW_END_FAILED : flow::v1alpha1::FLOW_END_ANSWERED);
  out_.lines.push_back(request.line);
  began_us_.push_back(began);
}

std::int64_t Recorder::at(const Request& request, std::int64_t began) {
  for (int tries = 0; tries < kRetriesMax && chance(random_, failing_); ++tries) {
    const std::int64_t ended = began + took();
    add(request, began, ended, kFailed[random_() % std::size(kFailed)]);
    began = ended + 100'000;
  }
  const std::int64_t ended = began + took();
  add(request, began, ended, 200);
  return ended + 500;
}

}  // namespace sallyport::flow_accuracy
