#include "proxy/net/upstream_tls.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <map>

#include "base/limits.h"
#include "ca/openssl_ptr.h"
#include "ca/trust.h"
#include "proxy/net/certificate_failure.h"
#include "proxy/net/server_rules.h"
#include "proxy/net/system_roots.h"
#include "proxy/net/tls_kdf.h"
#include "proxy/net/tls_session_cache.h"
#include "proxy/net/trust_store.h"

namespace sallyport::net {

namespace {

// As towards the function: AES-128-GCM is the cheapest handshake. For TLS 1.2 the modern suites come first, and what
// old servers still need comes after them.
constexpr const char* kSuites13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* kSuites12 = "ECDHE+AESGCM:ECDHE+CHACHA20:DEFAULT:!aNULL:!eNULL:!PSK:!SRP";
constexpr const char* kGroups = "X25519:P-256:P-384:P-521";

// What goes with one SSL, and what its verification came to.
struct PeerCheck {
  ca::X509Ptr own_ca;                         // may be null
  std::shared_ptr<const WebRoots> web_roots;  // of the store
  std::shared_ptr<TlsSession> place;          // null: its session is not kept
  ChainVerdict verdict;
};

int peer_check_index() {
  static const int index =
      SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, [](void*, void* check, CRYPTO_EX_DATA*, int, long, void*) {
        const std::unique_ptr<PeerCheck> last_owner(static_cast<PeerCheck*>(check));
      });
  return index;
}

PeerCheck* peer_check(const SSL* ssl) { return static_cast<PeerCheck*>(SSL_get_ex_data(ssl, peer_check_index())); }

// Instead of OpenSSL's own verification.
int verify_peer(X509_STORE_CTX* verification, void*) {
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(verification, SSL_get_ex_data_X509_STORE_CTX_idx()));
  PeerCheck& check = *peer_check(ssl);
  check.verdict = verify_server(verification, *check.web_roots, check.own_ca.get());
  return check.verdict.good() ? 1 : 0;
}

int keep_session(SSL* ssl, SSL_SESSION* session) {
  PeerCheck* check = peer_check(ssl);
  if (check == nullptr || !check->place || SSL_get_verify_result(ssl) != X509_V_OK) return 0;
  if (SSL_session_reused(ssl) != 1) check->place->verified_at = Clock::now();
  check->place->session.reset(session);
  return 1;
}

std::unexpected<UpstreamFailure> refuse(std::string text) {
  return std::unexpected(UpstreamFailure{Reason::upstream_certificate, std::move(text)});
}

}  // namespace

struct UpstreamTls::Impl {
  Impl(OSSL_LIB_CTX* l, std::string more_roots_pem) : lib(l), roots(l, std::move(more_roots_pem)) {}

  // The store of one pair of files.
  struct Profile {
    std::optional<FileStamp> bundle_stamp, crl_stamp;
    std::uint64_t version = 0;  // no two profiles have the same: sessions of a file's old version are not resumed
    ca::X509StorePtr store;
    std::shared_ptr<const WebRoots> web_roots = std::make_shared<WebRoots>();  // those in the store
    std::string roots;                                                         // where they came from
  };

  // A client certificate with its key.
  struct Identity {
    std::optional<FileStamp> certificate_stamp, key_stamp;
    std::uint64_t version = 0;  // as of Profile
    ca::X509Ptr certificate;
    ca::X509StackPtr chain;
    ca::EvpPkeyPtr key;
  };

  bool configure(const std::vector<std::string>& protocols);
  std::expected<Identity*, UpstreamFailure> identity_of(const document::Endpoint& endpoint);
  std::expected<Identity, UpstreamFailure> read_identity(const document::Endpoint& endpoint);
  std::expected<Profile*, UpstreamFailure> profile_for(const document::Endpoint* endpoint);
  std::expected<Profile, UpstreamFailure> read_profile(const std::string& bundle_file, const std::string& crl_file);
  bool prepare(SSL* ssl, const TlsTarget& target, Profile& profile, Identity* identity);

