#pragma once
// What the controller shows to guards: a certificate, what leads to its root, and the key.

#include <string>

#include "base/error.h"
#include "ca/leaf_cache.h"
#include "ca/openssl_ptr.h"

namespace sallyport::controller {

class ServerIdentity {
 public:
  // `certificates_pem`: the server's own first. Fails when either can't be read, when the key is encrypted or is not
  // the certificate's. Nothing of the key stands in an error.
  static Result<ServerIdentity> load(OSSL_LIB_CTX* lib, const std::string& certificates_pem,
                                     const std::string& key_pem);
  ca::Leaf leaf() const { return {.certificate = certificate_.get(), .key = key_.get(), .chain = chain_.get()}; }

 private:
  ca::X509Ptr certificate_;
  ca::X509StackPtr chain_;
  ca::EvpPkeyPtr key_;
};

}  // namespace sallyport::controller
