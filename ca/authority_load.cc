// Authority::load: what is asked of a CA from outside, and how it is told when it is not met.

#include <openssl/err.h>

#include <optional>

#include "ca/authority.h"
#include "ca/certificate_form.h"
#include "ca/read_pem.h"

namespace sallyport::ca {
namespace {

// Why `certificate` can't issue, if so. Which way it fails: the CA is refused at start, before anything is served.
std::optional<Error> why_no_ca(X509* certificate, std::string_view path, TimePoint now) {
  const std::string who = std::string(path) + ": " + subject_text(certificate);
  const auto error = [&](std::string_view why, ErrorKind kind) {
    return Error{ErrorSource::internal, kind, who + " " + std::string(why)};
  };
  if (X509_check_ca(certificate) != 1) {
    return error(
        "is not a CA: it needs basicConstraints CA:TRUE, and keyCertSign if it has a keyUsage. "
        "`sallyport ca init` makes one",
        ErrorKind::invalid);
  }
  const auto from = time_of(X509_get0_notBefore(certificate));
  const auto to = time_of(X509_get0_notAfter(certificate));
  if (!from || !to) return error("has no readable validity", ErrorKind::malformed);
  if (now < *from) return error("is not valid yet; is the clock of this machine right?", ErrorKind::unverified);
  if (now >= *to) return error("has expired; make or ask for a new one", ErrorKind::unverified);
  EVP_PKEY* key = X509_get0_pubkey(certificate);
  if (key == nullptr) return error("has a public key that can't be read", ErrorKind::malformed);
  if (const auto weak = why_weak(key)) return error("can't be used: " + *weak, ErrorKind::unverified);
  return std::nullopt;
}

bool issued(X509* issuer, X509* subject) {
  return X509_check_issued(issuer, subject) == X509_V_OK && X509_verify(subject, X509_get0_pubkey(issuer)) == 1;
}

std::optional<Error> why_no_chain(std::span<const X509Ptr> certificates, std::string_view path, TimePoint now) {
  for (std::size_t i = 0; i < certificates.size(); ++i) {
    if (auto error = why_no_ca(certificates[i].get(), path, now)) return error;
    if (i > 0 && !issued(certificates[i].get(), certificates[i - 1].get())) {
      ERR_clear_error();
      return Error{ErrorSource::internal, ErrorKind::invalid,
                   std::string(path) + ": " + subject_text(certificates[i].get()) + " did not issue " +
                       subject_text(certificates[i - 1].get()) +
                       "; put the CA's own certificate first and the one that issued it after it"};
    }
  }
  return std::nullopt;
}

std::unexpected<Error> not_its_key(std::string_view key, std::string_view certificate_path, X509* certificate) {
  ERR_clear_error();
  return refuse_file(key, "this private key does not belong to the certificate in " + std::string(certificate_path) +
                              " (" + subject_text(certificate) + ")");
}

}  // namespace

Result<Authority> Authority::load(OSSL_LIB_CTX* lib, PemFile certificate, PemFile key, TimePoint now) {
  auto certificates = read_certificates(lib, certificate);
  if (!certificates) return std::unexpected(certificates.error());
  if (auto error = why_no_chain(*certificates, certificate.path, now)) return std::unexpected(std::move(*error));
  auto private_key = read_key(lib, key);
  if (!private_key) return std::unexpected(private_key.error());
  if (X509_check_private_key(certificates->front().get(), private_key->get()) != 1) {
    return not_its_key(key.path, certificate.path, certificates->front().get());
  }
  return assemble(lib, std::move(*private_key), std::move(*certificates));
}

Result<Authority> Authority::of_key(OSSL_LIB_CTX* lib, PemFile certificate, EvpPkeyPtr key, TimePoint now) {
  auto certificates = read_certificates(lib, certificate);
  if (!certificates) return std::unexpected(certificates.error());
  if (auto error = why_no_chain(*certificates, certificate.path, now)) return std::unexpected(std::move(*error));
  if (X509_check_private_key(certificates->front().get(), key.get()) != 1) {
    return not_its_key("the key", certificate.path, certificates->front().get());
  }
  return assemble(lib, std::move(key), std::move(*certificates));
}

Result<Authority> Authority::with_certificates(PemFile certificate, TimePoint now) const {
  return of_key(lib_, certificate, share(key_.get()), now);
}

}  // namespace sallyport::ca
