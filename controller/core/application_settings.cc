#include "controller/core/application_settings.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/message_reader.h"
#include "policy-engine/document/names.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/yaml_tree.h"
#include "policy-engine/flow/application_graph.h"
#include "policy-engine/flow/document_header.h"
#include "policy-engine/flow/pattern.h"
#include "policy-engine/rate/rate_text.h"

namespace sallyport::controller {

namespace {

namespace api = v1alpha1;
using document::quoted;

v1alpha1::Limit limit_of(const api::SharedLimit& source) {
  v1alpha1::Limit out;
  out.set_name(source.name());
  out.set_endpoint(source.endpoint());
  for (const std::string& request : source.requests()) out.add_operations()->set_request(request);
  const auto rate = rate::read_rate(source.rate());
  const double per_second =
      rate ? rate->count / std::chrono::duration<double>(rate->unit).count() : 0;  // it has been checked
  out.set_per_second(per_second);
  out.set_burst(source.has_burst() ? source.burst() : std::max(per_second, 1.0));
  const bool each = source.scope() == api::SHARED_SCOPE_FUNCTION;
  out.set_scope(each ? v1alpha1::LIMIT_SCOPE_FUNCTION : v1alpha1::LIMIT_SCOPE_APPLICATION);
  return out;
}

v1alpha1::EntryCheck entry_check_of(api::EntryChecks checks) {
  switch (checks) {
    case api::ENTRY_CHECKS_NONE:
      return v1alpha1::ENTRY_CHECK_NONE;
    case api::ENTRY_CHECKS_UNTAGGED:
      return v1alpha1::ENTRY_CHECK_UNTAGGED;
    case api::ENTRY_CHECKS_ALWAYS:
      return v1alpha1::ENTRY_CHECK_ALWAYS;
    default:
      return v1alpha1::ENTRY_CHECK_UNSPECIFIED;
  }
}

class SettingsChecker {
 public:
  SettingsChecker(const api::Application& document, const document::Places& places, document::Diagnostics& diagnostics)
      : document_(document), places_(places), diagnostics_(diagnostics) {}

  void check(const std::string& application) {
    flow::check_document_header(
        {document_, document_.api_version(), document_.kind(), document_.metadata(), "Application"}, places_,
        diagnostics_, true);
    if (!document_.metadata().name().empty() && document_.metadata().name() != application) {
      diagnostics_.error(places_.of(document_.metadata(), policy::v1alpha1::Metadata::kNameFieldNumber),
                         "these are settings of the application " + quoted(document_.metadata().name()),
                         "this one is " + quoted(application));
    }
    const api::ApplicationSpec& spec = document_.spec();
    if (static_cast<std::size_t>(spec.limits_size()) > limits::kPolicyLimitsMax ||
        static_cast<std::size_t>(spec.functions_size()) > limits::kApplicationFunctionsMax) {
      diagnostics_.error(places_.of(spec), "more than " + std::to_string(limits::kApplicationFunctionsMax) +
                                               " functions or " + std::to_string(limits::kPolicyLimitsMax) + " limits");
      return;
    }
    for (const api::FunctionSettings& function : spec.functions()) {
      check_name(function, api::FunctionSettings::kNameFieldNumber, function.name(), functions_, "function");
      check_accounts(function);
    }
    for (const api::SharedLimit& limit : spec.limits()) check_limit(limit);
    if (spec.has_lifetime()) check_lifetime(api::ApplicationSpec::kLifetimeFieldNumber, spec.lifetime(), {});
    if (!spec.has_certificate_lifetime()) return;
    check_lifetime(api::ApplicationSpec::kCertificateLifetimeFieldNumber, spec.certificate_lifetime(),
                   limits::kGuardCertificateLifetimeMin);
  }

 private:
  using Lines = std::map<std::string, int>;

  void check_name(const google::protobuf::Message& message, int field, const std::string& name, Lines& lines,
                  const std::string& what) {
    if (name.empty() && !places_.given(message, field)) return;  // it has been said
    const document::Place at = places_.of(message, field);
    if (!document::is_label(name)) {
      diagnostics_.error(at, "the " + what + "'s name " + quoted(name) + " is not valid",
                         "up to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit");
    }
    const auto [first, is_first] = lines.emplace(name, at.line);
    if (is_first) return;
    diagnostics_.error(at, what + " " + quoted(name) + " is given twice",
                       "the first one is in line " + std::to_string(first->second));
  }

  void check_accounts(const api::FunctionSettings& function) {
    constexpr int kField = api::FunctionSettings::kServiceAccountsFieldNumber;
    if (static_cast<std::size_t>(function.service_accounts_size()) > limits::kServiceAccountsMax) {
      diagnostics_.error(places_.of(function, kField), "there are too many service accounts",
                         "at most " + std::to_string(limits::kServiceAccountsMax));
    }
    for (int i = 0; i < function.service_accounts_size(); ++i) {
      const std::string& account = function.service_accounts(i);
      const std::size_t slash = account.find('/');
      const bool good = slash != account.npos && document::is_label(account.substr(0, slash)) &&
                        document::is_subdomain(account.substr(slash + 1));
      if (good) continue;
      diagnostics_.error(places_.of(function, kField, i), "the service account " + quoted(account) + " is not valid",
                         "NAMESPACE/NAME");
    }
  }

