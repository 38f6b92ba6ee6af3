#include "proxy/net/test_certificates.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <stdexcept>

namespace sallyport::net::testing {

namespace {

void require(bool good, const char* what) {
  if (good) return;
  std::string text = what;
  if (const char* reason = ERR_reason_error_string(ERR_peek_last_error())) text.append(": ").append(reason);
  throw std::runtime_error(text);
}

EVP_PKEY* make_key(const std::string& kind) {
  if (kind.starts_with("RSA:")) return EVP_RSA_gen(static_cast<unsigned>(std::stoul(kind.substr(4))));
  return EVP_EC_gen(kind.c_str());
}

void add_extension(X509* certificate, X509* issuer, int id, const std::string& value) {
  if (value.empty() || value == "none") return;
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  require(extension != nullptr, "extension");
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

template <class Write>
std::string to_pem(Write write) {
  BIO* memory = BIO_new(BIO_s_mem());
  write(memory);
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(memory);
  return text;
}

}  // namespace

std::string Identity::pem() const {
  return to_pem([this](BIO* out) { PEM_write_bio_X509(out, certificate.get()); });
}

std::string Identity::key_pem() const {
  return to_pem([this](BIO* out) { PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
}

Identity make_identity(const Profile& profile, const Identity* issuer) {
  Identity made{std::unique_ptr<X509, X509Deleter>(X509_new()),
                std::unique_ptr<EVP_PKEY, KeyDeleter>(make_key(profile.key))};
  require(made.key != nullptr, "key");
  X509* x = made.certificate.get();
  X509_set_version(x, X509_VERSION_3);
  long serial = profile.serial;
  if (serial == 0) {
    RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial);
    serial &= 0x7fff'ffff'ffff;
  }
  ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
  X509_gmtime_adj(X509_getm_notBefore(x), profile.not_before.count());
  X509_gmtime_adj(X509_getm_notAfter(x), profile.not_after.count());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(profile.common_name.c_str()), -1, -1, 0);
  X509* issuer_certificate = issuer == nullptr ? x : issuer->certificate.get();
  X509_set_issuer_name(x, X509_get_subject_name(issuer_certificate));
  X509_set_pubkey(x, made.key.get());
  add_extension(x, issuer_certificate, NID_basic_constraints,
                !profile.basic_constraints.empty() ? profile.basic_constraints
                : profile.authority                ? "critical,CA:TRUE"
                                                   : "critical,CA:FALSE");
  add_extension(x, issuer_certificate, NID_subject_key_identifier, profile.subject_key_identifier);
  if (issuer != nullptr) {
    add_extension(x, issuer_certificate, NID_authority_key_identifier, profile.authority_key_identifier);
  }
  add_extension(x, issuer_certificate, NID_key_usage,
                !profile.key_usage.empty() ? profile.key_usage
                : profile.authority        ? "critical,keyCertSign,cRLSign"
                                           : "critical,digitalSignature");
  add_extension(x, issuer_certificate, NID_ext_key_usage, profile.extended_key_usage);
  add_extension(x, issuer_certificate, NID_subject_alt_name, profile.alternative_names);
  for (const auto& [id, value] : profile.more) add_extension(x, issuer_certificate, id, value);
  EVP_PKEY* signing_key = issuer == nullptr ? made.key.get() : issuer->key.get();
  require(X509_sign(x, signing_key, EVP_get_digestbyname(profile.digest.c_str())) > 0, "sign");
  return made;
}

std::string make_crl(const Identity& issuer, const std::vector<long>& revoked, std::chrono::seconds next_update,
                     bool numbered) {
  const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> crl(X509_CRL_new(), X509_CRL_free);
  X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(crl.get(), X509_get_subject_name(issuer.certificate.get()));
  ASN1_TIME* time = ASN1_TIME_new();
  X509_CRL_set1_lastUpdate(crl.get(), X509_gmtime_adj(time, -7200));
  X509_CRL_set1_nextUpdate(crl.get(), X509_gmtime_adj(time, next_update.count()));
  for (const long serial : revoked) {
    X509_REVOKED* entry = X509_REVOKED_new();
    ASN1_INTEGER* number = ASN1_INTEGER_new();
    ASN1_INTEGER_set(number, serial);
    X509_REVOKED_set_serialNumber(entry, number);
    X509_REVOKED_set_revocationDate(entry, X509_gmtime_adj(time, -3600));
    X509_CRL_add0_revoked(crl.get(), entry);
    ASN1_INTEGER_free(number);
  }
  ASN1_TIME_free(time);
  X509_CRL_sort(crl.get());
  ASN1_INTEGER* crl_number = ASN1_INTEGER_new();
  ASN1_INTEGER_set(crl_number, 1);
  if (numbered) X509_CRL_add1_ext_i2d(crl.get(), NID_crl_number, crl_number, 0, 0);
  ASN1_INTEGER_free(crl_number);
  require(X509_CRL_sign(crl.get(), issuer.key.get(), EVP_sha256()) > 0, "sign CRL");
  return to_pem([&](BIO* out) { PEM_write_bio_X509_CRL(out, crl.get()); });
}

namespace {

std::string new_file(const std::string& content) {
  const char* folder = std::getenv("TMPDIR");
  std::string path = std::string(folder == nullptr ? "/tmp" : folder) + "/sallyport-test-XXXXXX";
  const int fd = ::mkstemp(path.data());
  require(fd >= 0, "mkstemp");
  require(::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()), "write");
  ::close(fd);
  return path;
}

}  // namespace

TemporaryFile::TemporaryFile(const std::string& content) : path_(new_file(content)) {}

void TemporaryFile::rewrite(const std::string& content) const {
  require(std::rename(new_file(content).c_str(), path_.c_str()) == 0, "rename");
}

TemporaryFile::~TemporaryFile() { ::unlink(path_.c_str()); }

}  // namespace sallyport::net::testing
