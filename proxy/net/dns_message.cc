#include "proxy/net/dns_message.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"

namespace sallyport::net {
namespace {

constexpr std::size_t kHeaderBytes = 12;
constexpr std::size_t kLabelBytesMax = 63;
constexpr std::size_t kNameBytesMax = 255;
constexpr std::uint16_t kClassInternet = 1;

constexpr std::uint16_t kFlagResponse = 0x8000;
constexpr std::uint16_t kFlagRecursionDesired = 0x0100;
constexpr std::uint16_t kFlagRecursionAvailable = 0x0080;
constexpr std::uint16_t kFlagCheckingDisabled = 0x0010;
constexpr std::uint16_t kEdnsFlagDnssecOk = 0x8000;

// A name that is the question's, by reference to its place after the header (RFC 1035 section 4.1.4).
constexpr std::uint16_t kQuestionName = 0xc000 | kHeaderBytes;

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  std::size_t offset() const { return offset_; }
  bool at_end() const { return offset_ == bytes_.size(); }

  std::optional<std::string_view> take(std::size_t count) {
    if (bytes_.size() - offset_ < count) return std::nullopt;
    offset_ += count;
    return bytes_.substr(offset_ - count, count);
  }
  std::optional<std::uint8_t> number8() {
    const auto taken = take(1);
    if (!taken) return std::nullopt;
    return static_cast<std::uint8_t>(taken->front());
  }
  std::optional<std::uint16_t> number16() {
    const auto taken = take(2);
    if (!taken) return std::nullopt;
    return static_cast<std::uint16_t>(static_cast<std::uint8_t>((*taken)[0]) << 8 |
                                      static_cast<std::uint8_t>((*taken)[1]));
  }

 private:
  std::string_view bytes_;
  std::size_t offset_ = 0;
};

// Appends to a buffer of fixed size; remembers that something did not fit.
class Writer {
 public:
  explicit Writer(std::span<char> out) : out_(out) {}
  std::size_t finish() const { return fits_ ? used_ : 0; }
  std::size_t used() const { return used_; }

  void bytes(std::string_view text) {
    if (!fits_ || out_.size() - used_ < text.size()) {
      fits_ = false;
      return;
    }
    std::ranges::copy(text, out_.begin() + static_cast<std::ptrdiff_t>(used_));
    used_ += text.size();
  }
  void number8(unsigned value) {
    const char byte = static_cast<char>(value & 0xff);
    bytes({&byte, 1});
  }
  void number16(unsigned value) {
    number8(value >> 8);
    number8(value);
  }
  void number32(std::uint32_t value) {
    number16(value >> 16);
    number16(value & 0xffff);
  }
  void patch16(std::size_t at, std::size_t value) {
    if (!fits_) return;
    out_[at] = static_cast<char>(value >> 8);
    out_[at + 1] = static_cast<char>(value & 0xff);
  }
  void name(std::string_view dotted);
  void fail() { fits_ = false; }

