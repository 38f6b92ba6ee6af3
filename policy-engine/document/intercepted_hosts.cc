#include "policy-engine/document/intercepted_hosts.h"

#include <set>
#include <string_view>

#include "policy-engine/request/address.h"

namespace sallyport::document {
namespace {

bool is_below_another(std::string_view host, const std::set<std::string, std::less<>>& hosts) {
  if (request::IpAddress::parse(std::string(host))) return false;
  for (std::size_t dot = host.find('.'); dot != std::string_view::npos; dot = host.find('.')) {
    host.remove_prefix(dot + 1);
    if (hosts.contains(host)) return true;
  }
  return false;
}

}  // namespace

std::optional<std::vector<std::string>> intercepted_hosts(const Snapshot& policy) {
  if (policy.mode() != Mode::enforce) return std::nullopt;
  std::set<std::string, std::less<>> hosts;
  for (const Endpoint& endpoint : policy.endpoints()) {
    const bool ended = endpoint.scheme == request::Scheme::https && endpoint.inspection == Inspection::full &&
                       endpoint.protocol == Protocol::http;
    if (!ended) continue;
    if (endpoint.host_pattern == "any") return std::nullopt;
    hosts.insert(endpoint.host_pattern.starts_with("*.") ? endpoint.host_pattern.substr(2) : endpoint.host_pattern);
  }
  std::vector<std::string> out;
  for (const std::string& host : hosts) {
    if (!is_below_another(host, hosts)) out.push_back(host);
  }
  return out;
}

}  // namespace sallyport::document
