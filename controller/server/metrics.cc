#include "controller/server/metrics.h"

#include <map>
#include <string_view>
#include <utility>

namespace sallyport::controller {

namespace {

// Names of applications and functions need no escaping: they are labels by their form.
class Text {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    out_.append("# HELP sallyport_controller_").append(name).append(" ").append(help).append("\n");
    out_.append("# TYPE sallyport_controller_").append(name).append(" ").append(type).append("\n");
  }
  void sample(std::uint64_t value, std::string_view labels = {}) {
    out_.append("sallyport_controller_").append(name_);
    if (!labels.empty()) out_.append("{").append(labels).append("}");
    out_.append(" ").append(std::to_string(value)).append("\n");
  }
  std::string take() { return std::move(out_); }

 private:
  std::string_view name_;
  std::string out_;
};

std::string label(std::string_view name, std::string_view value) {
  return std::string(name) + "=\"" + std::string(value) + "\"";
}

}  // namespace

std::string metrics_of(const Controller& controller, const LinkCounts& links) {
  Text text;
  text.family("links", "gauge", "Connections of guards.");
  text.sample(links.open);
  text.family("links_refused_total", "counter", "Connections that did not become a guard's.");
  text.sample(links.refused);
  text.family("links_cut_total", "counter", "Connections that took nothing of what was sent.");
  text.sample(links.cut);
  text.family("store_up", "gauge", "Whether the store could be written last.");
  text.sample(controller.store_works() ? 1 : 0);

  std::map<std::string, Tracker::Figures> figures;
  for (const std::string& name : controller.applications()) {
    if (const auto found = controller.figures(name)) figures[name] = *found;
  }
  const auto each = [&](std::string_view name, std::string_view type, std::string_view help, auto value) {
    text.family(name, type, help);
    for (const auto& [application, of] : figures) text.sample(value(of), label("application", application));
  };
  using Figures = Tracker::Figures;
  each("executions", "gauge", "Executions that are tracked.", [](const Figures& of) { return of.executions; });
  each("flows", "gauge", "Flows that may still lead to executions.", [](const Figures& of) { return of.flows; });
  each("entries_waiting", "gauge", "Executions that wait for their predecessor.",
       [](const Figures& of) { return of.waiting; });
  each("entry_asks_total", "counter", "Messages that guards asked about.", [](const Figures& of) { return of.asks; });
  each("entry_refusals_total", "counter", "Messages that were refused.", [](const Figures& of) { return of.refused; });
  each("events_total", "counter", "Events that guards told.", [](const Figures& of) { return of.events; });

  text.family("instances", "gauge", "Running instances.");
  for (const auto& [application, of] : figures) {
    for (const auto& function : controller.functions(application)) {
      text.sample(function.instances, label("application", application) + "," + label("function", function.name));
    }
  }
  text.family("alarms_total", "counter", "Alarms, by kind.");
  for (const auto& [key, count] : controller.alarm_counts()) {
    text.sample(count, label("application", key.first) + "," + label("kind", key.second));
  }
  return text.take();
}

}  // namespace sallyport::controller
