#pragma once
// For tests: certificates of every kind, good and bad, made at run time.

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace sallyport::net::testing {

struct X509Deleter {
  void operator()(X509* x) const { X509_free(x); }
};
struct KeyDeleter {
  void operator()(EVP_PKEY* x) const { EVP_PKEY_free(x); }
};

struct Identity {
  std::unique_ptr<X509, X509Deleter> certificate;
  std::unique_ptr<EVP_PKEY, KeyDeleter> key;
  std::string pem() const;
  std::string key_pem() const;
};

struct Profile {
  std::string common_name = "test";
  std::string alternative_names = {};  // "DNS:localhost,IP:127.0.0.1"
  std::string key = "P-256";           // a curve, or "RSA:1024"
  std::string digest = "SHA256";
  bool authority = false;
  std::string extended_key_usage = {};     // "serverAuth"
  std::chrono::seconds not_before{-3600};  // from now
  std::chrono::seconds not_after{24 * 3600};
  long serial = 0;  // 0: random
  std::string subject_key_identifier = "hash";
  std::string authority_key_identifier = "keyid";  // not of a root
  std::string basic_constraints = {};              // empty: critical, as `authority` says
  std::string key_usage = {};                      // the same; "none": no such extension
  // More extensions, by NID, in the words of OpenSSL's configuration; "DER:05:00" stands for any bytes.
  std::vector<std::pair<int, std::string>> more = {};
};

// Signed by `issuer`, or by itself without one.
Identity make_identity(const Profile& profile, const Identity* issuer = nullptr);

// A CRL in PEM that names `revoked` serials.
std::string make_crl(const Identity& issuer, const std::vector<long>& revoked,
                     std::chrono::seconds next_update = std::chrono::hours(1), bool numbered = true);

// A file with this content, gone when the object goes.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content);
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile();
  const std::string& path() const { return path_; }
  // Replaces the file, as a careful writer does.
  void rewrite(const std::string& content) const;

 private:
  std::string path_;
};

}  // namespace sallyport::net::testing