 private:
  std::span<char> out_;
  std::size_t used_ = 0;
  bool fits_ = true;
};

void Writer::name(std::string_view dotted) {
  if (dotted.size() > kNameBytesMax - 2) return fail();
  while (!dotted.empty()) {
    const std::size_t end = std::min(dotted.find('.'), dotted.size());
    if (end == 0 || end > kLabelBytesMax || end + 1 == dotted.size()) return fail();
    number8(static_cast<unsigned>(end));
    bytes(dotted.substr(0, end));
    dotted.remove_prefix(std::min(end + 1, dotted.size()));
  }
  number8(0);
}

void append_label(std::string& name, std::string_view label) {
  for (const char byte : label) {
    const bool upper = byte >= 'A' && byte <= 'Z';
    const bool plain = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
    if (upper || plain) {
      name += upper ? static_cast<char>(byte - 'A' + 'a') : byte;
      continue;
    }
    const auto value = static_cast<std::uint8_t>(byte);
    name += '\\';
    name += static_cast<char>('0' + value / 100);
    name += static_cast<char>('0' + value / 10 % 10);
    name += static_cast<char>('0' + value % 10);
  }
}

// A name without compression: there is nothing before a question that it could point to.
std::optional<std::string> read_name(Reader& reader) {
  std::string name;
  const std::size_t start = reader.offset();
  while (true) {
    const auto length = reader.number8();
    if (!length || *length > kLabelBytesMax) return std::nullopt;
    if (*length == 0) break;
    const auto label = reader.take(*length);
    if (!label) return std::nullopt;
    if (!name.empty()) name += '.';
    append_label(name, *label);
  }
  if (reader.offset() - start > kNameBytesMax) return std::nullopt;
  return name;
}

bool read_question(Reader& reader, std::string_view message, DnsQuery& query) {
  const std::size_t start = reader.offset();
  auto name = read_name(reader);
  const auto type = reader.number16();
  const auto dns_class = reader.number16();
  if (!name || !type || !dns_class) return false;
  query.name = std::move(*name);
  query.type = static_cast<DnsType>(*type);
  query.dns_class = *dns_class;
  query.question = message.substr(start, reader.offset() - start);
  return true;
}

// Options have to be whole (RFC 6891 section 6.1.2); none is acted on.
bool are_options(std::string_view data) {
  Reader reader(data);
  while (!reader.at_end()) {
    const auto code = reader.number16();
    const auto length = reader.number16();
    if (!code || !length || !reader.take(*length)) return false;
  }
  return true;
}

DnsRcode read_opt(Reader& reader, DnsQuery& query) {
  const auto name = reader.number8();
  const auto type = reader.number16();
  const auto udp_size = reader.number16();
  const auto extended_rcode = reader.number8();
  const auto version = reader.number8();
  const auto flags = reader.number16();
  const auto length = reader.number16();
  const bool whole = name && type && udp_size && extended_rcode && version && flags && length;
  if (!whole || *name != 0 || *type != static_cast<std::uint16_t>(DnsType::opt)) return DnsRcode::formerr;
  const auto options = reader.take(*length);
  if (!options) return DnsRcode::formerr;
  query.has_edns = true;
  query.dnssec_ok = (*flags & kEdnsFlagDnssecOk) != 0;
  if (*version != 0) return DnsRcode::badvers;
  return are_options(*options) ? DnsRcode::noerror : DnsRcode::formerr;
}

// What follows the id and flags.
DnsRcode read_sections(Reader& reader, std::string_view message, DnsQuery& query) {
  const auto questions = reader.number16();
  const auto answers = reader.number16();
  const auto authorities = reader.number16();
  const auto additionals = reader.number16();
  if (questions != 1 || answers != 0 || authorities != 0 || additionals > 1) return DnsRcode::formerr;
  if (!read_question(reader, message, query)) return DnsRcode::formerr;
  if (additionals == 1) {
    if (const DnsRcode rcode = read_opt(reader, query); rcode != DnsRcode::noerror) return rcode;
  }
  return reader.at_end() ? DnsRcode::noerror : DnsRcode::formerr;
}

void write_address(Writer& writer, const request::IpAddress& address, std::uint32_t ttl_seconds) {
  const std::size_t bytes = address.is_v4() ? 4 : 16;
  writer.number16(kQuestionName);
  writer.number16(static_cast<unsigned>(address.is_v4() ? DnsType::a : DnsType::aaaa));
  writer.number16(kClassInternet);
  writer.number32(ttl_seconds);
  writer.number16(static_cast<unsigned>(bytes));
  writer.bytes({reinterpret_cast<const char*>(address.bytes().data()), bytes});
}

void write_ptr(Writer& writer, std::string_view name, std::uint32_t ttl_seconds) {
  writer.number16(kQuestionName);
  writer.number16(static_cast<unsigned>(DnsType::ptr));
  writer.number16(kClassInternet);
  writer.number32(ttl_seconds);
  const std::size_t length_at = writer.used();
  writer.number16(0);
  writer.name(name);
  writer.patch16(length_at, writer.used() - length_at - 2);
}

// The root's, so that it is above every name. Its minimum is how long the "no" may be remembered.
void write_soa(Writer& writer) {
  writer.name("");
  writer.number16(static_cast<unsigned>(DnsType::soa));
  writer.number16(kClassInternet);
  writer.number32(limits::kDnsNegativeTtlSeconds);
  const std::size_t length_at = writer.used();
  writer.number16(0);
  writer.name("sallyport.invalid");
  writer.name("nobody.invalid");
  writer.number32(1);      // serial
  writer.number32(3'600);  // refresh, retry and expire are for secondary servers: there are none
  writer.number32(600);
  writer.number32(86'400);
  writer.number32(limits::kDnsNegativeTtlSeconds);
  writer.patch16(length_at, writer.used() - length_at - 2);
}

void write_opt(Writer& writer, const DnsQuery& query, DnsRcode rcode) {
  writer.number8(0);
  writer.number16(static_cast<unsigned>(DnsType::opt));
  writer.number16(limits::kDnsMessageBytesMax);
  writer.number8(static_cast<unsigned>(rcode) >> 4);
  writer.number8(0);
  writer.number16(query.dnssec_ok ? kEdnsFlagDnssecOk : 0);
  writer.number16(0);
}

unsigned answer_flags(const DnsQuery& query, DnsRcode rcode) {
  unsigned flags = kFlagResponse | kFlagRecursionAvailable | static_cast<unsigned>(query.opcode) << 11;
  if (query.recursion_desired) flags |= kFlagRecursionDesired;
  if (query.checking_disabled) flags |= kFlagCheckingDisabled;
  return flags | (static_cast<unsigned>(rcode) & 0xf);
}

}  // namespace

std::string to_string(DnsType type) {
  switch (type) {
    case DnsType::a:
      return "A";
    case DnsType::ns:
      return "NS";
    case DnsType::cname:
      return "CNAME";
    case DnsType::soa:
      return "SOA";
    case DnsType::null:
      return "NULL";
    case DnsType::ptr:
      return "PTR";
    case DnsType::mx:
      return "MX";
    case DnsType::txt:
      return "TXT";
    case DnsType::aaaa:
      return "AAAA";
    case DnsType::srv:
      return "SRV";
    case DnsType::opt:
      return "OPT";
    case DnsType::svcb:
      return "SVCB";
    case DnsType::https:
      return "HTTPS";
    case DnsType::any:
      return "ANY";
  }
  return "TYPE" + std::to_string(static_cast<unsigned>(type));
}

DnsParsed parse_dns_query(std::string_view message) {
  DnsParsed parsed;
  Reader reader(message);
  const auto id = reader.number16();
  const auto flags = reader.number16();
  if (message.size() < kHeaderBytes || !id || !flags || (*flags & kFlagResponse) != 0) return parsed;
  parsed.query.id = *id;
  parsed.query.opcode = *flags >> 11 & 0xf;
  parsed.query.recursion_desired = (*flags & kFlagRecursionDesired) != 0;
  parsed.query.checking_disabled = (*flags & kFlagCheckingDisabled) != 0;
  if (message.size() > limits::kDnsMessageBytesMax) {
    parsed.rcode = DnsRcode::formerr;
  } else if (parsed.query.opcode != 0) {
    parsed.rcode = DnsRcode::notimp;
  } else {
    parsed.rcode = read_sections(reader, message, parsed.query);
  }
  parsed.verdict = parsed.rcode == DnsRcode::noerror ? DnsVerdict::query : DnsVerdict::error;
  return parsed;
}

std::size_t write_dns_answer(std::span<char> out, const DnsQuery& query, const DnsAnswer& answer) {
  Writer writer(out);
  const bool has_record = answer.address || !answer.ptr.empty();
  writer.number16(query.id);
  writer.number16(answer_flags(query, answer.rcode));
  writer.number16(query.question.empty() ? 0 : 1);
  writer.number16(has_record ? 1 : 0);
  writer.number16(answer.negative ? 1 : 0);
  writer.number16(query.has_edns ? 1 : 0);
  writer.bytes(query.question);
  if (answer.address) {
    write_address(writer, *answer.address, answer.ttl_seconds);
  } else if (!answer.ptr.empty()) {
    write_ptr(writer, answer.ptr, answer.ttl_seconds);
  }
  if (answer.negative) write_soa(writer);
  if (query.has_edns) write_opt(writer, query, answer.rcode);
  return writer.finish();
}

}  // namespace sallyport::net
