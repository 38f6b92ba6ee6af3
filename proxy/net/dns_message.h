#pragma once
// One DNS query in, one answer out (RFC 1035, EDNS of RFC 6891). Only what a stub resolver sends is understood; nothing
// here looks names up.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/request/address.h"

namespace sallyport::net {

// Types as on the wire: any value can occur in a question.
enum class DnsType : std::uint16_t {
  a = 1,
  ns = 2,
  cname = 5,
  soa = 6,
  null = 10,
  ptr = 12,
  mx = 15,
  txt = 16,
  aaaa = 28,
  srv = 33,
  opt = 41,
  svcb = 64,
  https = 65,
  any = 255,
};
std::string to_string(DnsType type);  // "AAAA", or "TYPE1234" (RFC 3597 section 5)

enum class DnsRcode : std::uint16_t {
  noerror = 0,
  formerr = 1,
  servfail = 2,
  nxdomain = 3,
  notimp = 4,
  refused = 5,
  badvers = 16,
};

struct DnsQuery {
  std::uint16_t id = 0;
  std::uint8_t opcode = 0;
  bool recursion_desired = false;
  bool checking_disabled = false;
  // The question; empty where the message was too broken to have one, and then not repeated in the answer.
  std::string_view question;  // as it came, in the caller's buffer: the answer repeats it byte for byte
  std::string name;  // lower case, without the last dot, "" for the root; other bytes than letters, digits, - and _
                     // escaped as \DDD (RFC 1035 section 5.1), so that a dot is always a border between labels
  DnsType type = DnsType::a;
  std::uint16_t dns_class = 1;
  bool has_edns = false;
  bool dnssec_ok = false;
};

enum class DnsVerdict : std::uint8_t {
  query,    // a well-formed query of class any: answer it
  error,    // answer it with `rcode`
  silence,  // not a query, or too short to be answered
};

struct DnsParsed {
  DnsVerdict verdict = DnsVerdict::silence;
  DnsRcode rcode = DnsRcode::noerror;
  DnsQuery query;
};

// Strict: exactly one question (RFC 9619), opcode QUERY (else NOTIMP), names without compression, no other records than
// one OPT of version 0 (else BADVERS), nothing after the last record, limits::kDnsMessageBytesMax at most. A message
// with the response bit is met with silence.
DnsParsed parse_dns_query(std::string_view message);

struct DnsAnswer {
  DnsRcode rcode = DnsRcode::noerror;
  std::optional<request::IpAddress> address = {};  // one A or AAAA record
  std::string ptr = {};                            // one PTR record: a name of labels with dots between
  std::uint32_t ttl_seconds = 0;
  bool negative = false;  // an SOA record in the authority section, so that resolvers remember the "no" (RFC 2308)
};

// Always fits: the longest is under 700 bytes, and 512 are enough for anything but a PTR answer with EDNS.
inline constexpr std::size_t kDnsAnswerBytesMax = 768;

// Returns the bytes written; 0 if `out` is too small or `ptr` is not a name. The owner of records is the question's
// name.
std::size_t write_dns_answer(std::span<char> out, const DnsQuery& query, const DnsAnswer& answer);

}  // namespace sallyport::net
