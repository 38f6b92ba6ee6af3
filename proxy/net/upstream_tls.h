#pragma once
// TLS towards upstream servers: which roots are trusted, what a certificate must be, and what to say when it is not.

#include <openssl/types.h>

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/reason.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/address.h"
#include "proxy/net/stream.h"

namespace sallyport::net {

// Why there is no upstream. The text is for people: it names host, addresses or certificate, and the remedy.
struct UpstreamFailure {
  Reason reason = Reason::internal;
  std::string text;
};

struct UpstreamTlsOptions {
  std::string more_roots_pem = {};  // --upstream-ca: trusted besides the system's roots; may be empty
  // The guard's own CA, first in this text: refused wherever it turns up in a server's chain. What follows it is not: a
  // company's root that the guard's CA stands under may well have issued servers.
  std::string own_ca_pem = {};
  std::vector<std::string> protocols = {"http/1.1"};  // offered by ALPN, best first
};

// What a connection is verified against.
struct TlsTarget {
  std::string host;                           // canonical
  std::optional<request::IpAddress> literal;  // set when the host is an IP address
  std::uint16_t port = 0;
  const document::Endpoint* endpoint = nullptr;      // its ca_bundle_file and crl_file; may be null
  std::shared_ptr<const document::Snapshot> policy;  // keeps the endpoint; sessions are not resumed across policies
  bool client_certificate = false;                   // the endpoint's is shown, if it has one
  bool http1_only = false;                           // offers no other protocol
};

// Of one worker, on its thread, in its OSSL_LIB_CTX.
class UpstreamTls {
 public:
  // Starts to load the system's roots in the background (a few ms); the first connect_for() that needs them waits
  // for it.
  static Result<std::unique_ptr<UpstreamTls>> create(OSSL_LIB_CTX* lib, UpstreamTlsOptions options);
  ~UpstreamTls();
  UpstreamTls(const UpstreamTls&) = delete;
  UpstreamTls& operator=(const UpstreamTls&) = delete;

  // An SSL in connect state: SNI (not for addresses), verification of the chain and the name, ALPN, a session to resume
  // if there is one. TLS 1.2 at least; RSA keys under 2048 bits, EC keys under 224, and signatures with SHA-1 or MD5
  // are refused. With a CRL the server's certificate must be covered by a current one of its issuer; the CAs above it
  // are checked where there is one, and nothing is resumed. Fails closed when the endpoint's files can't be read; they
  // are read again when they change.
  std::expected<SslPtr, UpstreamFailure> connect_for(const TlsTarget& target);
  // Why a handshake with that SSL failed: each certificate error has its own reason.
  UpstreamFailure explain(SSL* ssl, const TlsTarget& target, const Error& handshake_error);
  // Forgets stores and sessions of other policies.
  void policy_changed(const std::shared_ptr<const document::Snapshot>& policy);

 private:
  struct Impl;
  explicit UpstreamTls(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::net
