#include "proxy/net/tls_context.h"

#include <array>
#include <span>

#include "base/limits.h"
#include "base/random.h"
#include "ca/openssl_ptr.h"
#include "proxy/net/tls_kdf.h"

namespace sallyport::net {

namespace {

// AES-128-GCM first: its handshake hashes with SHA-256, which processors have instructions for, and SHA-384 they have
// not.
constexpr const char* kSuites13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
// Leaves have P-256 keys, so nothing but ECDSA could be chosen.
constexpr const char* kSuites12 =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305";
constexpr const char* kGroups = "X25519:P-256:P-384";

constexpr std::size_t kTicketKeyBytes = 80;  // name, HMAC key, AES key: what OpenSSL takes

// One for the process, so that a ticket is good at every worker, and never written down.
std::optional<std::array<unsigned char, kTicketKeyBytes>> ticket_key() {
  static const auto key = []() -> std::optional<std::array<unsigned char, kTicketKeyBytes>> {
    std::array<unsigned char, kTicketKeyBytes> bytes;
    if (!random_bytes(bytes)) return std::nullopt;
    return bytes;
  }();
  return key;
}

}  // namespace

struct ServerTls::Impl {
  ca::SslCtxPtr context;
  ca::EvpMdPtr sha256;
  std::string protocols;  // as ALPN writes them: each with its length before it
  std::string reversed;   // the same, the last first; for an SSL whose application data is not null

  unsigned untaken = 0;  // tickets given out since one was taken up
  unsigned without = 0;  // connections since then that got none

  bool configure(OSSL_LIB_CTX* lib);
  bool gives_ticket();
  static int choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size,
                             const unsigned char* offered, unsigned int offered_size, void* self);
};

bool ServerTls::Impl::configure(OSSL_LIB_CTX* lib) {
  SSL_CTX* c = context.get();
  SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
  // Without early data there is nothing to replay, and tickets need no memory here.
  SSL_CTX_set_options(
      c, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_ANTI_REPLAY);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_alpn_select_cb(c, choose_protocol, this);
  auto key = ticket_key();
  enable_own_records(c, lib);
  return key && SSL_CTX_set_ciphersuites(c, kSuites13) == 1 && SSL_CTX_set_cipher_list(c, kSuites12) == 1 &&
         SSL_CTX_set1_groups_list(c, kGroups) == 1 && SSL_CTX_set_num_tickets(c, 1) == 1 &&
         SSL_CTX_set_tlsext_ticket_keys(c, key->data(), static_cast<long>(key->size())) == 1;
}

bool ServerTls::Impl::gives_ticket() {
  if (untaken >= limits::kTicketsUntakenMax && ++without % limits::kTicketsUntakenEvery != 0) return false;
  ++untaken;
  return true;
}

// The first of ours that the client offers. A client that speaks none of them is refused here, where it can tell why,
// rather than misunderstood later.
int ServerTls::Impl::choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size,
                                     const unsigned char* offered, unsigned int offered_size, void* self) {
  const Impl& impl = *static_cast<Impl*>(self);
  const std::string& ours = SSL_get_app_data(ssl) == nullptr ? impl.protocols : impl.reversed;
  const std::string_view theirs(reinterpret_cast<const char*>(offered), offered_size);
  for (std::size_t i = 0; i < ours.size(); i += 1 + static_cast<unsigned char>(ours[i])) {
    const std::string_view protocol(ours.data() + i, 1U + static_cast<unsigned char>(ours[i]));
    for (std::size_t j = 0; j < theirs.size(); j += 1 + static_cast<unsigned char>(theirs[j])) {
      if (theirs.substr(j, protocol.size()) != protocol) continue;
      *chosen = reinterpret_cast<const unsigned char*>(protocol.data() + 1);
      *chosen_size = static_cast<unsigned char>(protocol[0]);
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

ServerTls::ServerTls(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ServerTls::~ServerTls() = default;

Result<std::unique_ptr<ServerTls>> ServerTls::create(OSSL_LIB_CTX* lib, std::vector<std::string> protocols) {
  auto impl = std::make_unique<Impl>();
  for (const std::string& protocol : protocols) {
    if (protocol.empty() || protocol.size() > 255) {
      return fail(ErrorSource::internal, ErrorKind::invalid, "a protocol for ALPN has 1 to 255 bytes");
    }
    const std::string written = static_cast<char>(protocol.size()) + protocol;
    impl->protocols += written;
    impl->reversed.insert(0, written);
  }
  impl->context.reset(SSL_CTX_new_ex(lib, kOwnKeySchedule, TLS_server_method()));
  impl->sha256.reset(EVP_MD_fetch(lib, "SHA256", nullptr));
  if (!impl->context || !impl->sha256 || !impl->configure(lib)) {
    return ca::openssl_failure("setting up TLS towards the function");
  }
  return std::unique_ptr<ServerTls>(new ServerTls(std::move(impl)));
}

Result<SslPtr> ServerTls::accept_for(const ca::Leaf& leaf, std::string_view host, bool reversed) {
  SslPtr ssl(SSL_new(impl_->context.get()));
  // A ticket resumes only where this is the same: under another name it is as if there were none.
  std::array<unsigned char, SSL_MAX_SID_CTX_LENGTH> digest;
  unsigned int size = 0;
  if (!ssl || SSL_use_cert_and_key(ssl.get(), leaf.certificate, leaf.key, leaf.chain, 1) != 1 ||
      EVP_Digest(host.data(), host.size(), digest.data(), &size, impl_->sha256.get(), nullptr) != 1 ||
      SSL_set_session_id_context(ssl.get(), digest.data(), size) != 1) {
    return ca::openssl_failure("preparing TLS for " + std::string(host));
  }
  if (reversed && SSL_set_app_data(ssl.get(), impl_.get()) != 1) {
    return ca::openssl_failure("preparing TLS for " + std::string(host));
  }
  if (!impl_->gives_ticket()) SSL_set_num_tickets(ssl.get(), 0);
  SSL_set_accept_state(ssl.get());
  return ssl;
}

void ServerTls::completed(const SSL* ssl) {
  if (SSL_session_reused(ssl) == 1) impl_->untaken = impl_->without = 0;
}

}  // namespace sallyport::net
