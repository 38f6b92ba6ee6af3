#include "policy-engine/document/host_pattern.h"

#include <algorithm>
#include <utility>

#include "policy-engine/document/diagnostics.h"
#include "policy-engine/request/host.h"

namespace sallyport::document {

namespace {

std::optional<HostPattern> refuse(HostPatternError& error, std::string message, std::string hint) {
  error = {std::move(message), std::move(hint)};
  return std::nullopt;
}

std::optional<HostPattern> parse_wildcard(std::string_view text, HostPatternError& error) {
  const std::string_view rest = text.substr(2);
  if (rest.find('*') != std::string_view::npos) {
    return refuse(error, "the host " + quoted(text) + " has more than one *", "write *.example.com");
  }
  auto host = request::parse_host(rest, false);
  if (!host) return refuse(error, "the host " + quoted(text) + " is not valid: " + host.error().text, {});
  if (host->address) {
    return refuse(error, "the host " + quoted(text) + " has a wildcard before an address", "write the address alone");
  }
  if (host->name.find('.') == std::string::npos) {
    return refuse(error, "the host " + quoted(text) + " would cover a whole top-level domain",
                  "at least two labels must follow the *, as in *.example.com");
  }
  return HostPattern{HostPattern::Kind::wildcard, "*." + host->name, std::nullopt};
}

// What people paste instead of a host.
std::string hint_for(std::string_view text) {
  if (const std::size_t scheme = text.find("://"); scheme != std::string_view::npos) {
    const std::string_view rest = text.substr(scheme + 3);
    return "write the host alone, " + quoted(rest.substr(0, rest.find_first_of("/:?#"))) +
           "; ports and paths have their own fields";
  }
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    return "write the host alone, " + quoted(text.substr(0, slash)) + "; paths belong to the rules";
  }
  if (text.starts_with('[') && text.ends_with(']')) return "write the address without brackets";
  if (std::ranges::count(text, ':') == 1) {
    const std::size_t colon = text.find(':');
    return "write host: " + std::string(text.substr(0, colon)) + " and ports: [" + std::string(text.substr(colon + 1)) +
           "]";
  }
  return {};
}

}  // namespace

std::optional<HostPattern> parse_host_pattern(std::string_view text, HostPatternError& error) {
  if (text == "any") return HostPattern{HostPattern::Kind::any, "any", std::nullopt};
  if (text == "*") return refuse(error, "the host '*' is not allowed", "write any for every host, or *.example.com");
  if (text.starts_with("*.")) return parse_wildcard(text, error);
  if (text.find('*') != std::string_view::npos) {
    return refuse(error, "in the host " + quoted(text) + " the * does not stand for whole labels",
                  "a * may only be the first label, as in *.example.com");
  }
  auto host = request::parse_host(text, false);
  if (!host) {
    std::string hint = hint_for(text);
    // What else stands there says more than the first byte that a host cannot have.
    if (!hint.empty()) return refuse(error, quoted(text) + " is not a host", std::move(hint));
    return refuse(error, "the host " + quoted(text) + " is not valid: " + host.error().text, {});
  }
  return HostPattern{HostPattern::Kind::exact, std::move(host->name), host->address};
}

}  // namespace sallyport::document
