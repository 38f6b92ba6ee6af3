#include "proxy/net/tls_records.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "ca/openssl_ptr.h"

namespace sallyport::net {

namespace {

using EvpCipherPtr = ca::OpensslPtr<EVP_CIPHER, EVP_CIPHER_free>;
using EvpCipherCtxPtr = ca::OpensslPtr<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;
using EvpMacPtr = ca::OpensslPtr<EVP_MAC, EVP_MAC_free>;
using EvpMacCtxPtr = ca::OpensslPtr<EVP_MAC_CTX, EVP_MAC_CTX_free>;

constexpr std::size_t kHeaderBytes = 5;
constexpr std::size_t kTagBytes = 16;                      // of all three suites
constexpr std::size_t kNonceBytes = 12;                    // likewise
constexpr std::size_t kCipherTextMax = 16'384 + 256;       // RFC 8446 section 5.2
constexpr std::uint64_t kRecordsOfOneKeyMax = 1ULL << 24;  // RFC 8446 section 5.5, for AES-GCM
constexpr unsigned char kAlert = 21, kHandshake = 22, kData = 23;
constexpr unsigned char kNewSessionTicket = 4, kFinished = 20, kKeyUpdate = 24;

// Memory that all connections of a thread share: nothing stays in it between two calls. On the heap, as what threads
// have for themselves is written over with zeros when each of them starts.
template <class Purpose, std::size_t Size>
std::span<char> shared_memory() {
  static thread_local const auto memory = std::make_unique_for_overwrite<std::array<char, Size>>();
  return *memory;
}
struct Received;
struct Sealed;
std::span<char> receive_memory() {
  return shared_memory<Received, limits::kBulkBufferBytes + kHeaderBytes + kCipherTextMax>();
}
std::span<char> seal_memory() { return shared_memory<Sealed, kHeaderBytes + kCipherTextMax>(); }

unsigned char byte_at(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }
std::size_t content_size(std::string_view header) {
  return (std::size_t{byte_at(header, 3)} << 8) | byte_at(header, 4);
}

// Also one that is wrong: then there is something to say about it.
bool begins_with_whole_record(std::string_view bytes) {
  return bytes.size() >= kHeaderBytes &&
         bytes.size() - kHeaderBytes >= std::min(content_size(bytes), kCipherTextMax + 1);
}

void forget(std::string& bytes) {
  if (bytes.capacity() > std::string().capacity()) bytes = std::string();
  bytes.clear();
}

int nibble(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

int watch_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

}  // namespace

// One for each context, fetched once.
struct TlsRecords::Ciphers {
  EvpCipherPtr aes128, aes256, chacha;
  EvpMacCtxPtr hmac256, hmac384;
  std::shared_ptr<std::uint32_t> in_vain = std::make_shared<std::uint32_t>(0);  // HandshakeWatch's

  // Null when the context was not enabled.
  static std::shared_ptr<const Ciphers> of(SSL* ssl) {
    const auto* kept =
        static_cast<const std::shared_ptr<const Ciphers>*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), index()));
    return kept == nullptr ? nullptr : *kept;
  }
  static int index() {
    static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, drop);
    return index;
  }
  static void drop(void*, void* kept, CRYPTO_EX_DATA*, int, long, void*) {
    const std::unique_ptr<std::shared_ptr<const Ciphers>> owner(static_cast<std::shared_ptr<const Ciphers>*>(kept));
  }
  static EvpMacCtxPtr hmac(EVP_MAC* mac, const char* digest) {
    EvpMacCtxPtr context(EVP_MAC_CTX_new(mac));
    const std::array<OSSL_PARAM, 2> parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>(digest), 0),
        OSSL_PARAM_construct_end()};
    if (context && EVP_MAC_CTX_set_params(context.get(), parameters.data()) != 1) context.reset();
    return context;
  }
  bool fetch(OSSL_LIB_CTX* lib) {
    aes128.reset(EVP_CIPHER_fetch(lib, "AES-128-GCM", nullptr));
    aes256.reset(EVP_CIPHER_fetch(lib, "AES-256-GCM", nullptr));
    chacha.reset(EVP_CIPHER_fetch(lib, "ChaCha20-Poly1305", nullptr));
    const EvpMacPtr mac(EVP_MAC_fetch(lib, "HMAC", nullptr));
    if (!mac) return false;
    hmac256 = hmac(mac.get(), "SHA256");
    hmac384 = hmac(mac.get(), "SHA384");
    return aes128 && aes256 && chacha && hmac256 && hmac384;
  }
};

