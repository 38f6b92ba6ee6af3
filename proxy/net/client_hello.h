#pragma once
// Reads a TLS ClientHello before any TLS object exists (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2). Strict:
// whatever two readers could understand differently is malformed, with a sentence that says why.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/request/host.h"

namespace sallyport::net {

enum class HelloState : std::uint8_t {
  incomplete,  // a prefix of what may become a ClientHello
  complete,
  not_tls,    // the first bytes are not those of a TLS record
  malformed,  // TLS, or SSLv2, but not an acceptable ClientHello; final, whatever follows
};

// Move-only: the views point into `message`.
struct ClientHello {
  ClientHello() = default;
  ClientHello(ClientHello&&) = default;
  ClientHello& operator=(ClientHello&&) = default;

  // The server name, canonical; nullopt when the client sent none. `sni->address` is set when the client sent an IP
  // literal: RFC 6066 section 3 forbids it, clients do it, and the caller judges it as it judges any IP endpoint.
  std::optional<request::Host> sni;
  std::vector<std::string_view> alpn;             // in the client's order; empty when the extension is absent
  std::uint16_t legacy_version = 0;               // 0x0303 for TLS 1.2 and 1.3
  std::vector<std::uint16_t> supported_versions;  // extension 43, GREASE included; empty when absent
  // An Encrypted ClientHello (0xfe0d, drafts 0xfe08 to 0xfe0c) or encrypted SNI (0xffce): `sni` may be a mere front.
  // GREASE looks the same, on purpose.
  bool has_ech = false;
  bool has_early_data = false;     // 0-RTT bytes may follow `bytes_consumed`
  std::size_t bytes_consumed = 0;  // of the input: up to the end of the record in which the hello ends

  std::vector<char> message;  // the handshake message with its header, put together from its records

  bool offers_alpn(std::string_view protocol) const;
};

// What the very first bytes say: `complete` if a TLS record that may hold a ClientHello begins here, `malformed` if it
// is TLS without hope (SSLv2's hello, or a first record of another type), `incomplete` while undecided (at most 4
// bytes).
HelloState check_tls_prefix(std::string_view bytes);

// Reads a growing buffer. Each call is given all bytes so far; those of earlier calls are not looked at again, so a
// hello that arrives byte by byte costs no more than one that arrives at once.
class ClientHelloParser {
 public:
  // Once the answer is not `incomplete`, later calls repeat it. A handshake message over limits::kClientHelloBytesMax
  // is malformed as soon as its length is seen.
  HelloState advance(std::string_view bytes_so_far);

  const std::string& problem() const { return problem_; }  // why malformed: a sentence for people
  ClientHello& hello() { return hello_; }                  // valid when complete

 private:
  HelloState malformed(std::string_view why);
  HelloState begin_record(std::string_view bytes);
  HelloState check_message(std::size_t record_rest);
  HelloState read_message();

  HelloState state_ = HelloState::incomplete;
  bool prefix_checked_ = false;
  std::size_t offset_ = 0;       // input taken so far
  std::size_t record_rest_ = 0;  // bytes of the current record that have not been taken
  ClientHello hello_;
  std::string problem_;
};

}  // namespace sallyport::net