  OSSL_LIB_CTX* lib;
  SystemRoots roots;
  ca::SslCtxPtr context;
  ca::X509Ptr own_ca;
  std::map<std::pair<std::string, std::string>, Profile> profiles;     // by CA bundle and CRL
  std::map<std::pair<std::string, std::string>, Identity> identities;  // by certificate and key
  std::uint64_t versions = 0;
  TlsSessionCache sessions;
};

bool UpstreamTls::Impl::configure(const std::vector<std::string>& protocols) {
  SSL_CTX* c = context.get();
  std::string alpn;
  for (const std::string& protocol : protocols) {
    if (protocol.empty() || protocol.size() > 255) return false;
    alpn.append(1, static_cast<char>(protocol.size())).append(protocol);
  }
  SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
  SSL_CTX_set_security_level(c, kServerSecurityLevel);
  SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_set_timeout(c, limits::kTlsSessionAgeMax.count());
  SSL_CTX_sess_set_new_cb(c, keep_session);
  enable_own_records(c, lib);
  SSL_CTX_set_cert_verify_callback(c, verify_peer, nullptr);
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER, nullptr);
  // ALPN's setter alone says 0 for success.
  return SSL_CTX_set_ciphersuites(c, kSuites13) == 1 && SSL_CTX_set_cipher_list(c, kSuites12) == 1 &&
         SSL_CTX_set1_groups_list(c, kGroups) == 1 &&
         SSL_CTX_set_alpn_protos(c, reinterpret_cast<const unsigned char*>(alpn.data()),
                                 static_cast<unsigned>(alpn.size())) == 0;
}

// Files may be replaced while the guard runs (a CRL has to be): a new version is read at the next connection.
std::expected<UpstreamTls::Impl::Profile*, UpstreamFailure> UpstreamTls::Impl::profile_for(
    const document::Endpoint* endpoint) {
  const std::string bundle = endpoint == nullptr ? std::string() : endpoint->ca_bundle_file;
  const std::string crl = endpoint == nullptr ? std::string() : endpoint->crl_file;
  const auto bundle_stamp = bundle.empty() ? std::nullopt : stamp_of(bundle);
  const auto crl_stamp = crl.empty() ? std::nullopt : stamp_of(crl);
  Profile& profile = profiles[{bundle, crl}];
  if (profile.store && profile.bundle_stamp == bundle_stamp && profile.crl_stamp == crl_stamp) return &profile;
  profile.store.reset();
  auto read = read_profile(bundle, crl);
  if (!read) return std::unexpected(std::move(read.error()));
  profile = std::move(*read);
  profile.bundle_stamp = bundle_stamp;
  profile.crl_stamp = crl_stamp;
  profile.version = ++versions;
  return &profile;
}

std::expected<UpstreamTls::Impl::Profile, UpstreamFailure> UpstreamTls::Impl::read_profile(
    const std::string& bundle_file, const std::string& crl_file) {
  Profile profile;
  profile.store.reset(X509_STORE_new());
  if (!profile.store) return refuse("out of memory for a certificate store");
  if (bundle_file.empty()) {
    auto web_roots = std::make_shared<WebRoots>();
    if (!use_roots(profile.store.get(), lib, roots.get(), web_roots)) return refuse("out of memory for the roots");
    profile.web_roots = std::move(web_roots);
    profile.roots = roots.get()->source;
  } else {
    const auto pem = read_trust_file(bundle_file);
    if (!pem) return refuse("caBundle " + pem.error().text);
    const PemObjects objects = read_pem_objects(lib, *pem);
    if (objects.certificates.empty()) return refuse("caBundle " + bundle_file + ": holds no certificate in PEM");
    if (objects.malformed > 0) return refuse("caBundle " + bundle_file + ": holds a certificate that can't be decoded");
    for (const ca::X509Ptr& root : objects.certificates) X509_STORE_add_cert(profile.store.get(), root.get());
    profile.roots = bundle_file;
  }
  if (crl_file.empty()) return profile;
  const auto pem = read_trust_file(crl_file);
  if (!pem) return refuse("crl " + pem.error().text);
  const PemObjects objects = read_pem_objects(lib, *pem);
  if (objects.crls.empty()) return refuse("crl " + crl_file + ": holds no CRL in PEM");
  if (objects.malformed > 0) return refuse("crl " + crl_file + ": holds a CRL that can't be decoded");
  for (const ca::X509CrlPtr& crl : objects.crls) X509_STORE_add_crl(profile.store.get(), crl.get());
  return profile;
}

