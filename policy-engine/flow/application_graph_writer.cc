// ApplicationGraph → YAML.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "policy-engine/flow/application_graph_document.h"
#include "policy-engine/flow/yaml_scalar.h"

namespace sallyport::flow {

namespace {

namespace api = v1alpha1;

// Breadth first from the entries, by name where several could come next; what nothing leads to comes last.
std::vector<const api::ApplicationFunction*> ordered(const api::ApplicationGraphSpec& spec) {
  std::map<std::string, const api::ApplicationFunction*> rest;
  std::map<std::string, std::set<std::string>> next;
  std::set<std::string> front;
  for (const api::ApplicationFunction& function : spec.functions()) {
    rest.emplace(function.name(), &function);
    if (function.entry()) front.insert(function.name());
    for (const api::Predecessor& source : function.after()) next[source.function()].insert(function.name());
  }
  std::vector<const api::ApplicationFunction*> out;
  while (!front.empty()) {
    std::set<std::string> behind;
    for (const std::string& name : front) {
      const auto found = rest.find(name);
      if (found == rest.end()) continue;
      out.push_back(found->second);
      rest.erase(found);
      behind.insert(next[name].begin(), next[name].end());
    }
    front = std::move(behind);
  }
  for (const auto& [name, function] : rest) out.push_back(function);
  return out;
}

class Writer {
 public:
  std::string write(const api::ApplicationGraph& document) {
    line("", "apiVersion", scalar(document.api_version(), false));
    line("", "kind", scalar(document.kind(), false));
    out_ += "metadata:\n";
    line("  ", "name", scalar(document.metadata().name(), false));
    out_ += "spec:\n";
    const api::ApplicationGraphSpec& spec = document.spec();
    if (spec.has_application()) line("  ", "application", scalar(spec.application(), false));
    if (spec.has_executions()) line("  ", "executions", std::to_string(spec.executions()));
    out_ += "  functions:\n";
    for (const api::ApplicationFunction* function : ordered(spec)) write(*function);
    return std::move(out_);
  }

 private:
  void line(const std::string& indent, const std::string& name, const std::string& value) {
    out_.append(indent).append(name).append(": ").append(value).append(1, '\n');
  }

  void write(const api::ApplicationFunction& function) {
    line("  ", "- name", scalar(function.name(), false));
    if (function.has_entry()) line("    ", "entry", function.entry() ? "true" : "false");
    if (function.after_size() > 0) out_ += "    after:\n";
    for (const api::Predecessor& source : function.after()) write(source);
    if (function.has_instances_max()) line("    ", "instancesMax", std::to_string(function.instances_max()));
  }

  void write(const api::Predecessor& source) {
    const std::string in = "      ";
    line("    ", "- function", scalar(source.function(), false));
    if (source.has_through()) line(in, "through", scalar(source.through(), false));
    if (source.has_action()) line(in, "action", scalar(source.action(), false));
    if (source.has_leads_to()) {
      const bool digits = source.leads_to().find_first_not_of("0123456789") == std::string::npos;
      line(in, "leadsTo", digits ? source.leads_to() : scalar(source.leads_to(), false));
    }
    if (source.has_redeliveries()) line(in, "redeliveries", std::to_string(source.redeliveries()));
    if (source.has_redelivery_window()) line(in, "redeliveryWindow", scalar(source.redelivery_window(), false));
    if (source.has_within()) line(in, "within", scalar(source.within(), false));
    if (source.has_support()) line(in, "support", std::to_string(source.support()));
  }

  std::string out_;
};

}  // namespace

std::string write_application_graph(const api::ApplicationGraph& document) { return Writer().write(document); }

}  // namespace sallyport::flow
