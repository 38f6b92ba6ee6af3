#include "policy-engine/flow/application_graph_check.h"

#include <algorithm>

#include "base/limits.h"
#include "policy-engine/document/did_you_mean.h"
#include "policy-engine/document/names.h"
#include "policy-engine/flow/application_graph_document.h"
#include "policy-engine/flow/document_header.h"
#include "policy-engine/flow/pattern_sample.h"

namespace sallyport::flow {

namespace {

namespace api = v1alpha1;
using document::Place;
using document::quoted;

// Told from two samples of each: enough to find what a person mixes up. What it does not see does no harm, as of
// several patterns the most specific alone gets a flow.
bool share_requests(const Pattern& a, const Pattern& b) {
  for (const bool second : {false, true}) {
    const Sample of_a(a, second), of_b(b, second);
    if (b.matches(of_a.operation()) || a.matches(of_b.operation())) return true;
  }
  return false;
}

std::string in_line(const Place& place) {
  return place.line > 0 ? "in line " + std::to_string(place.line) : "there already";
}

}  // namespace

void ApplicationGraphChecker::check() {
  check_document_header(
      {document_, document_.api_version(), document_.kind(), document_.metadata(), kApplicationGraphKind}, places_,
      diagnostics_, written_);
  if (!document_.has_spec() || !check_size()) return;
  check_application();
  check_names();
  for (const api::ApplicationFunction& function : document_.spec().functions()) check_function(function);
  check_reached();
}

bool ApplicationGraphChecker::check_size() {
  const api::ApplicationGraphSpec& spec = document_.spec();
  std::size_t edges = 0;
  for (const api::ApplicationFunction& function : spec.functions()) {
    edges += static_cast<std::size_t>(function.after_size());
  }
  const Place place = places_.of(spec, api::ApplicationGraphSpec::kFunctionsFieldNumber);
  if (static_cast<std::size_t>(spec.functions_size()) > limits::kApplicationFunctionsMax) {
    diagnostics_.error(
        place, "the application has more than " + std::to_string(limits::kApplicationFunctionsMax) + " functions");
    return false;
  }
  if (edges > limits::kApplicationEdgesMax) {
    diagnostics_.error(
        place, "the application has more than " + std::to_string(limits::kApplicationEdgesMax) + " predecessors");
    return false;
  }
  if (!written_ && spec.functions_size() == 0) diagnostics_.error({}, "the application has no functions");
  return true;
}

void ApplicationGraphChecker::check_application() {
  const api::ApplicationGraphSpec& spec = document_.spec();
  const std::string& name = spec.has_application() ? spec.application() : document_.metadata().name();
  const bool there = spec.has_application() || !name.empty();
  if (!there || (document::is_label(name) && name.size() <= limits::kTagApplicationBytesMax)) return;
  diagnostics_.error(spec.has_application() ? places_.of(spec, api::ApplicationGraphSpec::kApplicationFieldNumber)
                                            : places_.of(document_.metadata()),
                     "tags cannot name the application " + quoted(name),
                     "give 'application' up to " + std::to_string(limits::kTagApplicationBytesMax) +
                         " of a-z, 0-9, '.', '_' and '-', with a letter or digit at both ends");
}

void ApplicationGraphChecker::check_names() {
  const auto& functions = document_.spec().functions();
  for (int i = 0; i < functions.size(); ++i) {
    constexpr int kName = api::ApplicationFunction::kNameFieldNumber;
    if (written_ && !places_.given(functions[i], kName)) continue;  // it has been said
    const std::string& name = functions[i].name();
    if (!document::is_subdomain(name)) {
      diagnostics_.error(places_.of(functions[i], kName), "the name " + quoted(name) + " of a function is not valid",
                         kSubdomainHint);
    }
    const auto [found, first] = names_.emplace(name, static_cast<std::size_t>(i));
    if (first) continue;
    diagnostics_.error(places_.of(functions[i], kName), "two functions are named " + quoted(name),
                       "the first one is " + in_line(places_.of(functions[static_cast<int>(found->second)], kName)));
  }
}

void ApplicationGraphChecker::check_function(const api::ApplicationFunction& function) {
  if (function.has_instances_max() && function.instances_max() == 0) {
    diagnostics_.error(places_.of(function, api::ApplicationFunction::kInstancesMaxFieldNumber),
                       "no instance of " + quoted(function.name()) + " may run",
                       "remove the function, or the field where there is no limit");
  }
  direct_.clear();
  through_.clear();
  for (const api::Predecessor& source : function.after()) check_predecessor(function, source);
  for (const auto& [from, edges] : through_) check_overlaps(edges, from, function.name());
}

void ApplicationGraphChecker::check_predecessor(const api::ApplicationFunction& function,
                                                const api::Predecessor& source) {
  check_name_of(source, function.name());
  if (places_.broken(source)) return;
  if (source.has_through()) {
    check_through(source, function.name());
  } else {
    const Place place = places_.of(source, api::Predecessor::kFunctionFieldNumber);
    const auto [found, first] = direct_.emplace(source.function(), place);
    if (!first) {
      diagnostics_.error(place, quoted(source.function()) + " leads to " + quoted(function.name()) + " twice",
                         "it is " + in_line(found->second));
    }
    if (source.has_action()) {
      diagnostics_.error(places_.of(source, api::Predecessor::kActionFieldNumber),
                         "'action' stands beside 'through' only",
                         "say through what " + quoted(source.function()) + " leads to it, or remove the field");
    }
  }
  check_numbers(source);
}

void ApplicationGraphChecker::check_name_of(const api::Predecessor& source, const std::string& to) {
  constexpr int kFunction = api::Predecessor::kFunctionFieldNumber;
  if (written_ && !places_.given(source, kFunction)) {
    dangling_ = true;
    return;
  }
  const auto from = names_.find(source.function());
  const auto at = names_.find(to);
  if (from != names_.end()) {
    if (at != names_.end()) leads_to_[from->second].push_back(at->second);
    return;
  }
  dangling_ = true;
  std::vector<std::string_view> known;
  for (const auto& [name, index] : names_) known.emplace_back(name);
  const std::string_view meant = document::did_you_mean(source.function(), known);
  diagnostics_.error(places_.of(source, kFunction),
                     "there is no function " + quoted(source.function()) + ", which would lead to " + quoted(to),
                     meant.empty() ? "add it to 'functions'" : "did you mean " + quoted(meant) + "?");
}

void ApplicationGraphChecker::check_through(const api::Predecessor& source, const std::string& to) {
  const Place place = places_.of(source, api::Predecessor::kThroughFieldNumber);
  if (source.action().size() > limits::kActionBytesMax || document::printable(source.action()) != source.action()) {
    diagnostics_.error(places_.of(source, api::Predecessor::kActionFieldNumber),
                       "the action " + quoted(source.action()) + " is not valid",
                       "at most " + std::to_string(limits::kActionBytesMax) + " bytes without control characters");
  }
  auto pattern = parse_pattern(source.through(), source.action());
  if (!pattern) {
    diagnostics_.error(place, quoted(source.through()) + " is no pattern, " + pattern.error().text);
    return;
  }
  if (is_anybodys(*pattern)) {
    diagnostics_.warning(place, quoted(source.through()) + " stands for hosts of anybody",
                         "what is sent there lets " + quoted(to) + " begin: write out the last two labels of the host");
  }
  through_[source.function()].push_back({place, std::move(*pattern)});
}

void ApplicationGraphChecker::check_overlaps(const std::vector<Edge>& edges, const std::string& from,
                                             const std::string& to) {
  for (std::size_t i = 0; i < edges.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (!share_requests(edges[i].pattern, edges[j].pattern)) continue;
      const bool same = edges[i].pattern.to_string() == edges[j].pattern.to_string();
      diagnostics_.error(edges[i].place,
                         quoted(from) + " leads to " + quoted(to) +
                             (same ? " through this twice" : " through two patterns that share requests"),
                         "the other one is " + in_line(edges[j].place) +
                             (same ? "" : "; which executions a request leads to must not depend on two of them"));
      break;
    }
  }
}

