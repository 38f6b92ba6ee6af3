#include "proxy/net/dns_responder.h"

#include <charconv>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "policy-engine/request/host.h"

namespace sallyport::net {
namespace {

constexpr std::uint16_t kClassInternet = 1;
constexpr std::string_view kReverseV4 = "in-addr.arpa";
constexpr std::string_view kReverseV6 = "ip6.arpa";

bool is_at_or_under(std::string_view name, std::string_view zone) {
  if (!name.ends_with(zone)) return false;
  return name.size() == zone.size() || name[name.size() - zone.size() - 1] == '.';
}

std::vector<std::string_view> labels_before(std::string_view name, std::string_view zone) {
  std::vector<std::string_view> labels;
  std::string_view rest = name.substr(0, name.size() - zone.size());
  while (!rest.empty()) {
    const std::size_t dot = rest.find('.');
    labels.push_back(rest.substr(0, dot));
    rest.remove_prefix(dot + 1);  // the dot before the zone ends the last one
  }
  return labels;
}

// A label as a number; nullopt for anything but its shortest form.
std::optional<std::uint8_t> number(std::string_view label, int base) {
  std::uint8_t value = 0;
  const char* end = std::to_address(label.end());
  const auto [rest, error] = std::from_chars(std::to_address(label.begin()), end, value, base);
  if (error != std::errc() || rest != end || (label.size() > 1 && label.front() == '0')) return std::nullopt;
  return value;
}

// RFC 1035 section 3.5: "4.3.2.1.in-addr.arpa" is 1.2.3.4.
std::optional<request::IpAddress> reverse_v4(std::string_view name) {
  const auto labels = labels_before(name, kReverseV4);
  if (labels.size() != 4) return std::nullopt;
  std::array<std::uint8_t, 4> bytes;
  for (std::size_t i = 0; i < 4; ++i) {
    const auto value = number(labels[3 - i], 10);
    if (!value) return std::nullopt;
    bytes[i] = *value;
  }
  return request::IpAddress::from_v4(bytes);
}

// RFC 3596 section 2.5: a label per hexadecimal digit, the last digit first.
std::optional<request::IpAddress> reverse_v6(std::string_view name) {
  const auto labels = labels_before(name, kReverseV6);
  if (labels.size() != 32) return std::nullopt;
  std::array<std::uint8_t, 16> bytes;
  for (std::size_t i = 0; i < 16; ++i) {
    const auto high = number(labels[31 - 2 * i], 16);
    const auto low = number(labels[30 - 2 * i], 16);
    if (!high || !low || *high > 15 || *low > 15) return std::nullopt;
    bytes[i] = static_cast<std::uint8_t>(*high << 4 | *low);
  }
  return request::IpAddress::from_v6(bytes);
}

request::IpAddress loopback(DnsType type) {
  if (type == DnsType::a) return request::IpAddress::from_v4({127, 0, 0, 1});
  return request::IpAddress::from_v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
}

bool is_address_type(DnsType type) { return type == DnsType::a || type == DnsType::aaaa; }

DnsAnswer negative(DnsRcode rcode) { return {.rcode = rcode, .negative = true}; }

DnsAnswer with_address(const request::IpAddress& address) {
  return {.address = address, .ttl_seconds = limits::kDnsSyntheticTtlSeconds};
}

}  // namespace

std::size_t DnsResponder::respond(std::string_view message, std::span<char> out) {
  const DnsParsed parsed = parse_dns_query(message);
  switch (parsed.verdict) {
    case DnsVerdict::silence:
      return 0;
    case DnsVerdict::error:
      return write_dns_answer(out, parsed.query, {.rcode = parsed.rcode});
    case DnsVerdict::query:
      break;
  }
  return write_dns_answer(out, parsed.query, answer(parsed.query));
}

DnsAnswer DnsResponder::answer(const DnsQuery& query) {
  if (query.dns_class != kClassInternet) return {.rcode = DnsRcode::refused};
  if (is_at_or_under(query.name, "localhost")) {
    return is_address_type(query.type) ? with_address(loopback(query.type)) : negative(DnsRcode::noerror);
  }
  if (is_at_or_under(query.name, kReverseV4) || is_at_or_under(query.name, kReverseV6)) return answer_reverse(query);
  const auto host = request::parse_host(query.name, false);
  if (!host || host->address) {
    report(query, query.name, DnsDecision::deny, "the name is not a host name");
    return negative(DnsRcode::nxdomain);
  }
  return answer_name(query, host->name);
}

DnsAnswer DnsResponder::answer_name(const DnsQuery& query, const std::string& name) {
  switch (policy_.decide(name)) {
    case DnsDecision::deny:
      report(query, name, DnsDecision::deny, "no endpoint of the policy has this host");
      return negative(DnsRcode::nxdomain);
    case DnsDecision::would_deny:
      report(query, name, DnsDecision::would_deny, "no endpoint of the policy has this host");
      break;
    case DnsDecision::allow:
      break;
  }
  if (!is_address_type(query.type)) return negative(DnsRcode::noerror);
  const auto addresses = table_.assign(name);
  if (!addresses) {
    report_full_table(query, name);
    return {.rcode = DnsRcode::servfail};  // fails closed: no address may stand for two names
  }
  return with_address(query.type == DnsType::a ? addresses->v4 : addresses->v6);
}

// Never reported: programs look up the names of addresses as a matter of course, and the question stays here.
DnsAnswer DnsResponder::answer_reverse(const DnsQuery& query) {
  const bool v4 = is_at_or_under(query.name, kReverseV4);
  const auto address = v4 ? reverse_v4(query.name) : reverse_v6(query.name);
  if (!address) return negative(DnsRcode::nxdomain);
  const bool is_loopback = *address == loopback(DnsType::a) || *address == loopback(DnsType::aaaa);
  const auto name = is_loopback ? std::optional<std::string>("localhost") : table_.name_of(*address);
  if (!name) return negative(DnsRcode::nxdomain);
  if (query.type != DnsType::ptr) return negative(DnsRcode::noerror);
  return {.ptr = *name, .ttl_seconds = limits::kDnsSyntheticTtlSeconds};
}

// Once, apart from the other reports: all further names fail, and an audit has reported this one already.
void DnsResponder::report_full_table(const DnsQuery& query, const std::string& name) {
  if (!policy_.on_report || std::exchange(full_table_reported_, true)) return;
  policy_.on_report({.name = name,
                     .type = query.type,
                     .decision = DnsDecision::deny,
                     .text = "the table of " + std::to_string(limits::kDnsNamesMax) +
                             " names with synthetic addresses is full: no further name is looked up"});
}

void DnsResponder::report(const DnsQuery& query, const std::string& name, DnsDecision decision, std::string_view text) {
  if (!policy_.on_report || reported_.size() >= limits::kDnsReportsMax) return;
  if (!reported_.insert(name).second) return;
  DnsReport report{.name = name, .type = query.type, .decision = decision, .text = std::string(text)};
  if (reported_.size() == limits::kDnsReportsMax) {
    report.text += "; this is the last name that is reported: " + std::to_string(limits::kDnsReportsMax) + " were";
  }
  policy_.on_report(report);
}

}  // namespace sallyport::net
