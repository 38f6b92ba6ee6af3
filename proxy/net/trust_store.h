#pragma once
// Which roots and revocation lists a server's certificate is verified against: files in PEM, read into OpenSSL's
// stores.

#include <openssl/types.h>
#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "ca/openssl_ptr.h"

namespace sallyport::net {

struct PemObjects {
  std::vector<ca::X509Ptr> certificates;
  std::vector<ca::X509CrlPtr> crls;
  std::size_t malformed = 0;  // blocks of those kinds that could not be decoded
};

// Every certificate and CRL of a text; other blocks are passed over.
PemObjects read_pem_objects(OSSL_LIB_CTX* lib, std::string_view pem);

struct PemBlock {
  enum class Kind { certificate, crl, other } kind;
  std::string_view der;  // behind a certificate there may be OpenSSL's own words about its trust
};
// Every block of a text, until `take` returns false. False if the text ends in what can't be read.
bool each_pem_block(std::string_view pem, const std::function<bool(const PemBlock&)>& take);

// Null if it can't be decoded.
ca::X509Ptr decode_certificate(OSSL_LIB_CTX* lib, std::string_view der);

// A file of limits::kTrustBundleBytesMax at most. Errors name the path and say why.
Result<std::string> read_trust_file(const std::string& path);

// Tells one version of a file from the next.
struct FileStamp {
  dev_t device = 0;
  ino_t inode = 0;
  off_t bytes = 0;
  std::int64_t modified_ns = 0;
  bool operator==(const FileStamp&) const = default;
};
std::optional<FileStamp> stamp_of(const std::string& path);

}  // namespace sallyport::net
