#include "policy-engine/document/inbound_compiler.h"

#include <algorithm>
#include <string>

#include "base/limits.h"
#include "policy-engine/document/names.h"
#include "policy-engine/request/target.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;

Inbound::Probe compile_probe(const api::Probe& source, const Places& places, Diagnostics& diagnostics) {
  Inbound::Probe probe;
  const Place at = places.of(source, api::Probe::kPathFieldNumber);
  const auto canonical = request::canonical_target(source.path(), {});
  if (!source.path().starts_with('/') || !canonical) {
    diagnostics.error(at, "the probe's path " + quoted(source.path()) + " is not valid",
                      canonical ? "it must begin with \"/\"" : canonical.error().text);
  } else if (canonical->text != source.path()) {
    diagnostics.error(at, "the probe's path " + quoted(source.path()) + " is not canonical, and no request has it",
                      "write it as " + quoted(canonical->text));
  } else if (canonical->path_size != canonical->text.size()) {
    diagnostics.error(at, "the probe's path " + quoted(source.path()) + " has a query",
                      "only paths are compared: leave it out");
  }
  probe.path = source.path();
  for (int i = 0; i < source.methods_size(); ++i) {
    if (!is_policy_method(source.methods(i))) {
      diagnostics.error(places.of(source, api::Probe::kMethodsFieldNumber, i),
                        "the probe's method " + quoted(source.methods(i)) + " is not valid", "methods: [GET], say");
    }
    probe.methods.push_back(source.methods(i));
  }
  return probe;
}

}  // namespace

Inbound compile_inbound(const api::Inbound& source, const Places& places, Diagnostics& diagnostics) {
  Inbound made;
  made.fresh_traces_sampled = source.fresh_trace() != api::FRESH_TRACE_UNSAMPLED;
  if (static_cast<std::size_t>(source.probes_size()) > limits::kInboundProbesMax) {
    diagnostics.error(places.of(source, api::Inbound::kProbesFieldNumber),
                      "there are more than " + std::to_string(limits::kInboundProbesMax) + " probes");
    return made;
  }
  for (const api::Probe& probe : source.probes()) {
    if (!places.broken(probe)) made.probes.push_back(compile_probe(probe, places, diagnostics));
  }
  return made;
}

}  // namespace sallyport::document
