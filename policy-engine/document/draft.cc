#include "policy-engine/document/draft.h"

#include <algorithm>

#include "base/limits.h"
#include "policy-engine/request/host.h"
#include "policy-engine/request/target.h"

namespace sallyport::document {

namespace {

// "any" would be every host, and a policy has no other way to write it.
bool can_be_host(const std::string& host) {
  if (host == "any") return false;
  const auto parsed = request::parse_host(host, false);
  return parsed && parsed->name == host;
}

bool is_canonical(const std::string& path, bool encoded_slashes) {
  if (path.find('?') != std::string::npos) return false;
  const auto target = request::canonical_target(path, {encoded_slashes, false});
  return target && target->path() == path;
}

}  // namespace

void Draft::add(const Observation& observation) {
  const bool opens_http = observation.tcp && (observation.port == 80 || observation.port == 443);
  const bool usable = !opens_http && observation.count > 0 && observation.port != 0 && can_be_host(observation.host) &&
                      (!observation.inspected || is_canonical(observation.path, true));
  if (!usable) {
    left_out_ += observation.count;
    return;
  }
  const auto key = std::pair(observation.host, observation.port);
  auto found = places_.find(key);
  if (found == places_.end()) {
    // Each place may become two endpoints, one for each scheme.
    if (endpoints_ + 2 > limits::kPolicyEndpointsMax) {
      left_out_ += observation.count;
      return;
    }
    endpoints_ += 2;
    found = places_.emplace(key, Place{}).first;
  }
  Place& place = found->second;
  if (observation.upstream) place.addresses.add(*observation.upstream);
  if (!observation.inspected) {
    place.uninspected += observation.count;
    if (observation.tcp) place.tcp += observation.count;
    return;
  }
  add_request(place.by_scheme[static_cast<std::size_t>(observation.scheme)], observation);
}

void Draft::add_request(Spoken& spoken, const Observation& observation) {
  spoken.count += observation.count;
  spoken.encoded_slashes |= !is_canonical(observation.path, false);
  const std::size_t before = spoken.paths.size();
  spoken.paths.add(observation.path, observation.method, observation.count);
  paths_ = paths_ - before + spoken.paths.size();
  if (paths_ > limits::kDraftPathsMax) bound_paths();
}

// Halves what each endpoint may keep until the whole is well under the limit, so that one shrink pays for many
// additions.
void Draft::bound_paths() {
  std::size_t paths_max = limits::kDraftPathsPerEndpointMax;
  while (paths_ > limits::kDraftPathsMax / 2 && paths_max > 1) {
    paths_max /= 2;
    paths_ = 0;
    for (auto& [key, place] : places_) {
      for (Spoken& spoken : place.by_scheme) {
        spoken.paths.shrink(paths_max);
        paths_ += spoken.paths.size();
      }
    }
  }
}

}  // namespace sallyport::document
