#pragma once
// The record layer of TLS 1.3 (RFC 8446 section 5), for a connection whose handshake OpenSSL has done. OpenSSL spends
// four times as much around a small record as the cipher needs, and 13 KiB for each idle connection; here it is two
// keys. Its ciphers and its handshake stay: nothing of cryptography is ours. Connections of TLS 1.2 remain OpenSSL's,
// as do those that had new keys before they could be taken over.

#include <openssl/ssl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "proxy/net/socket_bio.h"

namespace sallyport::net {

// Makes connections of this context ones that can be taken over. `lib` must outlive it. False when out of memory: then
// they stay OpenSSL's.
bool enable_own_records(SSL_CTX* context, OSSL_LIB_CTX* lib);

// What has to be known about a connection while OpenSSL has it: its traffic secrets, and how many records they have
// been used for. It must outlive the SSL or be removed by SSL_set_msg_callback.
class HandshakeWatch {
 public:
  HandshakeWatch(const HandshakeWatch&) = delete;
  HandshakeWatch& operator=(const HandshakeWatch&) = delete;
  ~HandshakeWatch();
  // Before the handshake. Null when the context was not enabled, and for most connections of one whose last ones have
  // all ended before it would have been worth the while: OpenSSL tells secrets in hexadecimal digits, each by a
  // sprintf, which is a twentieth of a handshake.
  static std::unique_ptr<HandshakeWatch> over(SSL* ssl);
  // To be called after each step of a handshake on this context: the secrets of others are none of our business.
  static void look_away(SSL* ssl) { SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), nullptr); }

  bool ticket_came() const { return ticket_came_; }
  std::uint64_t application_records() const { return application_records_; }  // received

 private:
  friend class TlsRecords;
  explicit HandshakeWatch(std::shared_ptr<std::uint32_t> in_vain) : in_vain_(std::move(in_vain)) {}
  struct Secret {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    std::size_t size = 0;
  };
  struct Direction {
    bool finished = false;  // the Finished message was seen: what follows is under application keys
    std::uint64_t records = 0;
  };
  static void on_message(int write, int version, int type, const void* bytes, std::size_t size, SSL* ssl, void* self);
  static void on_secret(const SSL* ssl, const char* line);

  std::shared_ptr<std::uint32_t> in_vain_;  // connections of the context that were watched in vain, since one was not
  bool taken_over_ = false;
  Secret client_, server_;
  Direction in_, out_;
  std::uint64_t application_records_ = 0;
  bool ticket_came_ = false;
  bool unsuitable_ = false;
};

class TlsRecords {
 public:
  // Takes the connection over. Null when that can't be: another version or cipher, keys that were changed already.
  // Afterwards nothing may be asked of `ssl` that would read or write. OpenSSL must hold nothing that it has read or
  // not sent.
  static std::unique_ptr<TlsRecords> take_over(SSL* ssl, HandshakeWatch& watch);
  TlsRecords(const TlsRecords&) = delete;
  TlsRecords& operator=(const TlsRecords&) = delete;
  ~TlsRecords();

  enum class Outcome : std::uint8_t {
    data,
    ended,    // close_notify
    starved,  // more has to come from the socket
    failed,   // failure() says why; the peer has been told by an alert
  };
  // What is there, records after records as long as they find room. `count` bytes are in `out` with Outcome::data.
  Outcome read(Transport& transport, std::span<char> out, std::size_t& count);
  // True if read() could do something without the socket.
  bool has_pending() const;
  // True if nothing is held, failed or ended.
  bool at_rest() const { return !ended_ && !failure_ && plain_.empty() && raw_.empty(); }

  // One record with both pieces, together at most kRecordPlainMax bytes. The transport takes all of it. False: it can't
  // be sealed.
  bool write(Transport& transport, std::string_view first, std::string_view second);
  // close_notify, as far as the socket takes it.
  void end(Transport& transport);

  struct Failure {
    ErrorKind kind;
    std::string text;
  };
  const std::optional<Failure>& failure() const { return failure_; }

  static constexpr std::size_t kRecordPlainMax = 16'384;  // RFC 8446 section 5.1

 private:
  friend class HandshakeWatch;
  struct Ciphers;
  struct Key;
  friend bool enable_own_records(SSL_CTX* context, OSSL_LIB_CTX* lib);
  TlsRecords();
  std::size_t take_records(Transport& transport, std::span<char> bytes, std::span<char> out, std::size_t& count);
  void take_content(Transport& transport, unsigned char type, std::string_view content);
  void take_alert(Transport& transport, std::string_view alert);
  void take_handshake(Transport& transport, std::string_view messages);
  bool send_key_update(Transport& transport);
  bool seal(Transport& transport, unsigned char type, std::string_view first, std::string_view second);
  void fail(Transport& transport, int alert, std::string_view what);

  std::unique_ptr<Key> in_, out_;
  std::string raw_;    // received, and not opened yet
  std::string plain_;  // opened, and not asked for yet
  std::size_t plain_taken_ = 0;
  std::size_t ticket_left_ = 0;     // bytes of a ticket that goes on in the next record
  std::uint32_t without_data_ = 0;  // records in a row that carried no data
  bool client_ = false;
  bool ended_ = false;
  bool answer_due_ = false;  // the peer has asked for new keys
  std::optional<Failure> failure_;
};

}  // namespace sallyport::net