// One direction: its secret, and the cipher that was set up with it.
struct TlsRecords::Key {
  HandshakeWatch::Secret secret;
  EvpCipherCtxPtr cipher_context;
  const EVP_CIPHER* cipher = nullptr;
  EVP_MAC_CTX* hmac = nullptr;
  std::shared_ptr<const Ciphers> owner;
  std::array<unsigned char, kNonceBytes> iv{};
  std::uint64_t sequence = 0;
  bool seals = false;

  Key() = default;
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
  ~Key() {
    OPENSSL_cleanse(secret.bytes.data(), secret.bytes.size());
    OPENSSL_cleanse(iv.data(), iv.size());
  }

  bool choose(std::shared_ptr<const Ciphers> ciphers, std::uint16_t suite) {
    owner = std::move(ciphers);
    switch (suite) {
      case 0x1301:
        cipher = owner->aes128.get();
        break;
      case 0x1302:
        cipher = owner->aes256.get();
        break;
      case 0x1303:
        cipher = owner->chacha.get();
        break;
      default:
        return false;
    }
    hmac = suite == 0x1302 ? owner->hmac384.get() : owner->hmac256.get();
    return secret.size == (suite == 0x1302 ? 48U : 32U);
  }

  // HKDF-Expand-Label with an empty context, for what fits into one block (RFC 8446 section 7.1).
  bool derive(std::string_view label, std::span<unsigned char> out) const {
    constexpr std::string_view kPrefix = "tls13 ";
    std::string info{'\0', static_cast<char>(out.size()), static_cast<char>(kPrefix.size() + label.size())};
    info.append(kPrefix).append(label).append({'\0', '\1'});
    std::array<unsigned char, EVP_MAX_MD_SIZE> block;
    std::size_t size = 0;
    const bool done = EVP_MAC_init(hmac, secret.bytes.data(), secret.size, nullptr) == 1 &&
                      EVP_MAC_update(hmac, reinterpret_cast<const unsigned char*>(info.data()), info.size()) == 1 &&
                      EVP_MAC_final(hmac, block.data(), &size, block.size()) == 1 && size >= out.size();
    if (done) std::copy_n(block.begin(), out.size(), out.begin());
    OPENSSL_cleanse(block.data(), block.size());
    return done;
  }

  bool set_up() {
    std::array<unsigned char, EVP_MAX_KEY_LENGTH> key{};
    const auto size = static_cast<std::size_t>(EVP_CIPHER_get_key_length(cipher));
    if (!cipher_context) cipher_context.reset(EVP_CIPHER_CTX_new());
    const bool done =
        cipher_context && derive("key", std::span(key).first(size)) && derive("iv", iv) &&
        EVP_CipherInit_ex2(cipher_context.get(), cipher, key.data(), nullptr, seals ? 1 : 0, nullptr) == 1;
    OPENSSL_cleanse(key.data(), key.size());
    sequence = 0;
    return done;
  }

  // The next generation (RFC 8446 section 7.2).
  bool renew() {
    HandshakeWatch::Secret next;
    next.size = secret.size;
    const bool done = derive("traffic upd", std::span(next.bytes).first(next.size));
    secret = next;
    OPENSSL_cleanse(next.bytes.data(), next.bytes.size());
    return done && set_up();
  }

