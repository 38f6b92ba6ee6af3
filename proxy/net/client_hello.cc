#include "proxy/net/client_hello.h"

#include <algorithm>
#include <bitset>
#include <memory>
#include <optional>

#include "base/limits.h"

namespace sallyport::net {
namespace {

constexpr std::uint8_t kRecordChangeCipherSpec = 20;
constexpr std::uint8_t kRecordAlert = 21;
constexpr std::uint8_t kRecordHandshake = 22;
constexpr std::uint8_t kRecordApplicationData = 23;
constexpr std::uint8_t kVersionMajor = 3;
constexpr std::size_t kRecordHeaderBytes = 5;
constexpr std::size_t kRecordBytesMax = 1 << 14;  // RFC 8446 section 5.1
constexpr std::size_t kMessageHeaderBytes = 4;
constexpr std::uint8_t kMessageClientHello = 1;

// RFC 8446 section 4.2, RFC 6066, RFC 7301, RFC 9849 and its drafts.
constexpr std::uint16_t kExtensionServerName = 0;
constexpr std::uint16_t kExtensionAlpn = 16;
constexpr std::uint16_t kExtensionPreSharedKey = 41;
constexpr std::uint16_t kExtensionEarlyData = 42;
constexpr std::uint16_t kExtensionSupportedVersions = 43;
constexpr std::uint16_t kExtensionEchFirstDraft = 0xfe08;
constexpr std::uint16_t kExtensionEch = 0xfe0d;
constexpr std::uint16_t kExtensionEncryptedServerName = 0xffce;

std::uint8_t byte_at(std::string_view bytes, std::size_t index) { return static_cast<std::uint8_t>(bytes[index]); }

// Takes numbers and vectors from the front of a message. A failed take empties nothing and returns nullopt.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : rest_(bytes) {}
  bool at_end() const { return rest_.empty(); }