std::expected<UpstreamTls::Impl::Identity*, UpstreamFailure> UpstreamTls::Impl::identity_of(
    const document::Endpoint& endpoint) {
  const auto certificate_stamp = stamp_of(endpoint.client_certificate_file);
  const auto key_stamp = stamp_of(endpoint.client_key_file);
  Identity& identity = identities[{endpoint.client_certificate_file, endpoint.client_key_file}];
  const bool current = identity.certificate_stamp == certificate_stamp && identity.key_stamp == key_stamp;
  if (identity.key && current) return &identity;
  identity = {};
  auto read = read_identity(endpoint);
  if (!read) return std::unexpected(std::move(read.error()));
  identity = std::move(*read);
  identity.certificate_stamp = certificate_stamp;
  identity.key_stamp = key_stamp;
  identity.version = ++versions;
  return &identity;
}

// Fails closed: a server that wants to know its client must not get requests from nobody instead. Nothing of the key's
// file stands in a message.
std::expected<UpstreamTls::Impl::Identity, UpstreamFailure> UpstreamTls::Impl::read_identity(
    const document::Endpoint& endpoint) {
  const auto refuse_identity = [&](const std::string& what) {
    return std::unexpected(UpstreamFailure{Reason::credential_unavailable,
                                           "the client certificate of endpoint '" + endpoint.name + "': " + what});
  };
  Identity identity;
  const auto pem = read_trust_file(endpoint.client_certificate_file);
  if (!pem) return refuse_identity(pem.error().text);
  PemObjects objects = read_pem_objects(lib, *pem);
  if (objects.certificates.empty() || objects.malformed > 0) {
    return refuse_identity(endpoint.client_certificate_file +
                           " holds no certificate in PEM, or one that can't be decoded");
  }
  identity.certificate = std::move(objects.certificates.front());
  identity.chain.reset(sk_X509_new_null());
  for (std::size_t i = 1; i < objects.certificates.size() && identity.chain; ++i) {
    ca::X509Ptr& issuer = objects.certificates[i];
    if (sk_X509_push(identity.chain.get(), issuer.get()) > 0) ca::disown(issuer);  // it is the stack's now
  }
  auto key_pem = read_trust_file(endpoint.client_key_file);
  if (!key_pem) return refuse_identity(key_pem.error().text);
  const ca::BioPtr bio(BIO_new_mem_buf(key_pem->data(), static_cast<int>(key_pem->size())));
  // Without a passphrase: nobody is there to ask for one.
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  if (bio) identity.key.reset(PEM_read_bio_PrivateKey_ex(bio.get(), nullptr, no_passphrase, nullptr, lib, nullptr));
  OPENSSL_cleanse(key_pem->data(), key_pem->size());
  ERR_clear_error();
  if (!identity.key)
    return refuse_identity(endpoint.client_key_file + " holds no private key in PEM, or an encrypted one");
  const bool matches = X509_check_private_key(identity.certificate.get(), identity.key.get()) == 1;
  ERR_clear_error();
  if (!matches) return refuse_identity("the key in " + endpoint.client_key_file + " is not the certificate's");
  return identity;
}

bool UpstreamTls::Impl::prepare(SSL* ssl, const TlsTarget& target, Profile& profile, Identity* identity) {
  auto check = std::make_unique<PeerCheck>();
  check->own_ca = ca::share(own_ca.get());
  check->web_roots = profile.web_roots;
  const bool with_crl = target.endpoint != nullptr && !target.endpoint->crl_file.empty();
  if (!with_crl) {
    std::string destination = target.host + ":" + std::to_string(target.port) + "/" + std::to_string(profile.version);
    if (target.endpoint != nullptr) destination += "/" + std::to_string(target.endpoint->index);
    // A session carries on who the client was.
    if (identity != nullptr) destination += "/as/" + std::to_string(identity->version);
    check->place = sessions.at(destination, target.policy);
    if (SSL_SESSION* session = TlsSessionCache::usable(*check->place, Clock::now())) SSL_set_session(ssl, session);
  }
  if (SSL_set_ex_data(ssl, peer_check_index(), check.get()) != 1) return false;
  ca::disown(check);  // it goes with the SSL
  if (identity != nullptr &&
      SSL_use_cert_and_key(ssl, identity->certificate.get(), identity->key.get(), identity->chain.get(), 1) != 1) {
    return false;
  }
  const ServerRules rules{.host = target.host, .literal = target.literal, .with_crl = with_crl};
  // SNI is for names only (RFC 6066 section 3).
  return SSL_set1_verify_cert_store(ssl, profile.store.get()) == 1 && set_rules(SSL_get0_param(ssl), rules) &&
         (target.literal || SSL_set_tlsext_host_name(ssl, target.host.c_str()) == 1);
}

