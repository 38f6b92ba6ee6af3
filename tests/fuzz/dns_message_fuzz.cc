// The DNS reader and writer, against the C library's: what we take for a query it reads as the same question, and what
// we answer it can read.

#include <arpa/nameser.h>
#include <resolv.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/net/dns_message.h"
#include "proxy/net/dns_responder.h"

namespace {

using namespace sallyport::net;
using sallyport::request::IpAddress;

void require(bool condition) {
  if (!condition) std::abort();
}

std::string lower(std::string text) {
  for (char& byte : text) byte = byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + 32) : byte;
  return text;
}

const unsigned char* octets(std::string_view bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

// The question as the C library reads it. Its names are escaped in another way: those are left out.
void compare_question(std::string_view message, const DnsQuery& query) {
  ns_msg handle;
  require(ns_initparse(octets(message), static_cast<int>(message.size()), &handle) == 0);
  ns_rr record;
  require(ns_parserr(&handle, ns_s_qd, 0, &record) == 0);
  require(static_cast<unsigned>(ns_rr_type(record)) == static_cast<unsigned>(query.type));
  require(static_cast<unsigned>(ns_rr_class(record)) == query.dns_class);
  const std::string name = lower(ns_rr_name(record));
  const bool escaped = query.name.find('\\') != std::string::npos || name.find('\\') != std::string::npos;
  require(escaped || name == query.name || (query.name.empty() && name == "."));
}

std::string_view rdata_of(const ns_rr& record) {
  return {reinterpret_cast<const char*>(ns_rr_rdata(record)), static_cast<std::size_t>(ns_rr_rdlen(record))};
}

// An answer as the C library reads it: one record about the name that was asked for, with that content.
void check_content(std::string_view message, ns_type type, std::string_view rdata) {
  ns_msg handle;
  require(ns_initparse(octets(message), static_cast<int>(message.size()), &handle) == 0);
  ns_rr question, answer;
  require(ns_parserr(&handle, ns_s_qd, 0, &question) == 0 && ns_parserr(&handle, ns_s_an, 0, &answer) == 0);
  require(lower(ns_rr_name(question)) == lower(ns_rr_name(answer)) && ns_rr_type(answer) == type);
  require(ns_rr_ttl(answer) == 60);
  if (type != ns_t_ptr) return require(rdata_of(answer) == rdata);
  std::array<char, NS_MAXDNAME> name{};
  const auto* end = octets(message) + message.size();
  require(ns_name_uncompress(octets(message), end, ns_rr_rdata(answer), name.data(), name.size()) > 0);
  require(rdata == name.data());
}

void check_answer(std::string_view message, std::size_t answers, std::size_t authorities) {
  ns_msg handle;
  require(ns_initparse(octets(message), static_cast<int>(message.size()), &handle) == 0);
  require(ns_msg_count(handle, ns_s_an) == answers);
  require(ns_msg_count(handle, ns_s_ns) == authorities);
  ns_rr record;
  if (answers == 1) require(ns_parserr(&handle, ns_s_an, 0, &record) == 0);
  if (authorities == 1) require(ns_parserr(&handle, ns_s_ns, 0, &record) == 0);
}

void check_answers(const DnsQuery& query) {
  std::array<char, kDnsAnswerBytesMax> out;
  const auto written = [&](const DnsAnswer& answer) {
    const std::size_t size = write_dns_answer(out, query, answer);
    require(size >= 12);
    return std::string_view(out.data(), size);
  };
  const std::string_view v4 = written({.address = IpAddress::from_v4({198, 18, 0, 1}), .ttl_seconds = 60});
  check_answer(v4, 1, 0);
  check_content(v4, ns_t_a, std::string_view("\xc6\x12\0\x01", 4));
  const std::string_view v6 = written({.address = IpAddress::from_v6({0xfd, 0x53}), .ttl_seconds = 60});
  check_answer(v6, 1, 0);
  check_content(v6, ns_t_aaaa, std::string("\xfd\x53") + std::string(14, '\0'));
  const std::string_view ptr = written({.ptr = "api.example.com", .ttl_seconds = 60});
  check_answer(ptr, 1, 0);
  check_content(ptr, ns_t_ptr, "api.example.com");
  check_answer(written({.rcode = DnsRcode::nxdomain, .negative = true}), 0, 1);
  const std::string_view empty = written({});
  // Without the response bit it is the query again.
  std::string again(empty);
  again[2] = static_cast<char>(again[2] & 0x7f);
  const DnsParsed parsed = parse_dns_query(again);
  require(parsed.verdict == DnsVerdict::query && parsed.query.name == query.name && parsed.query.type == query.type);
  require(parsed.query.has_edns == query.has_edns && parsed.query.dnssec_ok == query.dnssec_ok);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view message(reinterpret_cast<const char*>(data), size);
  const DnsParsed parsed = parse_dns_query(message);
  if (parsed.verdict == DnsVerdict::query) {
    compare_question(message, parsed.query);
    check_answers(parsed.query);
  }
  static DnsTable table(DnsTable::Seed{});
  static DnsResponder responder(table,
                                {.decide = [](std::string_view) { return DnsDecision::allow; }, .on_report = {}});
  std::array<char, kDnsAnswerBytesMax> out;
  const std::size_t answered = responder.respond(message, out);
  require((answered == 0) == (parsed.verdict == DnsVerdict::silence));
  return 0;
}
