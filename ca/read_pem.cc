#include "ca/read_pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>

namespace sallyport::ca {
namespace {

BioPtr reader(std::string_view text) { return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

bool queue_ends_with(int library, int reason) {
  const unsigned long code = ERR_peek_last_error();
  return ERR_GET_LIB(code) == library && ERR_GET_REASON(code) == reason;
}

// Says that a passphrase was asked for instead of asking somebody on the terminal.
int note_passphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

}  // namespace

std::unexpected<Error> refuse_file(std::string_view path, std::string_view why) {
  return fail(ErrorSource::internal, ErrorKind::invalid, std::string(path) + ": " + std::string(why));
}

Result<std::vector<X509Ptr>> read_certificates(OSSL_LIB_CTX* lib, PemFile file) {
  if (file.text.size() > limits::kCaPemBytesMax)
    return refuse_file(file.path, "too large for the certificates of one CA");
  const BioPtr bio = reader(file.text);
  std::vector<X509Ptr> certificates;
  bool asked = false;
  ERR_clear_error();
  while (bio) {
    X509* certificate = X509_new_ex(lib, nullptr);
    if (PEM_read_bio_X509(bio.get(), &certificate, note_passphrase, &asked) == nullptr) {
      X509_free(certificate);
      break;
    }
    certificates.emplace_back(certificate);
    if (certificates.size() > limits::kCaChainMax) {
      return refuse_file(file.path,
                         "holds more than " + std::to_string(limits::kCaChainMax) +
                             " certificates; only the CA's own and those that lead to its root belong there");
    }
  }
  if (asked) return refuse_file(file.path, "a certificate in it is encrypted; certificates are public: decrypt it");
  if (!queue_ends_with(ERR_LIB_PEM, PEM_R_NO_START_LINE)) {
    return refuse_file(file.path, "a certificate in it can't be read: " + openssl_error());
  }
  ERR_clear_error();
  if (certificates.empty()) {
    const bool key = file.text.find("PRIVATE KEY-----") != std::string_view::npos;
    return refuse_file(file.path,
                       key ? "holds a private key but no certificate; are the certificate and the key swapped?"
                           : "holds no PEM certificate (-----BEGIN CERTIFICATE-----)");
  }
  return certificates;
}

Result<EvpPkeyPtr> read_key(OSSL_LIB_CTX* lib, PemFile file) {
  if (file.text.size() > limits::kCaPemBytesMax) return refuse_file(file.path, "too large for a private key");
  const BioPtr bio = reader(file.text);
  bool asked = false;
  ERR_clear_error();
  EvpPkeyPtr key(bio ? PEM_read_bio_PrivateKey_ex(bio.get(), nullptr, note_passphrase, &asked, lib, nullptr) : nullptr);
  if (key) return key;
  const std::string reason = openssl_error();
  if (asked) {
    return refuse_file(file.path, "the private key is encrypted; decrypt it first: openssl pkey -in " +
                                      std::string(file.path) + " -out decrypted.key");
  }
  if (file.text.find("PRIVATE KEY-----") == std::string_view::npos) {
    const bool certificate = file.text.find("-----BEGIN CERTIFICATE-----") != std::string_view::npos;
    return refuse_file(file.path,
                       certificate ? "holds a certificate but no private key; are the certificate and the key swapped?"
                                   : "holds no PEM private key (-----BEGIN PRIVATE KEY-----)");
  }
  return refuse_file(file.path, "the private key can't be read: " + reason);
}

}  // namespace sallyport::ca