  void check_lifetime(int field, const std::string& text, std::chrono::seconds least) {
    const auto lifetime = flow::parse_time_span(text);
    if (lifetime && *lifetime >= least) return;
    diagnostics_.error(places_.of(document_.spec(), field), "the lifetime " + quoted(text) + " is not valid",
                       lifetime ? "at least " + std::to_string(least.count()) + "s" : lifetime.error().text);
  }

  void check_limit(const api::SharedLimit& limit) {
    check_name(limit, api::SharedLimit::kNameFieldNumber, limit.name(), limits_, "limit");
    if (places_.broken(limit)) return;
    if (!rate::read_rate(limit.rate())) {
      diagnostics_.error(places_.of(limit, api::SharedLimit::kRateFieldNumber),
                         "the rate " + quoted(limit.rate()) + " is not valid", rate::rate_hint());
    }
    if (limit.has_burst() && (limit.burst() == 0 || limit.burst() > limits::kPolicyRateMax)) {
      diagnostics_.error(places_.of(limit, api::SharedLimit::kBurstFieldNumber),
                         "the burst " + std::to_string(limit.burst()) + " is not valid",
                         "from 1 to " + std::to_string(limits::kPolicyRateMax));
    }
    for (int i = 0; i < limit.requests_size(); ++i) {
      const auto pattern = flow::parse_pattern(limit.requests(i), {});
      if (pattern) continue;
      diagnostics_.error(places_.of(limit, api::SharedLimit::kRequestsFieldNumber, i), pattern.error().text);
    }
  }

  const api::Application& document_;
  const document::Places& places_;
  document::Diagnostics& diagnostics_;
  Lines functions_, limits_;
};

}  // namespace

ApplicationSettings::ApplicationSettings(const v1alpha1::Application& document) : document_(document) {
  if (document.spec().has_certificate_lifetime()) {
    const auto span = flow::parse_time_span(document.spec().certificate_lifetime());
    if (span) certificate_lifetime_ = std::chrono::ceil<std::chrono::seconds>(*span);
  }
  if (!document.spec().has_lifetime()) return;
  const auto lifetime = flow::parse_time_span(document.spec().lifetime());
  // Rounded up: nothing would be as long as the process lives.
  if (lifetime) lifetime_s_ = static_cast<std::uint32_t>(std::chrono::ceil<std::chrono::seconds>(*lifetime).count());
}

FunctionSettings ApplicationSettings::of(std::string_view function) const {
  FunctionSettings out;
  for (const v1alpha1::FunctionSettings& source : document_.spec().functions()) {
    if (source.name() != function) continue;
    out.entry_check = entry_check_of(source.entry_checks());
    if (source.on_controller_loss() == v1alpha1::CONTROLLER_LOSS_ALLOW_AND_RECORD) {
      out.on_controller_loss = v1alpha1::ON_CONTROLLER_LOSS_ALLOW_AND_RECORD;
    }
  }
  return out;
}

bool ApplicationSettings::believes(std::string_view function, std::string_view account) const {
  return std::ranges::any_of(document_.spec().functions(), [&](const v1alpha1::FunctionSettings& each) {
    return each.name() == function &&
           std::ranges::find(each.service_accounts(), account) != each.service_accounts().end();
  });
}

std::vector<v1alpha1::Limit> ApplicationSettings::limits_of(std::string_view function) const {
  std::vector<v1alpha1::Limit> out;
  for (const v1alpha1::SharedLimit& limit : document_.spec().limits()) {
    const auto& functions = limit.functions();
    if (functions.empty() || std::ranges::find(functions, function) != functions.end()) out.push_back(limit_of(limit));
  }
  return out;
}

std::vector<ApplicationSettings::Limit> ApplicationSettings::limits() const {
  std::vector<Limit> out;
  for (const v1alpha1::SharedLimit& limit : document_.spec().limits()) {
    out.push_back({limit_of(limit), {limit.functions().begin(), limit.functions().end()}});
  }
  return out;
}

ApplicationSettingsLoad load_application_settings(std::string_view yaml, const std::string& file,
                                                  const std::string& application) {
  document::Diagnostics diagnostics(file);
  ApplicationSettingsLoad load;
  v1alpha1::Application document;
  document::Places places;  // they know the messages by their addresses
  if (const auto tree = document::parse_yaml(yaml, diagnostics)) {
    document::read_message(*tree, document, places, diagnostics);
    SettingsChecker(document, places, diagnostics).check(application);
    if (!diagnostics.has_errors()) load.settings.emplace(document);
  }
  load.diagnostics = diagnostics.take();
  return load;
}

std::string blank_application_settings(const std::string& application) {
  return "apiVersion: sallyport.dev/v1alpha1\nkind: Application\nmetadata:\n  name: " + application + "\n";
}

}  // namespace sallyport::controller
