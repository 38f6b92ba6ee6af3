#pragma once
// A certificate authority in memory: makes or loads a CA and issues server certificates under it. Bytes come in and go
// out; time is an argument. docs/certificates.md gives the reasons for the profile.
//
// An Authority belongs to one OSSL_LIB_CTX and one thread: nothing made from it may be used with another context. Other
// workers take a copy of their own with clone_into().

#include <openssl/types.h>

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/limits.h"
#include "ca/certificate_request.h"
#include "ca/openssl_ptr.h"
#include "ca/permitted_hosts.h"

namespace sallyport::ca {

// Seconds, as certificates have them: a clock of nanoseconds ends in 2262, and "never" in a certificate is the end of
// 9999 (RFC 5280 section 4.1.2.5).
using TimePoint = std::chrono::sys_seconds;

// The content of a file and the name by which errors speak of it.
struct PemFile {
  std::string_view path;
  std::string_view text;
};

struct RootOptions {
  std::string name = "Sallyport root";  // the subject's common name: 1 to 64 bytes of UTF-8 without control characters
  std::chrono::seconds lifetime = limits::kRootLifetime;
};

class Authority {
 public:
  Authority(Authority&&) noexcept = default;
  Authority& operator=(Authority&&) noexcept = default;

  // A new self-signed P-256 root: critical basicConstraints CA, critical keyUsage keyCertSign and cRLSign, SKI. `lib`
  // may be null (the default context) and must outlive the Authority.
  static Result<Authority> create_root(OSSL_LIB_CTX* lib, const RootOptions& options, TimePoint now);

  // A CA from outside: `certificate` holds the CA's certificate first, then what leads to its root, if anything; `key`
  // its private key (EC, RSA or EdDSA). Refused, with the file's path and the remedy: no PEM, not a CA, not valid at
  // `now`, a weak key, an encrypted key, a key of another certificate, a chain whose links do not fit. What only some
  // clients would mind is in authority_problems() (ca/profile.h).
  static Result<Authority> load(OSSL_LIB_CTX* lib, PemFile certificate, PemFile key, TimePoint now);

  // A CA whose key is here already, with the certificates that others have made for it.
  static Result<Authority> of_key(OSSL_LIB_CTX* lib, PemFile certificate, EvpPkeyPtr key, TimePoint now);
  // The same for this one's key, in its context: certificates that are newer.
  Result<Authority> with_certificates(PemFile certificate, TimePoint now) const;

  // The same CA for another context; for its own, a second owner of the same objects.
  Result<Authority> clone_into(OSSL_LIB_CTX* lib) const;

  // An intermediate CA of its own key below this one: pathlen 0, and (when `permitted_dns` is not empty) critical name
  // constraints that allow those names and what is below them, and no IP address.
  Result<Authority> issue_intermediate(std::string_view name, std::span<const std::string> permitted_dns,
                                       std::chrono::seconds lifetime, TimePoint now) const;

  // An intermediate CA for the key of a PKCS #10 request, of which nothing else counts: pathlen 0, and critical name
  // constraints to `permitted`. ErrorKind::limit: these are more than limits::kPermittedHostsBytesMax.
  Result<X509Ptr> sign_intermediate(const RequestedKey& key, std::string_view name, const PermittedHosts& permitted,
                                    std::chrono::seconds lifetime, TimePoint now) const;

  // A server certificate for `hosts` (1 to limits::kLeafNamesMax canonical names or IP literals without brackets) and
  // the public half of `key`: empty subject, critical SAN, critical CA:FALSE, digitalSignature (and keyEncipherment for
  // an RSA key), serverAuth, AKI equal to this CA's stored SKI, no SKI of its own, a random serial of 16 octets.
  // Backdated by limits::kCertificateBackdating; ends after `lifetime` or with the CA or its chain, whichever comes
  // first. Wildcards and anything that is not a host are refused; so is everything once the CA has expired. Whether
  // clients will take it is permitted()'s to say.
  Result<X509Ptr> issue_leaf(std::span<const std::string_view> hosts, EVP_PKEY* key, std::chrono::seconds lifetime,
                             TimePoint now) const;

  // What a server sends after a leaf: this CA's certificate unless it is a root, then the rest of its chain without the
  // root. Null when that is nothing. Valid as long as the Authority.
  STACK_OF(X509) * chain() const { return chain_.get(); }
  std::span<const X509Ptr> path() const { return path_; }  // this CA, then what leads to its root; never empty
  X509* certificate() const { return path_.front().get(); }
  OSSL_LIB_CTX* lib() const { return lib_; }
  TimePoint not_after() const { return not_after_; }              // the earliest of this certificate and its chain
  const PermittedHosts& permitted() const { return permitted_; }  // by this certificate

  // What clients must trust: the root of the chain, or this certificate when no root was given.
  const std::string& trust_pem() const { return trust_pem_; }
  // This certificate and its chain, the root included: what load() takes.
  const std::string& certificate_pem() const { return certificate_pem_; }
  // For `ca init`, which writes it down; a guard never does.
  EVP_PKEY* key() const { return key_.get(); }

 private:
  Authority() = default;
  static Result<Authority> assemble(OSSL_LIB_CTX* lib, EvpPkeyPtr key, std::vector<X509Ptr> certificates);
  friend class LeafCache;

  // Of a form that has its key.
  Result<X509Ptr> make_intermediate(X509Ptr form, std::string_view name, const PermittedHosts& permitted,
                                    std::chrono::seconds lifetime, TimePoint now) const;

  // A leaf in all but its names, dates and serial, which complete_leaf writes into it for each that it makes: building
  // one anew, or copying it, costs twice as much, as encoding and decoding the public key is what is dear.
  Result<X509Ptr> leaf_form(EVP_PKEY* key) const;
  Result<X509Ptr> complete_leaf(X509* form, std::span<const std::string_view> hosts, std::chrono::seconds lifetime,
                                TimePoint now) const;
  bool name_issuer(X509* below) const;  // the issuer's name, and the AKI
  bool sign(X509* below) const;
  TimePoint backdated(TimePoint now) const;
  std::optional<Error> why_not_now(TimePoint now) const;

  OSSL_LIB_CTX* lib_ = nullptr;
  EvpPkeyPtr key_;
  std::vector<X509Ptr> path_;
  X509StackPtr chain_;
  X509ExtensionPtr authority_key_id_;
  std::string trust_pem_;
  std::string certificate_pem_;
  PermittedHosts permitted_;
  TimePoint not_before_{};
  TimePoint not_after_{};
};

// A fresh P-256 key in `lib`.
Result<EvpPkeyPtr> make_p256_key(OSSL_LIB_CTX* lib);

// The PEM of a certificate and of what goes after it; `chain` may be null.
Result<std::string> chain_pem(X509* certificate, const STACK_OF(X509) * chain);

// PKCS#8 PEM, not encrypted, in memory that is wiped when the BIO goes.
Result<BioPtr> private_key_pem(EVP_PKEY* key);

}  // namespace sallyport::ca