  // Seals `in` or opens it into `out`, which may be the same. The tag is written or compared.
  bool run(std::string_view header, std::string_view in, char* out, char* tag) {
    std::array<unsigned char, kNonceBytes> nonce = iv;
    for (std::size_t i = 0; i < 8; ++i) {
      nonce[kNonceBytes - 1 - i] ^= static_cast<unsigned char>(sequence >> (8 * i));
    }
    EVP_CIPHER_CTX* c = cipher_context.get();
    auto* to = reinterpret_cast<unsigned char*>(out);
    const auto* from = reinterpret_cast<const unsigned char*>(in.data());
    int size = 0, last = 0;
    const bool done = EVP_CipherInit_ex2(c, nullptr, nullptr, nonce.data(), -1, nullptr) == 1 &&
                      (seals || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, kTagBytes, tag) == 1) &&
                      EVP_CipherUpdate(c, nullptr, &size, reinterpret_cast<const unsigned char*>(header.data()),
                                       static_cast<int>(header.size())) == 1 &&
                      EVP_CipherUpdate(c, to, &size, from, static_cast<int>(in.size())) == 1 &&
                      EVP_CipherFinal_ex(c, to + size, &last) == 1 &&
                      static_cast<std::size_t>(size + last) == in.size() &&
                      (!seals || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag) == 1);
    ++sequence;
    return done;
  }
};

HandshakeWatch::~HandshakeWatch() {
  if (!taken_over_) ++*in_vain_;
  for (Secret* secret : {&client_, &server_}) OPENSSL_cleanse(secret->bytes.data(), secret->bytes.size());
}

std::unique_ptr<HandshakeWatch> HandshakeWatch::over(SSL* ssl) {
  constexpr std::uint32_t kVainMax = 16, kTryAgain = 16;
  const auto ciphers = TlsRecords::Ciphers::of(ssl);
  if (!ciphers) return nullptr;
  if (*ciphers->in_vain >= kVainMax && ++*ciphers->in_vain % kTryAgain != 0) return nullptr;
  std::unique_ptr<HandshakeWatch> watch(new HandshakeWatch(ciphers->in_vain));
  if (SSL_set_ex_data(ssl, watch_index(), watch.get()) != 1) return nullptr;
  SSL_set_msg_callback(ssl, on_message);
  SSL_set_msg_callback_arg(ssl, watch.get());
  return watch;
}

// OpenSSL tells of each message after the records that it came in, and of each record before it acts on it.
void HandshakeWatch::on_message(int write, int, int type, const void* bytes, std::size_t size, SSL* ssl, void* self) {
  auto& watch = *static_cast<HandshakeWatch*>(self);
  Direction& direction = write != 0 ? watch.out_ : watch.in_;
  const unsigned char first = size == 0 ? 0 : *static_cast<const unsigned char*>(bytes);
  if (type == SSL3_RT_INNER_CONTENT_TYPE && direction.finished) {
    ++direction.records;
    if (write == 0 && first == kData) ++watch.application_records_;
  } else if (type == SSL3_RT_HANDSHAKE) {
    if (first == kFinished) {
      direction = {true, 0};
      // The secrets that count are made next.
      SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), on_secret);
    }
    if (first == kNewSessionTicket && write == 0) watch.ticket_came_ = true;
    if (first == kKeyUpdate) watch.unsuitable_ = true;
  }
}

// "SERVER_TRAFFIC_SECRET_0 <client random> <secret>", the last two in hexadecimal digits.
void HandshakeWatch::on_secret(const SSL* ssl, const char* line) {
  auto* watch = static_cast<HandshakeWatch*>(SSL_get_ex_data(ssl, watch_index()));
  if (watch == nullptr) return;
  const std::string_view text(line);
  Secret* secret = text.starts_with("CLIENT_TRAFFIC_SECRET_0 ")   ? &watch->client_
                   : text.starts_with("SERVER_TRAFFIC_SECRET_0 ") ? &watch->server_
                                                                  : nullptr;
  if (secret == nullptr) return;
  const std::string_view digits = text.substr(text.rfind(' ') + 1);
  secret->size = digits.size() / 2;
  if (digits.size() % 2 != 0 || secret->size > secret->bytes.size()) {
    watch->unsuitable_ = true;
    return;
  }
  for (std::size_t i = 0; i < secret->size; ++i) {
    const int high = nibble(digits[2 * i]), low = nibble(digits[2 * i + 1]);
    if (high < 0 || low < 0) watch->unsuitable_ = true;
    secret->bytes[i] = static_cast<unsigned char>((high << 4) | low);
  }
}

