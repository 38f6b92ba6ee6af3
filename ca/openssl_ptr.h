#pragma once
// Owners of OpenSSL's objects, and its error queue as text. Every library of Sallyport that touches OpenSSL uses these.

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport::ca {

template <auto kFree>
struct OpensslFree {
  template <class T>
  void operator()(T* object) const noexcept {
    kFree(object);
  }
};

template <class T, auto kFree>
using OpensslPtr = std::unique_ptr<T, OpensslFree<kFree>>;

// A context, and the providers that were loaded into it: they have to be let go of first.
struct LibCtxFree {
  std::array<OSSL_PROVIDER*, 2> loaded{};
  void operator()(OSSL_LIB_CTX* lib) const {
    for (OSSL_PROVIDER* provider : loaded) {
      if (provider != nullptr) OSSL_PROVIDER_unload(provider);
    }
    OSSL_LIB_CTX_free(lib);
  }
};
using LibCtxPtr = std::unique_ptr<OSSL_LIB_CTX, LibCtxFree>;

using BioPtr = OpensslPtr<BIO, BIO_free_all>;
using EvpPkeyPtr = OpensslPtr<EVP_PKEY, EVP_PKEY_free>;
using EvpPkeyCtxPtr = OpensslPtr<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using EvpMdPtr = OpensslPtr<EVP_MD, EVP_MD_free>;
using EvpMdCtxPtr = OpensslPtr<EVP_MD_CTX, EVP_MD_CTX_free>;
using X509Ptr = OpensslPtr<X509, X509_free>;
using X509CrlPtr = OpensslPtr<X509_CRL, X509_CRL_free>;
using X509NamePtr = OpensslPtr<X509_NAME, X509_NAME_free>;
using X509ExtensionPtr = OpensslPtr<X509_EXTENSION, X509_EXTENSION_free>;
using X509StorePtr = OpensslPtr<X509_STORE, X509_STORE_free>;
using X509StoreCtxPtr = OpensslPtr<X509_STORE_CTX, X509_STORE_CTX_free>;
using Asn1TimePtr = OpensslPtr<ASN1_TIME, ASN1_TIME_free>;
using Asn1IntegerPtr = OpensslPtr<ASN1_INTEGER, ASN1_INTEGER_free>;
using Asn1OctetStringPtr = OpensslPtr<ASN1_OCTET_STRING, ASN1_OCTET_STRING_free>;
using SslCtxPtr = OpensslPtr<SSL_CTX, SSL_CTX_free>;
using SslPtr = OpensslPtr<SSL, SSL_free>;
using SslSessionPtr = OpensslPtr<SSL_SESSION, SSL_SESSION_free>;

// Owns the certificates in it as well.
struct X509StackFree {
  void operator()(STACK_OF(X509) * stack) const noexcept { sk_X509_pop_free(stack, X509_free); }
};
using X509StackPtr = std::unique_ptr<STACK_OF(X509), X509StackFree>;

// For after a call by which OpenSSL has taken the object over.
template <class Owner>
void disown(Owner& owner) {
  [[maybe_unused]] const auto* object = owner.release();
}

// Another owner of the same object.
inline X509Ptr share(X509* certificate) {
  if (certificate != nullptr) X509_up_ref(certificate);
  return X509Ptr(certificate);
}
inline EvpPkeyPtr share(EVP_PKEY* key) {
  if (key != nullptr) EVP_PKEY_up_ref(key);
  return EvpPkeyPtr(key);
}

// Empties this thread's error queue; the reasons, oldest first, joined with "; ". Never empty.
std::string openssl_error();

// An error of this program's own making or of the machine: `what` was being done, and openssl_error().
std::unexpected<Error> openssl_failure(std::string_view what);

// The bytes of a memory BIO; valid until it is written to or goes.
std::string_view bio_view(BIO* bio);

}  // namespace sallyport::ca
