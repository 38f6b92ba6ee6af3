#include "proxy/net/trust_store.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "base/limits.h"
#include "base/read_file.h"
#include "ca/trust.h"

namespace sallyport::net {

namespace {

bool is_certificate(std::string_view name) {
  return name == PEM_STRING_X509 || name == PEM_STRING_X509_TRUSTED || name == PEM_STRING_X509_OLD;
}

void decode(OSSL_LIB_CTX* lib, std::string_view name, const unsigned char* data, long size, PemObjects& objects) {
  if (is_certificate(name)) {
    X509* certificate = X509_new_ex(lib, nullptr);
    // What follows the certificate in OpenSSL's own "trusted" form is left unread.
    if (certificate != nullptr && d2i_X509(&certificate, &data, size) != nullptr) {
      objects.certificates.emplace_back(certificate);
    } else {
      ++objects.malformed;  // d2i has freed it
    }
  } else if (name == PEM_STRING_X509_CRL) {
    X509_CRL* crl = X509_CRL_new_ex(lib, nullptr);
    if (crl != nullptr && d2i_X509_CRL(&crl, &data, size) != nullptr) {
      objects.crls.emplace_back(crl);
    } else {
      ++objects.malformed;
    }
  }
}

// A thread that takes signals would take them from whoever waits for them.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

// The text of the first of these files that can be read, and which it was.
std::string first_readable(const std::vector<std::string>& paths, std::string& source) {
  std::string tried;
  for (const std::string& path : paths) {
    if (auto pem = read_trust_file(path)) {
      source = path;
      return std::move(*pem);
    } else {
      tried += (tried.empty() ? "" : "; ") + pem.error().text;
    }
  }
  source = "no system roots: " + tried;
  return {};
}

const std::vector<std::string>& distributors_files() {
  static const std::vector<std::string> all(ca::kSystemRootFiles.begin(), ca::kSystemRootFiles.end());
  return all;
}

// SSL_CERT_FILE replaces the usual places, as it does for OpenSSL. Empty: it is not set.
std::string named_file() {
  const char* named = std::getenv("SSL_CERT_FILE");
  return named == nullptr ? std::string() : std::string(named);
}

// Whether they are the same certificate. Unlike X509_cmp it decodes nothing, and no two certificates of one CA have the
// same signature.
bool any_is(const std::vector<ca::X509Ptr>& all, const ca::X509Ptr& wanted) {
  const auto signature = [](const ca::X509Ptr& certificate) {
    const ASN1_BIT_STRING* found = nullptr;
    X509_get0_signature(&found, nullptr, certificate.get());
    return found;
  };
  return std::ranges::any_of(
      all, [&](const ca::X509Ptr& one) { return ASN1_STRING_cmp(signature(one), signature(wanted)) == 0; });
}

// Files that people have put where the system takes its own additions from. What can't be read is passed over: the
// roots of such a file are held to the rules of the web then.
std::vector<ca::X509Ptr> local_roots(OSSL_LIB_CTX* lib, const std::atomic<bool>& stop) {
  std::vector<ca::X509Ptr> all;
  for (const char* place : ca::kLocalRootPlaces) {
    std::error_code none;
    std::filesystem::recursive_directory_iterator at(place, none), end;
    for (int files = 0; !none && at != end && files < limits::kLocalRootFilesMax; at.increment(none), ++files) {
      const auto pem = read_trust_file(at->path().string());
      if (!pem) continue;
      for (ca::X509Ptr& root : read_pem_objects(lib, *pem, &stop).certificates) all.push_back(std::move(root));
    }
  }
  return all;
}

}  // namespace

PemObjects read_pem_objects(OSSL_LIB_CTX* lib, std::string_view pem, const std::atomic<bool>* stop) {
  PemObjects objects;
  const ca::BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  if (!bio) return objects;
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* data = nullptr;
  long size = 0;
  while ((stop == nullptr || !stop->load(std::memory_order_relaxed)) &&
         PEM_read_bio(bio.get(), &name, &header, &data, &size) == 1) {
    decode(lib, name, data, size, objects);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
  }
  // The end of the text is reported as the lack of another block; any other end is one that could not be read.
  if (const unsigned long last = ERR_peek_last_error();
      last != 0 && !(ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE)) {
    ++objects.malformed;
  }
  ERR_clear_error();
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

SystemRoots::SystemRoots(OSSL_LIB_CTX* lib, std::string more_roots_pem) {
  const SignalsBlocked blocked;
  try {
    loading_ = std::async(std::launch::async, load, lib, more_roots_pem, std::cref(stop_));
  } catch (const std::system_error&) {
    // No thread to be had: they are loaded when they are asked for.
    loading_ = std::async(std::launch::deferred, load, lib, std::move(more_roots_pem), std::cref(stop_));
  }
}

SystemRoots::~SystemRoots() {
  stop_ = true;  // the future waits for its thread: a run that is over need not wait for all the roots
}

SystemRoots::Loaded SystemRoots::load(OSSL_LIB_CTX* lib, std::string more_roots_pem, const std::atomic<bool>& stop) {
  Loaded loaded;
  const std::string named = named_file();
  const std::string pem =
      first_readable(named.empty() ? distributors_files() : std::vector<std::string>{named}, loaded.source);
  loaded.given = read_pem_objects(lib, more_roots_pem, &stop).certificates;
  const std::vector<ca::X509Ptr> local = local_roots(lib, stop);
  // A file that somebody named holds whatever they wanted: of the web is what the distributor has, too.
  std::string other;
  const std::vector<ca::X509Ptr> distributed =
      named.empty() ? std::vector<ca::X509Ptr>()
                    : read_pem_objects(lib, first_readable(distributors_files(), other), &stop).certificates;
  for (ca::X509Ptr& root : read_pem_objects(lib, pem, &stop).certificates) {
    const bool web = !any_is(local, root) && (named.empty() || any_is(distributed, root));
    (web ? loaded.web : loaded.given).push_back(std::move(root));
  }
  OPENSSL_thread_stop_ex(lib);  // what OpenSSL keeps of this thread goes before its context can
  return loaded;
}

const SystemRoots::Loaded& SystemRoots::get() {
  if (!loaded_) loaded_ = loading_.get();
  return *loaded_;
}

}  // namespace sallyport::net