bool enable_own_records(SSL_CTX* context, OSSL_LIB_CTX* lib) {
  auto ciphers = std::make_shared<TlsRecords::Ciphers>();
  if (TlsRecords::Ciphers::index() < 0 || watch_index() < 0 || !ciphers->fetch(lib)) {
    ERR_clear_error();
    return false;
  }
  auto kept = std::make_unique<std::shared_ptr<const TlsRecords::Ciphers>>(std::move(ciphers));
  if (SSL_CTX_set_ex_data(context, TlsRecords::Ciphers::index(), kept.get()) != 1) return false;
  ca::disown(kept);  // it goes with the context
  return true;
}

TlsRecords::TlsRecords() = default;
TlsRecords::~TlsRecords() = default;

std::unique_ptr<TlsRecords> TlsRecords::take_over(SSL* ssl, HandshakeWatch& watch) {
  SSL_set_ex_data(ssl, watch_index(), nullptr);  // whatever comes of it, the watch ends with this
  const bool ready = SSL_version(ssl) == TLS1_3_VERSION && !watch.unsuitable_ && watch.in_.finished &&
                     watch.out_.finished && SSL_has_pending(ssl) == 0 && SSL_want_write(ssl) == 0;
  const auto ciphers = Ciphers::of(ssl);
  if (!ready || !ciphers) return nullptr;
  const bool client = SSL_is_server(ssl) == 0;
  const auto suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl));
  std::unique_ptr<TlsRecords> records(new TlsRecords);
  records->client_ = client;
  records->in_ = std::make_unique<Key>();
  records->out_ = std::make_unique<Key>();
  records->in_->secret = client ? watch.server_ : watch.client_;
  records->out_->secret = client ? watch.client_ : watch.server_;
  records->out_->seals = true;
  for (Key* key : {records->in_.get(), records->out_.get()}) {
    if (!key->choose(ciphers, suite) || !key->set_up()) {
      ERR_clear_error();
      return nullptr;
    }
  }
  records->in_->sequence = watch.in_.records;
  records->out_->sequence = watch.out_.records;
  watch.taken_over_ = true;
  *watch.in_vain_ = 0;
  return records;
}

bool TlsRecords::has_pending() const { return !plain_.empty() || failure_ || ended_ || begins_with_whole_record(raw_); }

TlsRecords::Outcome TlsRecords::read(Transport& transport, std::span<char> out, std::size_t& count) {
  count = 0;
  if (!plain_.empty()) {
    count = plain_.copy(out.data(), out.size(), plain_taken_);
    plain_taken_ += count;
    if (plain_taken_ == plain_.size()) {
      forget(plain_);
      plain_taken_ = 0;
    }
    return Outcome::data;
  }
  while (!failure_ && !ended_) {
    const std::span<char> memory = receive_memory();
    std::size_t size = raw_.size();
    if (!begins_with_whole_record(raw_)) {
      const auto received = transport.receive(memory.subspan(size, memory.size() - size));
      // The end of the socket in front of that of TLS is the caller's to judge.
      if (received < 0 && transport.receive_error == 0) return Outcome::starved;
      if (received <= 0) return Outcome::failed;
      size += static_cast<std::size_t>(received);
    }
    raw_.copy(memory.data(), raw_.size());
    const std::size_t taken = take_records(transport, memory.first(size), out, count);
    forget(raw_);
    if (!failure_ && !ended_ && taken < size) raw_.assign(memory.data() + taken, size - taken);
    if (count > 0) return Outcome::data;
  }
  return failure_ ? Outcome::failed : Outcome::ended;
}

