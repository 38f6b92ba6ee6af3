#include "proxy/net/trust_store.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "base/read_file.h"

namespace sallyport::net {

namespace {

bool is_certificate(std::string_view name) {
  return name == PEM_STRING_X509 || name == PEM_STRING_X509_TRUSTED || name == PEM_STRING_X509_OLD;
}

ca::X509CrlPtr decode_crl(OSSL_LIB_CTX* lib, std::string_view der) {
  const auto* data = reinterpret_cast<const unsigned char*>(der.data());
  X509_CRL* crl = X509_CRL_new_ex(lib, nullptr);
  if (crl == nullptr || d2i_X509_CRL(&crl, &data, static_cast<long>(der.size())) == nullptr) return nullptr;
  return ca::X509CrlPtr(crl);
}

}  // namespace

ca::X509Ptr decode_certificate(OSSL_LIB_CTX* lib, std::string_view der) {
  const auto* data = reinterpret_cast<const unsigned char*>(der.data());
  X509* certificate = X509_new_ex(lib, nullptr);
  // What follows the certificate in OpenSSL's own "trusted" form is left unread. d2i frees what it can't fill.
  if (certificate == nullptr || d2i_X509(&certificate, &data, static_cast<long>(der.size())) == nullptr) return nullptr;
  return ca::X509Ptr(certificate);
}

bool each_pem_block(std::string_view pem, const std::function<bool(const PemBlock&)>& take) {
  const ca::BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  if (!bio) return false;
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* data = nullptr;
  long size = 0;
  bool more = true;
  while (more && PEM_read_bio(bio.get(), &name, &header, &data, &size) == 1) {
    const PemBlock::Kind kind = is_certificate(name)                            ? PemBlock::Kind::certificate
                                : std::string_view(name) == PEM_STRING_X509_CRL ? PemBlock::Kind::crl
                                                                                : PemBlock::Kind::other;
    more = take({kind, {reinterpret_cast<const char*>(data), static_cast<std::size_t>(size)}});
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
  }
  // The end of the text is reported as the lack of another block; any other end is one that could not be read.
  const unsigned long last = ERR_peek_last_error();
  ERR_clear_error();
  return !more || last == 0 || (ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE);
}

PemObjects read_pem_objects(OSSL_LIB_CTX* lib, std::string_view pem) {
  PemObjects objects;
  const bool whole = each_pem_block(pem, [&](const PemBlock& block) {
    if (block.kind == PemBlock::Kind::certificate) {
      ca::X509Ptr certificate = decode_certificate(lib, block.der);
      certificate ? objects.certificates.push_back(std::move(certificate)) : void(++objects.malformed);
    } else if (block.kind == PemBlock::Kind::crl) {
      ca::X509CrlPtr crl = decode_crl(lib, block.der);
      crl ? objects.crls.push_back(std::move(crl)) : void(++objects.malformed);
    }
    return true;
  });
  if (!whole) ++objects.malformed;
  return objects;
}

Result<std::string> read_trust_file(const std::string& path) {
  struct stat status;
  // Looked at first: reading a pipe or a terminal would stop the worker.
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    return fail(ErrorSource::policy, ErrorKind::invalid, path + " is not a regular file");
  }
  return read_file(path, limits::kTrustBundleBytesMax);
}

std::optional<FileStamp> stamp_of(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileStamp{status.st_dev, status.st_ino, status.st_size,
                   std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

}  // namespace sallyport::net
