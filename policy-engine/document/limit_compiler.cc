#include "policy-engine/document/limit_compiler.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/did_you_mean.h"
#include "policy-engine/document/names.h"
#include "policy-engine/rate/rate_text.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;
using std::chrono::nanoseconds;

class LimitCompiler {
 public:
  LimitCompiler(const std::vector<Endpoint>& endpoints, const Snapshot* previous, const Places& places,
                Diagnostics& diagnostics)
      : endpoints_(endpoints), previous_(previous), places_(places), diagnostics_(diagnostics) {}

  std::vector<Limit> compile(const api::EgressPolicySpec& spec) {
    std::vector<Limit> out;
    if (static_cast<std::size_t>(spec.limits_size()) > limits::kPolicyLimitsMax) {
      diagnostics_.error(places_.of(spec, api::EgressPolicySpec::kLimitsFieldNumber),
                         "the policy has more than " + std::to_string(limits::kPolicyLimitsMax) + " limits");
      return out;
    }
    for (const api::Endpoint& endpoint : spec.endpoints()) given_.push_back(endpoint.name());
    for (const api::RateLimit& source : spec.limits()) {
      if (places_.broken(source)) continue;
      check_name(source);
      if (auto limit = compile(source)) out.push_back(std::move(*limit));
    }
    return out;
  }

 private:
  void check_name(const api::RateLimit& source) {
    const Place at = places_.of(source, api::RateLimit::kNameFieldNumber);
    if (!is_label(source.name())) {
      diagnostics_.error(at, "the limit's name " + quoted(source.name()) + " is not valid",
                         "up to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit");
    }
    const auto [first, is_first] = lines_.emplace(source.name(), places_.of(source).line);
    if (is_first) return;
    diagnostics_.error(at, "limit " + quoted(source.name()) + " is given twice",
                       "the first one is in line " + std::to_string(first->second));
  }

  std::optional<Limit> compile(const api::RateLimit& source) {
    Limit out;
    out.name = source.name();
    out.rate_text = source.rate();
    if (source.has_endpoint() && !find_endpoint(source, out)) return std::nullopt;
    for (int i = 0; i < source.methods_size(); ++i) {
      if (!is_policy_method(source.methods(i))) {
        diagnostics_.error(places_.of(source, api::RateLimit::kMethodsFieldNumber, i),
                           "the limit's method " + quoted(source.methods(i)) + " is not valid",
                           "methods: [POST], say; leave methods out where all of them count");
      }
      out.methods.push_back(source.methods(i));
    }
    for (const std::string& action : source.actions()) out.actions.push_back(action);
    if (!source.actions().empty() && out.endpoint != nullptr &&
        out.endpoint->operations.protocol == action::Protocol::none) {
      diagnostics_.error(places_.of(source, api::RateLimit::kActionsFieldNumber),
                         "requests of endpoint " + quoted(out.endpoint->name) + " have no actions",
                         "give the endpoint operations, or leave actions out");
    }
    const auto rate = compile_rate(source);
    if (!rate) return std::nullopt;
    out.bucket = bucket_of(source.name(), *rate);
    return out;
  }

  bool find_endpoint(const api::RateLimit& source, Limit& out) {
    const Place at = places_.of(source, api::RateLimit::kEndpointFieldNumber);
    const auto found = std::ranges::find(endpoints_, source.endpoint(), &Endpoint::name);
    if (found == endpoints_.end()) {
      // One that could not be compiled has been complained of.
      if (std::ranges::find(given_, source.endpoint()) != given_.end()) return false;
      const std::string_view meant = did_you_mean(source.endpoint(), given_);
      diagnostics_.error(at, "endpoint " + quoted(source.endpoint()) + " is not defined",
                         meant.empty() ? "define it in spec.endpoints" : "did you mean " + quoted(meant) + "?");
      return false;
    }
    if (found->inspection == Inspection::none || found->protocol == Protocol::tcp) {
      diagnostics_.error(at, "what passes to endpoint " + quoted(found->name) + " is not read, so nothing is counted",
                         "limits need inspection: full and protocol: http");
    }
    out.endpoint = &*found;
    return true;
  }

  std::optional<rate::Rate> compile_rate(const api::RateLimit& source) {
    const auto read = rate::read_rate(source.rate());
    if (!read) {
      diagnostics_.error(places_.of(source, api::RateLimit::kRateFieldNumber),
                         "the rate " + quoted(source.rate()) + " is not valid", rate::rate_hint());
      return std::nullopt;
    }
    const bool good = !source.has_burst() || (source.burst() > 0 && source.burst() <= limits::kPolicyRateMax);
    if (!good) {
      diagnostics_.error(places_.of(source, api::RateLimit::kBurstFieldNumber),
                         "the burst " + std::to_string(source.burst()) + " is not valid",
                         "from 1 to " + std::to_string(limits::kPolicyRateMax));
      return std::nullopt;
    }
    const nanoseconds interval = read->unit / read->count;
    const auto of_a_second = static_cast<std::uint32_t>(std::chrono::seconds(1) / interval);
    return rate::Rate{interval, source.has_burst() ? source.burst() : std::max(of_a_second, 1U)};
  }

  std::shared_ptr<rate::Gcra> bucket_of(const std::string& name, const rate::Rate& rate) const {
    if (previous_ != nullptr) {
      const auto same = std::ranges::find(previous_->limits(), name, &Limit::name);
      if (same != previous_->limits().end() && same->bucket->rate() == rate) return same->bucket;
    }
    return std::make_shared<rate::Gcra>(rate);
  }

  const std::vector<Endpoint>& endpoints_;
  const Snapshot* const previous_;
  const Places& places_;
  Diagnostics& diagnostics_;
  std::vector<std::string_view> given_;  // names of endpoints
  std::map<std::string, int> lines_;     // of limits, by name
};

}  // namespace

bool Limit::has(const Endpoint* decided_by, std::string_view method, std::string_view action) const {
  if (endpoint != nullptr && endpoint != decided_by) return false;
  if (!methods.empty() && std::ranges::find(methods, method) == methods.end()) return false;
  return actions.empty() || std::ranges::find(actions, action) != actions.end();
}

std::vector<Limit> compile_limits(const api::EgressPolicySpec& source, const std::vector<Endpoint>& endpoints,
                                  const Snapshot* previous, const Places& places, Diagnostics& diagnostics) {
  return LimitCompiler(endpoints, previous, places, diagnostics).compile(source);
}

}  // namespace sallyport::document
