#include "ca/openssl_ptr.h"

#include <openssl/err.h>

namespace sallyport::ca {

std::string openssl_error() {
  std::string text;
  while (unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    if (!text.empty()) text += "; ";
    text += reason != nullptr ? reason : "error " + std::to_string(code);
  }
  return text.empty() ? "OpenSSL gave no reason" : text;
}

std::unexpected<Error> openssl_failure(std::string_view what) {
  return fail(ErrorSource::internal, ErrorKind::unavailable, std::string(what) + ": " + openssl_error());
}

std::string_view bio_view(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return size > 0 ? std::string_view(data, static_cast<std::size_t>(size)) : std::string_view();
}

}  // namespace sallyport::ca
