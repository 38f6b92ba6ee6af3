#include "ca/java_trust_store.h"

#include <initializer_list>

namespace sallyport::ca {
namespace {

using namespace std::string_view_literals;

constexpr char kSequence = 0x30, kSet = 0x31, kOctetString = 0x04, kBmpString = 0x1e;
constexpr char kExplicit0 = static_cast<char>(0xa0);

// Whole OBJECT IDENTIFIER values, tag and length included.
constexpr std::string_view kData = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"sv;             // 1.2.840.113549.1.7.1
constexpr std::string_view kCertBag = "\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x03"sv;  // …1.12.10.1.3
constexpr std::string_view kX509Certificate = "\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x09\x16\x01"sv;  // …1.9.22.1
constexpr std::string_view kFriendlyName = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x14"sv;         // …1.9.20
// Java's mark of a certificate to be trusted, and the usage "any" (2.5.29.37.0). Without the mark Java keeps the
// certificate only as part of some key's chain.
constexpr std::string_view kTrustedKeyUsage = "\x06\x0c\x60\x86\x48\x01\x86\xf9\x66\xad\xca\x7b\x01\x01"sv;
constexpr std::string_view kAnyUsage = "\x06\x04\x55\x1d\x25\x00"sv;
constexpr std::string_view kVersion3 = "\x02\x01\x03"sv;

std::string value(char tag, std::initializer_list<std::string_view> parts) {
  std::size_t size = 0;
  for (const std::string_view part : parts) size += part.size();
  std::string text(1, tag);
  text.reserve(size + 8);
  if (size < 0x80) {
    text += static_cast<char>(size);
  } else {
    int bytes = 1;
    while (size >> (8 * bytes) != 0) ++bytes;
    text += static_cast<char>(0x80 | bytes);
    while (bytes-- > 0) text += static_cast<char>(size >> (8 * bytes));
  }
  for (const std::string_view part : parts) text += part;
  return text;
}

std::string bmp_string(std::string_view ascii) {
  std::string wide;
  for (const char c : ascii) {
    wide += '\0';
    wide += c;
  }
  return value(kBmpString, {wide});
}

// SafeBag, RFC 7292 section 4.2.
std::string bag(const TrustedCertificate& certificate) {
  const std::string octets = value(kOctetString, {certificate.der});
  const std::string content = value(kSequence, {kX509Certificate, value(kExplicit0, {octets})});
  const std::string name = value(kSequence, {kFriendlyName, value(kSet, {bmp_string(certificate.alias)})});
  const std::string usage = value(kSequence, {kTrustedKeyUsage, value(kSet, {kAnyUsage})});
  return value(kSequence, {kCertBag, value(kExplicit0, {content}), value(kSet, {name, usage})});
}

// ContentInfo of type data, RFC 5652 sections 3 and 4.
std::string data_content(std::string_view content) {
  return value(kSequence, {kData, value(kExplicit0, {value(kOctetString, {content})})});
}

}  // namespace

std::string java_trust_store(std::span<const TrustedCertificate> certificates) {
  std::string bags;
  for (const TrustedCertificate& certificate : certificates) bags += bag(certificate);
  const std::string safe = data_content(value(kSequence, {bags}));
  return value(kSequence, {kVersion3, data_content(value(kSequence, {safe}))});
}

}  // namespace sallyport::ca