  std::optional<std::string_view> take(std::size_t count) {
    if (rest_.size() < count) return std::nullopt;
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::optional<std::uint8_t> number8() {
    const auto taken = take(1);
    if (!taken) return std::nullopt;
    return byte_at(*taken, 0);
  }

  std::optional<std::uint16_t> number16() {
    const auto taken = take(2);
    if (!taken) return std::nullopt;
    return static_cast<std::uint16_t>(byte_at(*taken, 0) << 8 | byte_at(*taken, 1));
  }

  std::optional<std::string_view> vector8() {
    const auto length = number8();
    return length ? take(*length) : std::nullopt;
  }

  std::optional<std::string_view> vector16() {
    const auto length = number16();
    return length ? take(*length) : std::nullopt;
  }

 private:
  std::string_view rest_;
};

// Each reader returns why the bytes are unacceptable, or an empty string.
using Problem = std::string;

Problem read_server_name(std::string_view data, ClientHello& hello) {
  Cursor extension(data);
  const auto list = extension.vector16();
  if (!list || !extension.at_end() || list->empty()) return "the server_name extension has a wrong length";
  Cursor names(*list);
  const auto type = names.number8();
  const auto name = names.vector16();
  if (!type || !name) return "the server_name list has a wrong length";
  if (*type != 0) return "the server_name list has an entry that is no host name";
  if (!names.at_end()) return "the server_name list has more than one entry";
  if (name->empty()) return "the server name is empty";
  if (name->find('\0') != std::string_view::npos) return "the server name contains a NUL byte";
  auto host = request::parse_host(*name, false);
  if (!host) return "the server name is not a host name: " + host.error().text;
  hello.sni = std::move(*host);
  return {};
}

Problem read_alpn(std::string_view data, ClientHello& hello) {
  Cursor extension(data);
  const auto list = extension.vector16();
  if (!list || !extension.at_end() || list->empty()) return "the ALPN extension has a wrong length";
  Cursor protocols(*list);
  while (!protocols.at_end()) {
    const auto protocol = protocols.vector8();
    if (!protocol) return "the ALPN list has a wrong length";
    if (protocol->empty()) return "the ALPN list has an empty protocol name";
    hello.alpn.push_back(*protocol);
  }
  return {};
}

Problem read_supported_versions(std::string_view data, ClientHello& hello) {
  Cursor extension(data);
  const auto list = extension.vector8();
  if (!list || !extension.at_end() || list->empty() || list->size() % 2 != 0) {
    return "the supported_versions extension has a wrong length";
  }
  Cursor versions(*list);
  while (const auto version = versions.number16()) hello.supported_versions.push_back(*version);
  return {};
}

Problem read_extension(std::uint16_t type, std::string_view data, ClientHello& hello) {
  if (type == kExtensionServerName) return read_server_name(data, hello);
  if (type == kExtensionAlpn) return read_alpn(data, hello);
  if (type == kExtensionSupportedVersions) return read_supported_versions(data, hello);
  if (type == kExtensionEarlyData) {
    if (!data.empty()) return "the early_data extension is not empty";
    hello.has_early_data = true;
  }
  if (type == kExtensionEch) {
    if (data.empty() || byte_at(data, 0) != 0) return "the encrypted_client_hello extension is not of the outer form";
    hello.has_ech = true;
  }
  if (type >= kExtensionEchFirstDraft && type < kExtensionEch) hello.has_ech = true;
  if (type == kExtensionEncryptedServerName) hello.has_ech = true;
  return {};
}

Problem read_extensions(std::string_view block, ClientHello& hello) {
  Cursor extensions(block);
  // One bit per type: a sorted list would do, but a hostile hello can have thousands of them.
  const auto seen = std::make_unique<std::bitset<65536>>();
  while (!extensions.at_end()) {
    const auto type = extensions.number16();
    const auto data = extensions.vector16();
    if (!type || !data) return "an extension is longer than the extension block";
    if (seen->test(*type)) return "extension " + std::to_string(*type) + " occurs twice";
    seen->set(*type);
    // RFC 8446 section 4.2.11: what follows would not be covered by its binders.
    if (seen->test(kExtensionPreSharedKey) && *type != kExtensionPreSharedKey) {
      return "the pre_shared_key extension is not the last one";
    }
    if (Problem problem = read_extension(*type, *data, hello); !problem.empty()) return problem;
  }
  return {};
}

Problem read_body(std::string_view body, ClientHello& hello) {
  Cursor cursor(body);
  const auto version = cursor.number16();
  if (!version || *version >> 8 != kVersionMajor) return "its version is not one of TLS";
  hello.legacy_version = *version;
  if (!cursor.take(32)) return "its random is cut short";
  const auto session_id = cursor.vector8();
  if (!session_id || session_id->size() > 32) return "its session id has a wrong length";
  const auto cipher_suites = cursor.vector16();
  if (!cipher_suites || cipher_suites->empty() || cipher_suites->size() % 2 != 0) {
    return "its list of cipher suites has a wrong length";
  }
  const auto compression = cursor.vector8();
  if (!compression || compression->empty()) return "its list of compression methods has a wrong length";
  if (compression->find('\0') == std::string_view::npos) return "it does not offer the null compression method";
  if (cursor.at_end()) return {};  // extensions came with TLS 1.2 at the latest, and are optional there
  const auto extensions = cursor.vector16();
  if (!extensions || !cursor.at_end()) return "its extension block has a wrong length";
  return read_extensions(*extensions, hello);
}

std::string_view record_type_name(std::uint8_t type) {
  if (type == kRecordChangeCipherSpec) return "change_cipher_spec";
  if (type == kRecordAlert) return "alert";
  if (type == kRecordApplicationData) return "application data";
  return "unknown";
}

// SSLv2's ClientHello: a two-byte length with the high bit set, the message type, and version 0.2 or 3.x.
HelloState check_ssl2_prefix(std::string_view bytes) {
  if (bytes.size() > 2 && byte_at(bytes, 2) != kMessageClientHello) return HelloState::not_tls;
  if (bytes.size() > 3 && byte_at(bytes, 3) != 0 && byte_at(bytes, 3) != kVersionMajor) return HelloState::not_tls;
  return bytes.size() > 3 ? HelloState::malformed : HelloState::incomplete;
}

}  // namespace

bool ClientHello::offers_alpn(std::string_view protocol) const {
  return std::ranges::find(alpn, protocol) != alpn.end();
}

HelloState check_tls_prefix(std::string_view bytes) {
  if (bytes.empty()) return HelloState::incomplete;
  const std::uint8_t type = byte_at(bytes, 0);
  if (type >= 0x80) return check_ssl2_prefix(bytes);
  if (type < kRecordChangeCipherSpec || type > kRecordApplicationData) return HelloState::not_tls;
  if (bytes.size() == 1) return HelloState::incomplete;
  if (byte_at(bytes, 1) != kVersionMajor) return HelloState::not_tls;
  return type == kRecordHandshake ? HelloState::complete : HelloState::malformed;
}

HelloState ClientHelloParser::malformed(std::string_view why) {
  problem_ = "The TLS ClientHello is not acceptable: ";
  problem_ += why;
  problem_ += '.';
  hello_ = {};  // nothing of it can be taken for true
  return state_ = HelloState::malformed;
}

HelloState ClientHelloParser::advance(std::string_view bytes_so_far) {
  if (state_ != HelloState::incomplete) return state_;
  if (!prefix_checked_) {
    const HelloState prefix = check_tls_prefix(bytes_so_far);
    if (prefix == HelloState::incomplete) return prefix;
    if (prefix == HelloState::not_tls) return state_ = prefix;
    if (prefix == HelloState::malformed) {
      const std::uint8_t type = byte_at(bytes_so_far, 0);
      if (type >= 0x80) return malformed("it has the form of SSLv2");
      return malformed("the first record is not a handshake record but of type " + std::string(record_type_name(type)));
    }
    prefix_checked_ = true;
  }
  while (state_ == HelloState::incomplete) {
    if (record_rest_ == 0 && begin_record(bytes_so_far) != HelloState::incomplete) return state_;
    const std::size_t count = std::min(record_rest_, bytes_so_far.size() - offset_);
    if (count == 0) return state_;
    const std::string_view fragment = bytes_so_far.substr(offset_, count);
    hello_.message.insert(hello_.message.end(), fragment.begin(), fragment.end());
    offset_ += count;
    record_rest_ -= count;
    check_message(record_rest_);
  }
  return state_;
}

// Takes the next record's header if it is there.
HelloState ClientHelloParser::begin_record(std::string_view bytes) {
  if (bytes.size() - offset_ < kRecordHeaderBytes) return state_;
  const std::string_view header = bytes.substr(offset_, kRecordHeaderBytes);
  const std::uint8_t type = byte_at(header, 0);
  if (type != kRecordHandshake) {
    return malformed("a record of type " + std::string(record_type_name(type)) + " stands between its parts");
  }
  // The minor version is ignored, as RFC 8446 section 5.1 demands.
  if (byte_at(header, 1) != kVersionMajor) return malformed("a record's version is not one of TLS");
  const auto length = static_cast<std::size_t>(byte_at(header, 3) << 8 | byte_at(header, 4));
  if (length == 0) return malformed("a handshake record is empty");
  if (length > kRecordBytesMax) return malformed("a record is longer than 16384 bytes");
  offset_ += kRecordHeaderBytes;
  record_rest_ = length;
  return state_;
}

// Judges what has been put together so far, and reads the message when it is whole.
HelloState ClientHelloParser::check_message(std::size_t record_rest) {
  const std::string_view message(hello_.message.data(), hello_.message.size());
  if (byte_at(message, 0) != kMessageClientHello) return malformed("the first handshake message is another one");
  if (message.size() < kMessageHeaderBytes) return state_;
  const std::size_t length =
      static_cast<std::size_t>(byte_at(message, 1) << 16 | byte_at(message, 2) << 8 | byte_at(message, 3)) +
      kMessageHeaderBytes;
  if (length > limits::kClientHelloBytesMax) {
    return malformed("its length is " + std::to_string(length) + " bytes, and the limit " +
                     std::to_string(limits::kClientHelloBytesMax));
  }
  // A client has nothing to say in this record after its hello.
  if (message.size() + record_rest > length) return malformed("its last record has bytes after the message");
  if (message.size() < length) return state_;
  return read_message();
}

HelloState ClientHelloParser::read_message() {
  const std::string_view message(hello_.message.data(), hello_.message.size());
  if (const Problem problem = read_body(message.substr(kMessageHeaderBytes), hello_); !problem.empty()) {
    return malformed(problem);
  }
  hello_.bytes_consumed = offset_;
  return state_ = HelloState::complete;
}

}  // namespace sallyport::net
