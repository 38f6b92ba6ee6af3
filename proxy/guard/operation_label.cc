#include "proxy/guard/operation_label.h"

#include <algorithm>
#include <vector>

#include "policy-engine/request/host.h"
#include "policy-engine/request/target.h"

namespace sallyport::guard {
namespace {

namespace api = sallyport::flow::v1alpha1;

std::uint16_t default_port(request::Scheme scheme) { return scheme == request::Scheme::https ? 443 : 80; }

std::string host_label(request::Scheme scheme, std::string_view authority) {
  return (scheme == request::Scheme::http ? "http://" : "") + std::string(authority);
}

document::QueryRule rule_of(const document::Endpoint* endpoint) {
  return endpoint == nullptr ? document::QueryRule::drop : endpoint->query;
}

// Clients make a GET of a POST that is answered so, and of everything for 303 (RFC 9110 sections 15.4.2 to 15.4.4).
std::string_view method_after(int status, std::string_view method) {
  if (status == 303) return method == "HEAD" ? "HEAD" : "GET";
  if ((status == 301 || status == 302) && method == "POST") return "GET";
  return method;
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// A reference as an absolute URL (RFC 3986 section 5.2); dot segments are left to the canonical form.
std::string resolved(std::string_view reference, const Route& route) {
  reference = reference.substr(0, reference.find('#'));
  const std::string scheme = route.scheme == request::Scheme::https ? "https:" : "http:";
  const std::size_t colon = reference.find_first_of(":/?");
  if (colon != std::string_view::npos && colon > 0 && reference[colon] == ':') return std::string(reference);
  if (reference.starts_with("//")) return scheme + std::string(reference);
  const std::string base = scheme + "//" + route.authority;
  if (reference.starts_with('/')) return base + std::string(reference);
  const std::string_view path = route.target.path();
  if (reference.empty()) return base + route.target.text;
  if (reference.starts_with('?')) return base + std::string(path) + std::string(reference);
  return base + std::string(path.substr(0, path.rfind('/') + 1)) + std::string(reference);
}

std::string authority_text(const request::Authority& authority, request::Scheme scheme) {
  const auto& address = authority.host.address;
  std::string out = address && !address->is_v4() ? "[" + authority.host.name + "]" : authority.host.name;
  const std::uint16_t port = authority.port.value_or(default_port(scheme));
  if (port != default_port(scheme)) out += ":" + std::to_string(port);
  return out;
}

}  // namespace

std::string query_label(std::string_view query, document::QueryRule rule) {
  switch (rule) {
    case document::QueryRule::drop:
      return {};
    case document::QueryRule::keep:
      return std::string(query);
    case document::QueryRule::sort:
      break;
  }
  std::vector<std::string_view> fields;
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    if (end > 0) fields.push_back(query.substr(0, end));
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  std::ranges::sort(fields);
  std::string out;
  for (const std::string_view field : fields) {
    if (!out.empty()) out += '&';
    out += field;
  }
  return out;
}

OperationLabel::OperationLabel(const Route& route, std::string_view method)
    : operation_{method, route.authority, route.target.path(), {}, route.action} {
  if (route.scheme == request::Scheme::http) operation_.host = host_ = host_label(route.scheme, route.authority);
  const document::QueryRule rule = rule_of(route.reading);
  if (rule != document::QueryRule::drop) operation_.query = query_ = query_label(route.target.query(), rule);
}

std::optional<api::Operation> redirect_of(const Route& route, std::string_view method,
                                          const request::ResponseHead& response) {
  if (!is_redirect(response.status) || response.headers.count("location") != 1) return std::nullopt;
  const std::string url = resolved(response.headers.find("location")->value, route);
  const auto absolute = request::split_absolute_form(url);
  if (!absolute) return std::nullopt;
  const bool https = request::name_equals(absolute->scheme, "https");
  const request::Scheme scheme = https ? request::Scheme::https : request::Scheme::http;
  const auto authority = request::parse_authority(absolute->authority);
  if (!authority) return std::nullopt;
  const document::Destination to{scheme, authority->host.name, authority->port.value_or(default_port(scheme))};
  const document::Endpoint* endpoint = route.policy->reading(to);
  const auto target =
      request::canonical_target(absolute->origin, endpoint == nullptr ? request::TargetOptions{} : endpoint->target);
  if (!target) return std::nullopt;
  api::Operation out;
  out.set_method(std::string(method_after(response.status, method)));
  out.set_host(host_label(scheme, authority_text(*authority, scheme)));
  out.set_path(std::string(target->path()));
  out.set_query(query_label(target->query(), rule_of(endpoint)));
  return out;
}

}  // namespace sallyport::guard
