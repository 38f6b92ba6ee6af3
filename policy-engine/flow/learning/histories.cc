#include "policy-engine/flow/learning/histories.h"

#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>

#include "base/limits.h"
#include "policy-engine/flow/learning/trace_check.h"

namespace sallyport::flow::learning {

namespace {

constexpr std::int64_t kSecondsMax = 9'000'000'000;  // since 1970, in the year 2255: nanoseconds of it fit

std::unexpected<Error> refuse(ErrorKind kind, std::string text) {
  return fail(ErrorSource::policy, kind, std::move(text));
}

constexpr std::int64_t kLongest = 100'000'000'000'000'000;  // three years: no clock that is right says more

std::int64_t at(std::int64_t start, const google::protobuf::Duration& since) {
  return start + std::clamp<std::int64_t>(nanoseconds(since), 0, kLongest);
}

bool leads_to_something(const v1alpha1::Flow& flow) {
  return flow.end() == v1alpha1::FLOW_END_ANSWERED && flow.status() > 0 && flow.status() < 400;
}

}  // namespace

Result<Address> Histories::address_of(const v1alpha1::Operation& operation) {
  v1alpha1::Operation address;
  address.set_method(operation.method());
  address.set_host(operation.host());
  address.set_path(operation.path());
  return operations_.id_of(address);
}

Result<void> Histories::add(v1alpha1::Trace&& trace) {
  const auto& began = trace.began();
  if (began.seconds() <= 0 || began.seconds() > kSecondsMax || began.nanos() < 0 || began.nanos() > 999'999'999) {
    return refuse(ErrorKind::invalid, "a trace of '" + trace.function() + "' does not say when it began");
  }
  repair_clock(trace);
  History& history = functions_[trace.function()];
  flows_ += static_cast<std::size_t>(trace.flows_size());
  if (flows_ > limits::kLearnFlowsMax || history.begun.size() == limits::kLearnExecutionsMax) {
    return refuse(ErrorKind::limit, "more than " + std::to_string(limits::kLearnExecutionsMax) + " executions or " +
                                        std::to_string(limits::kLearnFlowsMax) +
                                        " requests: learn from fewer executions");
  }
  const std::int64_t start = began.seconds() * 1'000'000'000 + began.nanos();
  Begun begun{.span = {start, at(start, trace.duration())}};
  if (trace.has_inbound()) {
    const auto message = address_of(trace.inbound());
    if (!message) return std::unexpected(message.error());
    begun.message = *message;
  }
  history.begun.push_back(begun);
  for (const v1alpha1::Flow& flow : trace.flows()) {
    if (flow.end() == v1alpha1::FLOW_END_DENIED) continue;
    const auto operation = operations_.id_of(flow.operation());
    if (!operation) return std::unexpected(operation.error());
    const auto address = address_of(flow.operation());
    if (!address) return std::unexpected(address.error());
    history.sent.push_back(
        {{at(start, flow.began()), at(start, flow.ended())}, *operation, *address, leads_to_something(flow)});
  }
  const std::string function = trace.function();
  return history.executions.add(std::move(trace), function);
}

void Histories::finish() {
  for (auto& [name, history] : functions_) {
    const auto is_message = [](const Begun& begun) { return begun.message != kNoAddress; };
    if (std::ranges::any_of(history.begun, is_message)) std::erase_if(history.begun, std::not_fn(is_message));
    std::ranges::sort(history.begun, {},
                      [](const Begun& begun) { return std::pair(begun.span.began, begun.span.ended); });
    std::ranges::sort(history.sent, {}, [&](const Sent& sent) {
      const Operation& of = operations_[sent.operation];
      return std::tuple(sent.span.began, sent.span.ended, of.method, of.host, of.path, of.query, of.action);
    });
  }
}

}  // namespace sallyport::flow::learning
