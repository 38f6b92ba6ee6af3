#include "controller/link/server_identity.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "proxy/net/trust_store.h"

namespace sallyport::controller {
namespace {

std::unexpected<Error> unusable(std::string text) {
  return fail(ErrorSource::controller, ErrorKind::invalid, "the controller's certificate: " + std::move(text));
}

}  // namespace

Result<ServerIdentity> ServerIdentity::load(OSSL_LIB_CTX* lib, const std::string& certificates_pem,
                                            const std::string& key_pem) {
  net::PemObjects objects = net::read_pem_objects(lib, certificates_pem);
  if (objects.certificates.empty() || objects.malformed > 0) {
    return unusable("there is none in PEM, or one that can't be decoded");
  }
  ServerIdentity identity;
  identity.certificate_ = std::move(objects.certificates.front());
  identity.chain_.reset(sk_X509_new_null());
  if (!identity.chain_) return ca::openssl_failure("reading the controller's certificate");
  for (std::size_t i = 1; i < objects.certificates.size(); ++i) {
    ca::X509Ptr& issuer = objects.certificates[i];
    if (sk_X509_push(identity.chain_.get(), issuer.get()) > 0) ca::disown(issuer);  // it is the stack's now
  }
  const ca::BioPtr bio(BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())));
  // Without a passphrase: nobody is there to ask for one.
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  if (bio) identity.key_.reset(PEM_read_bio_PrivateKey_ex(bio.get(), nullptr, no_passphrase, nullptr, lib, nullptr));
  ERR_clear_error();
  if (!identity.key_) return unusable("its key is not in PEM, or is encrypted");
  const bool matches = X509_check_private_key(identity.certificate_.get(), identity.key_.get()) == 1;
  ERR_clear_error();
  if (!matches) return unusable("the key belongs to another one");
  return identity;
}

}  // namespace sallyport::controller