// Opens the records that are whole, as long as they find room in `out`; the first does always. Returns how many bytes
// they took.
std::size_t TlsRecords::take_records(Transport& transport, std::span<char> bytes, std::span<char> out,
                                     std::size_t& count) {
  std::size_t at = 0;
  while (!failure_ && !ended_ && bytes.size() - at >= kHeaderBytes) {
    const std::string_view header(bytes.data() + at, kHeaderBytes);
    const std::size_t size = content_size(header);
    if (byte_at(header, 0) != kData || byte_at(header, 1) != 3 || byte_at(header, 2) != 3) {
      fail(transport, SSL_AD_UNEXPECTED_MESSAGE, "a record that is not encrypted application data");
      break;
    }
    if (size > kCipherTextMax || size < kTagBytes + 1) {
      fail(transport, size > kCipherTextMax ? SSL_AD_RECORD_OVERFLOW : SSL_AD_DECODE_ERROR,
           "a record that is too long or too short");
      break;
    }
    if (bytes.size() - at - kHeaderBytes < size) break;
    std::size_t plain = size - kTagBytes;
    const bool direct = plain <= out.size() - count;
    if (!direct && count > 0) break;
    char* const content = bytes.data() + at + kHeaderBytes;
    char* const target = direct ? out.data() + count : content;
    if (!in_->run(header, {content, plain}, target, content + plain)) {
      ERR_clear_error();
      fail(transport, SSL_AD_BAD_RECORD_MAC, "a record that was forged or damaged");
      break;
    }
    at += kHeaderBytes + size;
    while (plain > 0 && target[plain - 1] == 0) --plain;  // padding
    if (plain == 0 || plain - 1 > kRecordPlainMax) {
      fail(transport, plain == 0 ? SSL_AD_UNEXPECTED_MESSAGE : SSL_AD_RECORD_OVERFLOW, "a record without content type");
      break;
    }
    --plain;
    take_content(transport, static_cast<unsigned char>(target[plain]), {target, plain});
    if (failure_ || ended_ || target[plain] != kData) continue;
    const std::size_t fits = std::min(plain, out.size() - count);
    if (!direct) std::memcpy(out.data() + count, target, fits);
    count += fits;
    if (fits < plain) plain_.assign(target + fits, plain - fits);
    if (!direct) break;
  }
  return at;
}

// What a record of this type means for the connection. Data itself is the caller's.
void TlsRecords::take_content(Transport& transport, unsigned char type, std::string_view content) {
  // Records that carry nothing cost their sender less than us.
  without_data_ = type == kData && !content.empty() ? 0 : without_data_ + 1;
  if (without_data_ > limits::kTlsEmptyRecordsMax) {
    return fail(transport, SSL_AD_UNEXPECTED_MESSAGE, "too many records without data");
  }
  if (type != kHandshake && ticket_left_ > 0) {
    return fail(transport, SSL_AD_UNEXPECTED_MESSAGE, "another record inside of a handshake message");
  }
  switch (type) {
    case kData:
      return;
    case kAlert:
      return take_alert(transport, content);
    case kHandshake:
      return take_handshake(transport, content);
    default:
      return fail(transport, SSL_AD_UNEXPECTED_MESSAGE, "a record of an unknown type");
  }
}

void TlsRecords::take_alert(Transport& transport, std::string_view alert) {
  if (alert.size() != 2) return fail(transport, SSL_AD_DECODE_ERROR, "an alert that is not one");
  const int description = byte_at(alert, 1);
  if (description == SSL_AD_CLOSE_NOTIFY) {
    ended_ = true;
  } else if (description != SSL_AD_USER_CANCELLED) {
    failure_ = Failure{ErrorKind::refused,
                       std::string("the peer sent the TLS alert '") + SSL_alert_desc_string_long(description) + "'"};
  }
}

