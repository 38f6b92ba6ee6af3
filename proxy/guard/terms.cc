#include "proxy/guard/terms.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/diagnostics.h"

namespace sallyport::guard {
namespace {

std::unexpected<Error> unusable(std::string why) {
  return fail(ErrorSource::controller, ErrorKind::invalid, std::move(why));
}

std::optional<EntryCheck> entry_check_of(const link_api::Update& update) {
  switch (update.entry_check()) {
    case link_api::ENTRY_CHECK_NONE:
      return EntryCheck::none;
    case link_api::ENTRY_CHECK_UNTAGGED:
      return EntryCheck::untagged;
    // Who says nothing is asked: that lets nothing through that a check would not.
    case link_api::ENTRY_CHECK_UNSPECIFIED:
    case link_api::ENTRY_CHECK_ALWAYS:
      return EntryCheck::always;
    default:
      return std::nullopt;
  }
}

std::optional<OnControllerLoss> on_loss_of(const link_api::Update& update) {
  switch (update.on_controller_loss()) {
    case link_api::ON_CONTROLLER_LOSS_UNSPECIFIED:
    case link_api::ON_CONTROLLER_LOSS_DENY:
      return OnControllerLoss::deny;
    case link_api::ON_CONTROLLER_LOSS_ALLOW_AND_RECORD:
      return OnControllerLoss::allow_and_record;
    default:
      return std::nullopt;
  }
}

using Patterns = google::protobuf::RepeatedPtrField<link_api::OperationPattern>;

Result<std::vector<flow::Pattern>> read_patterns(const Patterns& source, const std::string& whose) {
  std::vector<flow::Pattern> out;
  if (static_cast<std::size_t>(source.size()) > limits::kMemberPatternsMax) return unusable(whose + " are too many");
  for (const link_api::OperationPattern& one : source) {
    Result<flow::Pattern> pattern = flow::parse_pattern(one.request(), one.action());
    if (!pattern) return unusable(whose + ": " + document::quoted(one.request()) + ": " + pattern.error().text);
    out.push_back(std::move(*pattern));
  }
  return out;
}

// A bucket of whole requests. Nothing: no such bucket can be kept.
std::optional<rate::Rate> rate_of(const link_api::Limit& source) {
  const double per_second = source.per_second(), burst = source.burst();
  const bool numbers = std::isfinite(per_second) && std::isfinite(burst) && per_second > 0 && burst >= 1 &&
                       burst <= limits::kPolicyRateMax && per_second <= limits::kPolicyRateMax;
  if (!numbers) return std::nullopt;
  constexpr double kNanoseconds = 1e9, kLongest = 4e18;  // of what 64 bits hold, about half
  const double interval = kNanoseconds / per_second;
  if (interval * burst > kLongest) return std::nullopt;
  return rate::Rate{std::chrono::nanoseconds(std::llround(interval)), static_cast<std::uint32_t>(burst)};
}

std::shared_ptr<rate::Gcra> bucket_of(const std::string& name, const rate::Rate& rate, const Terms* previous) {
  if (previous != nullptr) {
    const auto same = std::ranges::find(previous->limits, name, &MemberLimit::name);
    const bool goes_on = same != previous->limits.end() && same->bucket && same->bucket->rate() == rate;
    if (goes_on) return same->bucket;
  }
  return std::make_shared<rate::Gcra>(rate);
}

Result<MemberLimit> read_limit(const link_api::Limit& source, const Terms* previous, const HaltOf& halt_of) {
  MemberLimit out;
  out.name = source.name();
  const std::string whose = "the limit " + document::quoted(out.name);
  out.endpoint = source.endpoint();
  out.any_operation = source.operations().empty();
  auto operations = read_patterns(source.operations(), whose + "'s operations");
  if (!operations) return std::unexpected(operations.error());
  out.operations = std::move(*operations);
  const auto rate = rate_of(source);
  if (!rate) return unusable(whose + " has a rate or a burst that can't be kept");
  out.rate = *rate;
  out.per_second = source.per_second();
  switch (source.scope()) {
    case link_api::LIMIT_SCOPE_INSTANCE:
      out.bucket = bucket_of(out.name, out.rate, previous);
      break;
    case link_api::LIMIT_SCOPE_FUNCTION:
    case link_api::LIMIT_SCOPE_APPLICATION:
      break;
    default:
      return unusable(whose + " has a scope that this version does not know; update sallyport");
  }
  out.halt = halt_of(out.name);
  return out;
}

}  // namespace

void HaltSwitch::halt(std::chrono::nanoseconds again_at) {
  again_at_ = again_at.count();
  ++halts_;
  halted_ = true;
}

void HaltSwitch::resume() { halted_ = false; }

bool MemberLimit::has(const document::Endpoint* decided_by, const flow::Operation* operation) const {
  if (!endpoint.empty() && (decided_by == nullptr || decided_by->name != endpoint)) return false;
  if (any_operation) return true;
  if (operation == nullptr) return false;
  return std::ranges::any_of(operations, [&](const flow::Pattern& one) { return one.matches(*operation); });
}

bool Terms::announces(const flow::Operation& operation) const {
  return std::ranges::any_of(announced, [&](const flow::Pattern& one) { return one.matches(operation); });
}

Result<std::shared_ptr<Terms>> read_terms(const link_api::Update& update, const Terms* previous,
                                          const HaltOf& halt_of) {
  auto out = std::make_shared<Terms>();
  out->generation = update.generation();
  out->lifetime = std::chrono::seconds(update.lifetime_s());
  const auto entry_check = entry_check_of(update);
  const auto on_loss = on_loss_of(update);
  if (!entry_check || !on_loss) {
    return unusable("'entryCheck' or 'onControllerLoss' has a value that this version does not know; update sallyport");
  }
  out->entry_check = *entry_check;
  out->on_loss = *on_loss;
  auto announced = read_patterns(update.announced(), "the operations to announce");
  if (!announced) return std::unexpected(announced.error());
  out->announced = std::move(*announced);
  if (static_cast<std::size_t>(update.limits_size()) > limits::kMemberLimitsMax) {
    return unusable("there are more than " + std::to_string(limits::kMemberLimitsMax) + " limits");
  }
  std::set<std::string, std::less<>> names;
  for (const link_api::Limit& source : update.limits()) {
    if (!names.insert(source.name()).second) {
      return unusable("the limit " + document::quoted(source.name()) + " is given twice");
    }
    Result<MemberLimit> limit = read_limit(source, previous, halt_of);
    if (!limit) return std::unexpected(limit.error());
    out->limits.push_back(std::move(*limit));
  }
  return out;
}

}  // namespace sallyport::guard