UpstreamTls::UpstreamTls(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
UpstreamTls::~UpstreamTls() = default;

Result<std::unique_ptr<UpstreamTls>> UpstreamTls::create(OSSL_LIB_CTX* lib, UpstreamTlsOptions options) {
  if (!options.more_roots_pem.empty() && ca::certificates_of(options.more_roots_pem).empty()) {
    return fail(ErrorSource::internal, ErrorKind::invalid, "--upstream-ca: no certificate in the file");
  }
  auto impl = std::make_unique<Impl>(lib, std::move(options.more_roots_pem));
  impl->context.reset(SSL_CTX_new_ex(lib, kOwnKeySchedule, TLS_client_method()));
  if (!impl->context || peer_check_index() < 0 || !impl->configure(options.protocols)) {
    return ca::openssl_failure("setting up TLS towards upstream servers");
  }
  if (!options.own_ca_pem.empty()) {
    PemObjects own = read_pem_objects(lib, options.own_ca_pem);
    if (own.certificates.empty()) {
      return fail(ErrorSource::internal, ErrorKind::invalid, "the guard's own CA certificate can't be read");
    }
    impl->own_ca = std::move(own.certificates.front());
  }
  return std::unique_ptr<UpstreamTls>(new UpstreamTls(std::move(impl)));
}

std::expected<SslPtr, UpstreamFailure> UpstreamTls::connect_for(const TlsTarget& target) {
  const auto profile = impl_->profile_for(target.endpoint);
  if (!profile) return std::unexpected(profile.error());
  Impl::Identity* identity = nullptr;
  if (target.client_certificate && target.endpoint != nullptr && !target.endpoint->client_key_file.empty()) {
    const auto found = impl_->identity_of(*target.endpoint);
    if (!found) return std::unexpected(found.error());
    identity = *found;
  }
  SslPtr ssl(SSL_new(impl_->context.get()));
  if (!ssl || !impl_->prepare(ssl.get(), target, **profile, identity)) {
    return std::unexpected(
        UpstreamFailure{Reason::internal, "preparing TLS for " + target.host + ": " + ca::openssl_error()});
  }
  constexpr std::string_view kHttp1 = "\x08http/1.1";
  if (target.http1_only &&
      SSL_set_alpn_protos(ssl.get(), reinterpret_cast<const unsigned char*>(kHttp1.data()), kHttp1.size()) != 0) {
    return std::unexpected(UpstreamFailure{Reason::internal, "preparing TLS for " + target.host});
  }
  SSL_set_connect_state(ssl.get());
  return ssl;
}

UpstreamFailure UpstreamTls::explain(SSL* ssl, const TlsTarget& target, const Error& handshake_error) {
  const PeerCheck* check = ssl == nullptr ? nullptr : peer_check(ssl);
  if (check != nullptr && !check->verdict.good()) {
    const auto profile = impl_->profile_for(target.endpoint);
    return explain_certificate(check->verdict, profile ? std::string_view((*profile)->roots) : std::string_view(),
                               target);
  }
  std::string text = target.host + " port " + std::to_string(target.port) + ": " + handshake_error.text;
  const bool late = handshake_error.kind == ErrorKind::timeout;
  return {late ? Reason::upstream_timeout : Reason::upstream_tls, std::move(text)};
}

void UpstreamTls::policy_changed(const std::shared_ptr<const document::Snapshot>& policy) {
  impl_->sessions.keep_only(policy);
  impl_->profiles.clear();  // those in use belong to their connections
  impl_->identities.clear();
}

}  // namespace sallyport::net
