#include "controller/state/rate_table.h"

#include <algorithm>
#include <cmath>

#include "base/limits.h"

namespace sallyport::controller {

namespace {

using std::chrono::milliseconds;

// A debt is forgotten where it would take longer to pay back: an outage is no reason to stop for ever.
constexpr double kDebtSecondsMax = 60;

bool is_number(double value) { return std::isfinite(value) && value >= 0; }

// At least one can be there, whatever the burst is.
double resume_at(const TokenBucket& tokens) { return std::min(tokens.burst(), std::max(1.0, tokens.burst() / 2)); }

}  // namespace

RateTable::Limit RateTable::limit_of(const v1alpha1::Limit& source) {
  Limit limit;
  limit.name = source.name();
  limit.endpoint = source.endpoint();
  limit.scope = source.scope();
  limit.good = is_number(source.per_second()) && is_number(source.burst());
  limit.good = limit.good && source.scope() != v1alpha1::LIMIT_SCOPE_UNSPECIFIED;
  limit.per_second = source.per_second();
  limit.burst = source.burst();
  limit.any_operation = source.operations().empty();
  for (const v1alpha1::OperationPattern& operation : source.operations()) {
    auto pattern = flow::parse_pattern(operation.request(), operation.action());
    limit.good = limit.good && pattern.has_value();
    if (pattern) limit.operations.push_back(std::move(*pattern));
  }
  return limit;
}

void RateTable::set(std::span<const Rule> rules, Time now) {
  limits_.clear();
  for (const Rule& rule : rules) limits_.emplace_back(limit_of(rule.limit)).functions = rule.functions;
  for (auto at = buckets_.begin(); at != buckets_.end();) {
    const Limit* const limit = find(at->first.limit);
    if (limit == nullptr || !limit->good || limit->scope != at->first.scope) {
      at = buckets_.erase(at);
      continue;
    }
    at->second.tokens.change(limit->per_second, limit->burst, now);
    ++at;
  }
}

const RateTable::Limit* RateTable::find(std::string_view name) const {
  const auto found = std::ranges::find(limits_, name, &Limit::name);
  return found == limits_.end() ? nullptr : &*found;
}

RateTable::Key RateTable::key_of(const Limit& limit, const Source& from) {
  Key key;
  key.limit = limit.name;
  key.scope = limit.scope;
  if (limit.scope != v1alpha1::LIMIT_SCOPE_APPLICATION) key.function = from.function;
  if (limit.scope == v1alpha1::LIMIT_SCOPE_INSTANCE) key.guard = from.guard;
  return key;
}

// Null: the limit is none, or there is no room for another bucket.
RateTable::Bucket* RateTable::bucket_of(const Limit& limit, const Source& from, Time now) {
  if (!limit.good) return nullptr;
  Key key = key_of(limit, from);
  const auto found = buckets_.find(key);
  if (found != buckets_.end()) return &found->second;
  if (buckets_.size() >= limits::kRatesTrackedMax) return nullptr;
  Bucket fresh{TokenBucket(limit.per_second, limit.burst, now), {}, false};
  return &buckets_.emplace(std::move(key), std::move(fresh)).first->second;
}

RateTable::Lease RateTable::lease(std::string_view name, const Source& from, std::uint32_t wanted, Time now) {
  const Limit* const limit = find(name);
  Bucket* const bucket = limit == nullptr || !applies_to(*limit, from) ? nullptr : bucket_of(*limit, from, now);
  if (bucket == nullptr) return {0, {}, limits::kLeaseLifetime};
  if (bucket->halted) return {0, {}, until_resumed(*bucket, now)};
  const double there = std::floor(bucket->tokens.available(now));
  if (there < 1) return {0, {}, bucket->tokens.until(1, now)};
  // Half of what is there at most, so that the others get some, too.
  const double most = std::min<double>(std::ceil(there / 2), limits::kLeaseMax);
  const auto granted = static_cast<std::uint32_t>(std::min<double>(most, std::max<std::uint32_t>(wanted, 1)));
  if (!bucket->tokens.take(granted, now)) return {0, {}, bucket->tokens.until(1, now)};
  add_credit(*bucket, granted, now);
  return {granted, limits::kLeaseLifetime, {}};
}

void RateTable::add_credit(Bucket& bucket, double count, Time now) {
  const Time until = std::chrono::ceil<std::chrono::seconds>(now + limits::kLeaseReportTime);
  if (bucket.credits.empty() || bucket.credits.back().until < until) bucket.credits.push_back({until, 0});
  bucket.credits.back().count += count;
}

// False: it was sent without a lease.
bool RateTable::use_credit(Bucket& bucket, Time now) {
  while (!bucket.credits.empty() && (bucket.credits.front().until <= now || bucket.credits.front().count < 1)) {
    bucket.credits.pop_front();
  }
  if (bucket.credits.empty()) return false;
  bucket.credits.front().count -= 1;
  return true;
}

milliseconds RateTable::until_resumed(Bucket& bucket, Time now) {
  return bucket.tokens.until(resume_at(bucket.tokens), now);
}

bool RateTable::applies_to(const Limit& limit, const Source& from) {
  return limit.functions.empty() || std::ranges::find(limit.functions, from.function) != limit.functions.end();
}

bool RateTable::applies(const Limit& limit, const v1alpha1::Exchange& exchange) {
  if (!limit.endpoint.empty() && limit.endpoint != exchange.endpoint()) return false;
  if (limit.any_operation) return true;
  const flow::v1alpha1::Operation& operation = exchange.operation();
  const flow::Operation view{operation.method(), operation.host(), operation.path(), operation.query(),
                             operation.action()};
  return std::ranges::any_of(limit.operations, [&](const flow::Pattern& pattern) { return pattern.matches(view); });
}

void RateTable::count(const Source& from, const v1alpha1::Exchange& exchange, Time now, std::vector<Halt>& out) {
  // What was refused was not sent.
  const bool sent =
      exchange.decision() != v1alpha1::DECISION_DENY && exchange.decision() != v1alpha1::DECISION_UNSPECIFIED;
  if (!sent || exchange.kind() != v1alpha1::EXCHANGE_KIND_OUTBOUND) return;
  for (const Limit& limit : limits_) {
    // The bucket of an instance's own limit is its guard's.
    const bool own = limit.scope == v1alpha1::LIMIT_SCOPE_INSTANCE;
    if (own || !applies_to(limit, from) || !applies(limit, exchange)) continue;
    Bucket* const bucket = bucket_of(limit, from, now);
    if (bucket == nullptr || use_credit(*bucket, now)) continue;
    bucket->tokens.charge(1, limit.per_second * kDebtSecondsMax, now);
    if (bucket->halted || bucket->tokens.available(now) >= 0) continue;
    bucket->halted = true;
    const Key key = key_of(limit, from);
    out.push_back({limit.name, limit.scope, key.function, true, until_resumed(*bucket, now)});
  }
}

void RateTable::tell_halted(const Source& from, Time now, std::vector<Halt>& out) {
  for (const Limit& limit : limits_) {
    if (!applies_to(limit, from)) continue;
    const Key key = key_of(limit, from);
    const auto found = buckets_.find(key);
    if (found == buckets_.end() || !found->second.halted) continue;
    out.push_back({limit.name, limit.scope, key.function, true, until_resumed(found->second, now)});
  }
}

std::vector<RateTable::BucketFigures> RateTable::figures(std::string_view limit, Time now) {
  std::vector<BucketFigures> out;
  for (auto& [key, bucket] : buckets_) {
    if (key.limit != limit) continue;
    BucketFigures& each = out.emplace_back();
    each.function = key.function;
    each.available = bucket.tokens.available(now);
    for (const Credit& credit : bucket.credits) each.leased += credit.until > now ? credit.count : 0;
    each.halted = bucket.halted;
    if (bucket.halted) each.retry_after = until_resumed(bucket, now);
  }
  return out;
}

void RateTable::advance(Time now, std::vector<Halt>& out) {
  for (auto at = buckets_.begin(); at != buckets_.end();) {
    auto& [key, bucket] = *at;
    if (bucket.halted && bucket.tokens.available(now) >= resume_at(bucket.tokens)) {
      bucket.halted = false;
      out.push_back({key.limit, key.scope, key.function, false, {}});
    }
    while (!bucket.credits.empty() && bucket.credits.front().until <= now) bucket.credits.pop_front();
    // One that is full, and of which nothing is due, is as good as new.
    const bool done = !bucket.halted && bucket.credits.empty() && bucket.tokens.full(now);
    at = done ? buckets_.erase(at) : std::next(at);
  }
}

}  // namespace sallyport::controller
