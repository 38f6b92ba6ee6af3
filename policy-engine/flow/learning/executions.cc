#include "policy-engine/flow/learning/executions.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "policy-engine/flow/graph.h"
#include "policy-engine/flow/learning/trace_check.h"

namespace sallyport::flow::learning {

namespace {

using v1alpha1::Flow;
using v1alpha1::Trace;

constexpr std::size_t kPartsPerOperation = 5;
constexpr std::size_t kKeyRoomBytes = 1 << 20;
constexpr std::size_t kRedirectsMax = 16;  // followed one after the other
constexpr std::uint16_t kRetriesMax = 100;

std::unexpected<Error> invalid(std::string text) {
  return fail(ErrorSource::policy, ErrorKind::invalid, std::move(text));
}

std::unexpected<Error> too_much(std::string text) {
  return fail(ErrorSource::policy, ErrorKind::limit, std::move(text));
}

bool is_retryable(const Flow& flow) {
  if (flow.end() == v1alpha1::FLOW_END_FAILED || flow.status() == 0) return true;
  const std::uint32_t status = flow.status();
  return status == 408 || status == 425 || status == 429 || (status >= 500 && status <= 599);
}

bool is_redirect(const Flow& flow) {
  const std::uint32_t status = flow.status();
  return flow.has_redirect() && (status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
}

// One exchange while it is put together from its flows.
struct Draft {
  OperationId last = 0;  // the operation of its last flow, which a retry repeats
  std::int64_t began = 0;
  std::int64_t ended = 0;
  bool retryable = false;
  OperationId redirect = 0;
  bool redirecting = false;
  std::vector<OperationId> chain;
  Exchange exchange;
};

// Whether what begins at `began` may be the answer to `draft`: it does not overlap, and in between nothing else has
// come and gone, unless requests run in parallel there.
bool follows(const std::vector<Draft>& drafts, std::size_t i, std::int64_t began) {
  const Draft& draft = drafts[i];
  if (began < draft.ended) return false;
  const bool parallel = i > 0 && drafts[i - 1].ended > draft.began;
  for (std::size_t j = i + 1; j < drafts.size(); ++j) {
    const bool beside = drafts[j].began < draft.ended || drafts[j].ended > began;
    if (!beside && !parallel) return false;
  }
  return true;
}

// How far back a retry or a redirect is looked for: as many requests as can be under way at once.
constexpr std::size_t kLookBack = limits::kFlowTicketsMax;

template <class Matches>
Draft* find_before(std::vector<Draft>& drafts, std::int64_t began, Matches matches) {
  const std::size_t stop = drafts.size() > kLookBack ? drafts.size() - kLookBack : 0;
  for (std::size_t i = drafts.size(); i-- > stop;) {
    if (matches(drafts[i])) return follows(drafts, i, began) ? &drafts[i] : nullptr;
  }
  return nullptr;
}

Draft* find_retried(std::vector<Draft>& drafts, std::int64_t began, OperationId operation) {
  return find_before(drafts, began, [&](const Draft& draft) {
    return draft.retryable && draft.last == operation && draft.exchange.retries < kRetriesMax;
  });
}

Draft* find_redirected(std::vector<Draft>& drafts, std::int64_t began, OperationId operation) {
  return find_before(drafts, began, [&](const Draft& draft) {
    return draft.redirecting && draft.redirect == operation && draft.chain.size() < kRedirectsMax;
  });
}

void take_answer(Draft& draft, const Flow& flow, OperationId operation, std::int64_t ended) {
  draft.last = operation;
  draft.ended = ended;
  draft.retryable = is_retryable(flow);
  draft.redirecting = false;
  draft.exchange.failed = draft.retryable;
}

// The first exchange behind each that began after it had ended.
void measure_reach(std::vector<Draft>& drafts) {
  for (std::size_t i = 0; i < drafts.size(); ++i) {
    const auto behind = drafts.begin() + static_cast<std::ptrdiff_t>(i) + 1;
    const auto end =
        std::partition_point(behind, drafts.end(), [&](const Draft& other) { return other.began < drafts[i].ended; });
    drafts[i].exchange.reach = static_cast<std::uint32_t>(end - drafts.begin());
  }
}

}  // namespace

Result<OperationId> OperationTable::id_of(const v1alpha1::Operation& operation) {
  // No part has a control character, so the key is as unique as the operation.
  key_.clear();
  const std::string* parts[kPartsPerOperation] = {&operation.method(), &operation.host(), &operation.path(),
                                                  &operation.query(), &operation.action()};
  for (const std::string* part : parts) key_.append(*part).append(1, '\n');
  const OperationId id = ids_.number_of(key_, [this](std::string_view key) { return keep(key); });
  if (id < operations_.size()) return id;
  if (operations_.size() == limits::kLearnOperationsMax) {
    return too_much("more than " + std::to_string(limits::kLearnOperationsMax) +
                    " different requests: learn from fewer executions");
  }
  const std::string_view kept = ids_[id];
  std::string_view views[kPartsPerOperation];
  std::size_t at = 0;
  for (std::size_t i = 0; i < kPartsPerOperation; ++i) {
    views[i] = kept.substr(at, parts[i]->size());
    at += parts[i]->size() + 1;
  }
  operations_.push_back({views[0], views[1], views[2], views[3], views[4]});
  return id;
}

std::string_view OperationTable::keep(std::string_view key) {
  if (key.size() > room_left_) {
    room_left_ = std::max(kKeyRoomBytes, key.size());
    room_ = key_room_.emplace_back(std::make_unique_for_overwrite<char[]>(room_left_)).get();
  }
  char* const at = room_;
  std::ranges::copy(key, at);
  room_ += key.size();
  room_left_ -= key.size();
  return {at, key.size()};
}

std::span<const Exchange> Executions::operator[](ExecutionId id) const {
  const std::size_t begin = id == 0 ? 0 : ends_[id - 1];
  return std::span(exchanges_).subspan(begin, ends_[id] - begin);
}

Result<bool> Executions::usable(Trace& trace, const std::string& function) {
  if (!function.empty() && trace.function() != function) {
    ++other_functions_;
    return false;
  }
  if (function_.empty()) function_ = trace.function();
  if (trace.function() != function_) {
    return invalid("traces of several functions: '" + function_ + "' and '" + trace.function() +
                   "'; say which one to learn (--function)");
  }
  if (!any_image_) image_digest_ = trace.image_digest();
  any_image_ = true;
  if (trace.image_digest() != image_digest_) {
    return invalid("traces of several images of '" + function_ + "': '" + image_digest_ + "' and '" +
                   trace.image_digest() + "'; learn a graph for each");
  }
  if (trace.flows_size() > static_cast<int>(limits::kTraceFlowsMax)) {
    ++too_long_;
    return false;
  }
  // An execution that did not reach its end shows no way to it, and one with flows of another shows what none did.
  if (trace.end() != v1alpha1::EXECUTION_END_COMPLETE) {
    ++incomplete_;
    return false;
  }
  if (!trace.attributed()) {
    ++unattributed_;
    return false;
  }
  return true;
}

Result<void> Executions::add(Trace&& trace, const std::string& function) {
  const auto use = usable(trace, function);
  if (!use) return std::unexpected(use.error());
  if (!*use) return {};
  if (repair_clock(trace)) ++repaired_;
  return add_flows(trace);
}

Result<void> Executions::add_flows(const Trace& trace) {
  std::vector<Draft> drafts;
  drafts.reserve(static_cast<std::size_t>(trace.flows_size()));
  bool retryable = false, redirecting = false;  // whether any was: most executions have none to look for
  for (const Flow& flow : trace.flows()) {
    // The policy refuses before the graph is asked, so what it refuses is no step.
    if (flow.end() == v1alpha1::FLOW_END_DENIED) {
      ++denied_;
      continue;
    }
    const auto operation = operations_.id_of(flow.operation());
    if (!operation) return std::unexpected(operation.error());
    const std::int64_t began = nanoseconds(flow.began()), ended = nanoseconds(flow.ended());
    Draft* const retried = retryable ? find_retried(drafts, began, *operation) : nullptr;
    Draft* const redirected = redirecting && retried == nullptr ? find_redirected(drafts, began, *operation) : nullptr;
    Draft& draft = retried != nullptr ? *retried : redirected != nullptr ? *redirected : drafts.emplace_back();
    if (retried != nullptr) {
      ++draft.exchange.retries;
    } else if (redirected != nullptr) {
      draft.chain.push_back(*operation);
    } else {
      draft.began = began;
      draft.exchange.operation = *operation;
    }
    take_answer(draft, flow, *operation, ended);
    retryable |= draft.retryable;
    if (!is_redirect(flow)) continue;
    const auto target = operations_.id_of(flow.redirect());
    if (!target) return std::unexpected(target.error());
    draft.redirect = *target;
    draft.redirecting = redirecting = true;
  }
  if (exchanges_.size() + drafts.size() > limits::kLearnFlowsMax || ends_.size() == limits::kLearnExecutionsMax) {
    return too_much("more than " + std::to_string(limits::kLearnExecutionsMax) + " executions or " +
                    std::to_string(limits::kLearnFlowsMax) + " requests: learn from fewer executions");
  }
  measure_reach(drafts);
  for (Draft& draft : drafts) {
    if (!draft.chain.empty()) {
      draft.exchange.redirects = static_cast<std::uint32_t>(chains_.size());
      chains_.push_back(std::move(draft.chain));
    }
    exchanges_.push_back(draft.exchange);
  }
  ends_.push_back(exchanges_.size());
  return {};
}

}  // namespace sallyport::flow::learning
