#include "controller/server/metrics.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>

#include "base/metrics_text.h"

namespace sallyport::controller {

std::string metrics_of(const std::vector<const Controller*>& controllers, std::optional<std::size_t> shards,
                       const LinkCounts& links) {
  MetricsText text;
  text.family("sallyport_controller_links", "gauge", "Connections of guards.");
  text.sample(links.open);
  text.family("sallyport_controller_links_refused_total", "counter", "Connections that did not become a guard's.");
  text.sample(links.refused);
  text.family("sallyport_controller_links_cut_total", "counter", "Connections that took nothing of what was sent.");
  text.sample(links.cut);
  text.family("sallyport_controller_store_up", "gauge", "Whether the store could be written last.");
  text.sample(std::ranges::all_of(controllers, &Controller::store_works) ? 1 : 0);
  if (shards) {
    text.family("sallyport_controller_shards", "gauge", "Shards that this controller has.");
    text.sample(*shards);
  }

  std::map<std::string, Tracker::Figures> figures;
  for (const Controller* const controller : controllers) {
    for (const std::string& name : controller->applications()) {
      if (const auto found = controller->figures(name)) figures[name] = *found;
    }
  }
  const auto each = [&](std::string_view name, std::string_view type, std::string_view help, auto value) {
    text.family(name, type, help);
    for (const auto& [application, of] : figures) text.sample(value(of), {{"application", application}});
  };
  using Figures = Tracker::Figures;
  each("sallyport_controller_executions", "gauge", "Executions that are tracked.",
       [](const Figures& of) { return of.executions; });
  each("sallyport_controller_flows", "gauge", "Flows that may still lead to executions.",
       [](const Figures& of) { return of.flows; });
  each("sallyport_controller_entries_waiting", "gauge", "Executions that wait for their predecessor.",
       [](const Figures& of) { return of.waiting; });
  each("sallyport_controller_entry_asks_total", "counter", "Messages that guards asked about.",
       [](const Figures& of) { return of.asks; });
  each("sallyport_controller_entry_refusals_total", "counter", "Messages that were refused.",
       [](const Figures& of) { return of.refused; });
  each("sallyport_controller_events_total", "counter", "Events that guards told.",
       [](const Figures& of) { return of.events; });

  text.family("sallyport_controller_instances", "gauge", "Running instances.");
  for (const Controller* const controller : controllers) {
    for (const std::string& application : controller->applications()) {
      for (const auto& function : controller->functions(application)) {
        text.sample(function.instances, {{"application", application}, {"function", function.name}});
      }
    }
  }
  text.family("sallyport_controller_alarms_total", "counter", "Alarms, by kind.");
  for (const Controller* const controller : controllers) {
    for (const auto& [key, count] : controller->alarm_counts()) {
      text.sample(count, {{"application", key.first}, {"kind", key.second}});
    }
  }
  return text.take();
}

}  // namespace sallyport::controller
