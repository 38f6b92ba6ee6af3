#include "ca/certificate_request.h"

#include <openssl/core_names.h>
#include <openssl/err.h>

#include <array>

#include "base/limits.h"
#include "ca/certificate_form.h"

namespace sallyport::ca {
namespace {

using X509ReqPtr = OpensslPtr<X509_REQ, X509_REQ_free>;

std::unexpected<Error> refuse(ErrorKind kind, std::string_view why) {
  ERR_clear_error();
  return fail(ErrorSource::internal, kind, "the certificate request " + std::string(why));
}

bool is_named_p256(EVP_PKEY* key) {
  std::array<char, 64> group{};
  std::size_t size = 0;
  int spelled_out = 0;
  return EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) == 1 &&
         std::string_view(group.data(), size) == SN_X9_62_prime256v1 &&
         EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &spelled_out) == 1 &&
         spelled_out == 0;
}

}  // namespace

Result<std::string> make_certificate_request(OSSL_LIB_CTX* lib, EVP_PKEY* key) {
  const X509ReqPtr request(X509_REQ_new_ex(lib, nullptr));
  if (!request || X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_pubkey(request.get(), key) != 1 || X509_REQ_sign(request.get(), key, EVP_sha256()) <= 0) {
    return openssl_failure("making a certificate request");
  }
  unsigned char* der = nullptr;
  const int size = i2d_X509_REQ(request.get(), &der);
  if (size <= 0) return openssl_failure("making a certificate request");
  std::string out(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return out;
}

Result<RequestedKey> key_of_request(OSSL_LIB_CTX* lib, std::string_view der) {
  if (der.size() > limits::kCertificateRequestBytesMax) return refuse(ErrorKind::malformed, "is too long");
  ERR_clear_error();
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const auto* const end = at + der.size();
  X509_REQ* read = X509_REQ_new_ex(lib, nullptr);
  // On failure it frees what it was given.
  if (read != nullptr && d2i_X509_REQ(&read, &at, static_cast<long>(der.size())) == nullptr) read = nullptr;
  const X509ReqPtr request(read);
  if (!request) return refuse(ErrorKind::malformed, "is none");
  if (at != end) return refuse(ErrorKind::malformed, "has something behind it");
  const EvpPkeyPtr key(X509_REQ_get_pubkey(request.get()));
  // Before its signature is looked at, as what that costs is the key's to say.
  if (!key || !is_named_p256(key.get())) return refuse(ErrorKind::refused, "has a key that is not one of P-256");
  if (X509_REQ_verify_ex(request.get(), key.get(), lib, nullptr) != 1) {
    return refuse(ErrorKind::unverified, "is not signed with its key");
  }
  const unsigned char* point = nullptr;
  int size = 0;
  X509_PUBKEY_get0_param(nullptr, &point, &size, nullptr, X509_REQ_get_X509_PUBKEY(request.get()));
  if (!is_uncompressed_p256(std::span(point, static_cast<std::size_t>(size)))) {
    return refuse(ErrorKind::refused, "has a key that is compressed");
  }
  return RequestedKey{std::string(reinterpret_cast<const char*>(point), static_cast<std::size_t>(size))};
}

}  // namespace sallyport::ca