// After the handshake a server may send tickets, which nobody here uses any more, and either side new keys.
void TlsRecords::take_handshake(Transport& transport, std::string_view messages) {
  constexpr std::size_t kMessageHeader = 4;
  while (!messages.empty()) {
    if (ticket_left_ > 0) {
      const std::size_t part = std::min(ticket_left_, messages.size());
      ticket_left_ -= part;
      messages.remove_prefix(part);
      continue;
    }
    if (messages.size() < kMessageHeader) {
      return fail(transport, SSL_AD_UNEXPECTED_MESSAGE, "a handshake message in pieces");
    }
    const std::size_t size =
        (std::size_t{byte_at(messages, 1)} << 16) | (std::size_t{byte_at(messages, 2)} << 8) | byte_at(messages, 3);
    if (byte_at(messages, 0) == kNewSessionTicket && client_ && size <= kRecordPlainMax) {
      messages.remove_prefix(kMessageHeader);
      ticket_left_ = size;
      continue;
    }
    // RFC 8446 section 5.1: it ends its record, as what follows has another key.
    const bool update = byte_at(messages, 0) == kKeyUpdate && size == 1 && messages.size() == kMessageHeader + 1;
    if (!update || byte_at(messages, kMessageHeader) > 1) {
      return fail(transport, SSL_AD_UNEXPECTED_MESSAGE, "a handshake message that has no place here");
    }
    if (!in_->renew()) return fail(transport, SSL_AD_INTERNAL_ERROR, "no memory for new keys");
    answer_due_ = answer_due_ || byte_at(messages, kMessageHeader) == 1;
    // While older records wait for the socket one answer is enough for all that ask.
    if (answer_due_ && !transport.holds() && !send_key_update(transport)) {
      return fail(transport, SSL_AD_INTERNAL_ERROR, "no memory for new keys");
    }
    return;
  }
}

bool TlsRecords::send_key_update(Transport& transport) {
  answer_due_ = false;
  constexpr std::string_view kUpdate("\x18\0\0\1\0", 5);  // and does not ask for one
  return seal(transport, kHandshake, kUpdate, {}) && out_->renew();
}

bool TlsRecords::write(Transport& transport, std::string_view first, std::string_view second) {
  if (failure_) return false;
  const bool worn = out_->sequence >= kRecordsOfOneKeyMax;
  if ((answer_due_ || worn) && !send_key_update(transport)) return false;
  return seal(transport, kData, first, second);
}

void TlsRecords::end(Transport& transport) {
  if (!failure_) seal(transport, kAlert, {"\1\0", 2}, {});
}

bool TlsRecords::seal(Transport& transport, unsigned char type, std::string_view first, std::string_view second) {
  const std::span<char> memory = seal_memory();
  const std::size_t plain = first.size() + second.size() + 1;
  const std::size_t size = plain + kTagBytes;
  if (plain > kRecordPlainMax + 1) return false;
  const std::array<char, kHeaderBytes> header{static_cast<char>(kData), 3, 3, static_cast<char>(size >> 8),
                                              static_cast<char>(size & 0xff)};
  char* const content = std::ranges::copy(header, memory.begin()).out.base();
  char* end = content + first.copy(content, first.size());
  end += second.copy(end, second.size());
  *end = static_cast<char>(type);
  if (!out_->run({header.data(), header.size()}, {content, plain}, content, content + plain)) {
    ERR_clear_error();
    return false;
  }
  transport.push({memory.data(), kHeaderBytes + size});
  return true;
}

// Fails closed: nothing more is read or written, and the peer is told why.
void TlsRecords::fail(Transport& transport, int alert, std::string_view what) {
  const std::array<char, 2> bytes{2, static_cast<char>(alert)};
  seal(transport, kAlert, {bytes.data(), bytes.size()}, {});
  failure_ = Failure{ErrorKind::malformed, "the peer sent " + std::string(what)};
}

}  // namespace sallyport::net
