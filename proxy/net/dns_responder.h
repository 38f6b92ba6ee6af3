#pragma once
// What the guard answers to a DNS message, without sockets. It is the function's only resolver and never asks another:
// a lookup carries nothing out.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>

#include "proxy/net/dns_message.h"
#include "proxy/net/dns_table.h"

namespace sallyport::net {

enum class DnsDecision : std::uint8_t {
  allow,
  deny,
  would_deny,  // audit: answered, and reported like a denial
};

struct DnsReport {
  std::string name;  // canonical, or escaped as in DnsQuery
  DnsType type;      // of the first query
  DnsDecision decision;
  std::string text;
};

struct DnsPolicy {
  // For a canonical name (request::Host::name, never an address): enforce allows the names that some endpoint has.
  std::function<DnsDecision(std::string_view name)> decide;
  // A name that is denied or would be: each once, and limits::kDnsReportsMax names at most, the last report saying that
  // no more follow. And, once, the first name for which the table has no address left. May be empty.
  std::function<void(const DnsReport&)> on_report;
};

class DnsResponder {
 public:
  DnsResponder(DnsTable& table, DnsPolicy policy) : table_(table), policy_(std::move(policy)) {}

  // Writes the answer; 0: none is to be sent. `out` should have kDnsAnswerBytesMax bytes.
  //  - a name that the policy allows: A and AAAA give its synthetic address; every other type is "no such data", so
  //    that nothing hides in TXT, and no HTTPS record offers ECH or HTTP/3;
  //  - another name, and a name that is no host name: NXDOMAIN, never REFUSED, as some resolvers give up after that;
  //  - localhost and what is under it: loopback (RFC 6761 section 6.3), whatever the policy says;
  //  - PTR of a synthetic or loopback address: its name; of another: NXDOMAIN, without asking the policy.
  std::size_t respond(std::string_view query, std::span<char> out);

 private:
  DnsAnswer answer(const DnsQuery& query);
  DnsAnswer answer_name(const DnsQuery& query, const std::string& name);
  DnsAnswer answer_reverse(const DnsQuery& query);
  void report(const DnsQuery& query, const std::string& name, DnsDecision decision, std::string_view text);
  void report_full_table(const DnsQuery& query, const std::string& name);

  DnsTable& table_;
  DnsPolicy policy_;
  std::unordered_set<std::string> reported_;
  bool full_table_reported_ = false;
};

}  // namespace sallyport::net
