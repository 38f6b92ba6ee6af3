// Any bytes as a policy: load_policy ends with a snapshot or with an error at a place in the file, and a snapshot keeps
// its promises for any request.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "policy-engine/credentials/binding.h"
#include "policy-engine/document/evaluate.h"
#include "policy-engine/document/load.h"
#include "tests/fuzz/diagnostics.h"
#include "tests/fuzz/require.h"

namespace {

using namespace sallyport;
using document::Destination;
using document::Snapshot;
using fuzz::require;

void check_decisions(const Snapshot& snapshot, const Destination& destination) {
  const auto connection = snapshot.decide_connection(destination);
  require((connection.action == document::ConnectionAction::deny) == (connection.reason != Reason::none),
          "a denial of a connection has a reason");
  if (connection.endpoint != nullptr) require(snapshot.resolves(destination.host), "an allowed host can be looked up");
  for (const char* method : {"GET", "PURGE"}) {
    for (const char* path : {"/", "/a", "/a/b", "/v1/users/7"}) {
      const auto decision = snapshot.decide_request(destination, method, path);
      require(decision.allowed == (decision.reason == Reason::none), "a denial of a request has a reason");
      require(!decision.allowed || connection.action != document::ConnectionAction::deny,
              "no request passes where the connection does not");
      require(decision.allowed == snapshot.explain(decision, destination, method, path).empty(),
              "every denial is explained");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto result = document::load_policy(text, "fuzz.yaml", nullptr);
  fuzz::check_diagnostics(result.diagnostics, result.snapshot != nullptr, text);
  if (result.snapshot == nullptr) return 0;
  const Snapshot& snapshot = *result.snapshot;
  for (const document::Endpoint& endpoint : snapshot.endpoints()) {
    std::string host = endpoint.host_pattern;
    if (host.starts_with("*.")) host[0] = 'x';
    const std::uint16_t port = endpoint.any_port ? std::uint16_t{443} : endpoint.ports[0];
    check_decisions(snapshot, {endpoint.scheme, host, port});
    require(snapshot.resolves(host), "the host of an endpoint can be looked up");
    require(snapshot.decide_connection({endpoint.scheme, host, port}).action != document::ConnectionAction::deny ||
                endpoint.inspection == document::Inspection::none,
            "an endpoint allows connections to itself");
    if (endpoint.credential != nullptr) require(!endpoint.credential->placeholder.empty(), "a placeholder is there");
  }
  check_decisions(snapshot, {request::Scheme::https, "example.com", 443});
  check_decisions(snapshot, {request::Scheme::http, "192.0.2.1", 80});
  return 0;
}