void ApplicationGraphChecker::check_numbers(const api::Predecessor& source) {
  using P = api::Predecessor;
  if (source.has_leads_to()) {
    if (const auto times = parse_times(source.leads_to()); !times) {
      diagnostics_.error(places_.of(source, P::kLeadsToFieldNumber),
                         quoted(source.leads_to()) + " is no number of executions", times.error().text);
    }
  }
  if (source.redeliveries() > limits::kRedeliveriesMax) {
    diagnostics_.error(places_.of(source, P::kRedeliveriesFieldNumber),
                       "'redeliveries' is at most " + std::to_string(limits::kRedeliveriesMax));
  }
  if (source.has_redelivery_window() && source.redeliveries() == 0) {
    diagnostics_.warning(places_.of(source, P::kRedeliveryWindowFieldNumber),
                         "'redeliveryWindow' has no effect without 'redeliveries'", "say how many there may be");
  }
  check_time(source, P::kRedeliveryWindowFieldNumber, source.has_redelivery_window(), source.redelivery_window());
  check_time(source, P::kWithinFieldNumber, source.has_within(), source.within());
}

void ApplicationGraphChecker::check_time(const api::Predecessor& source, int field, bool given,
                                         const std::string& text) {
  if (!given) return;
  if (const auto time = parse_time_span(text); !time) {
    diagnostics_.error(places_.of(source, field), quoted(text) + " is no length of time", time.error().text);
  }
}

// A function that is no entry, and that no entry leads to, would only ever be refused.
void ApplicationGraphChecker::check_reached() {
  if (dangling_) return;  // what the edge was meant to come from would be reported, too
  const auto& functions = document_.spec().functions();
  std::vector<bool> begins(static_cast<std::size_t>(functions.size()));
  std::vector<std::size_t> open;
  for (int i = 0; i < functions.size(); ++i) {
    if (functions[i].entry()) open.push_back(static_cast<std::size_t>(i));
  }
  while (!open.empty()) {
    const std::size_t at = open.back();
    open.pop_back();
    if (begins[at]) continue;
    begins[at] = true;
    if (const auto found = leads_to_.find(at); found != leads_to_.end()) {
      open.insert(open.end(), found->second.begin(), found->second.end());
    }
  }
  for (int i = 0; i < functions.size(); ++i) {
    const auto found = names_.find(functions[i].name());
    const bool first = found != names_.end() && found->second == static_cast<std::size_t>(i);
    if (begins[static_cast<std::size_t>(i)] || !first) continue;
    diagnostics_.error(places_.of(functions[i], api::ApplicationFunction::kNameFieldNumber),
                       "nothing can begin " + quoted(functions[i].name()),
                       functions[i].after_size() == 0 ? "write 'entry: true', or what it comes 'after'"
                                                      : "none of those that it comes after can begin: write 'entry: "
                                                        "true' where messages come from outside");
  }
}

}  // namespace sallyport::flow
