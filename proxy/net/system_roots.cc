#include "proxy/net/system_roots.h"

#include <openssl/asn1.h>
#include <openssl/x509_vfy.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <unordered_set>

#include "base/limits.h"
#include "ca/trust.h"
#include "proxy/net/trust_store.h"

namespace sallyport::net {

namespace {

// One element of DER: what is in it, and all of it. Empty if there is none.
struct Element {
  std::string_view inside, whole;
  int tag = -1;
};

Element take_element(std::string_view& der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const auto* const begin = at;
  long size = 0;
  Element element;
  int kind = 0;
  // Bit 7 says that it is none, bit 0 that its end is not said.
  if ((ASN1_get_object(&at, &size, &element.tag, &kind, static_cast<long>(der.size())) & 0x81) != 0) return {};
  const auto head = static_cast<std::size_t>(at - begin);
  element.inside = der.substr(head, static_cast<std::size_t>(size));
  element.whole = der.substr(0, head + static_cast<std::size_t>(size));
  der.remove_prefix(element.whole.size());
  return element;
}

// The certificate at the beginning of these bytes, without what may follow it.
std::string_view certificate_alone(std::string_view der) { return take_element(der).whole; }

// RFC 5280 section 4.1: the subject comes after version (which may be absent), serial number, signature, issuer and
// validity.
std::string_view subject_of(std::string_view certificate) {
  std::string_view fields = take_element(certificate).inside;  // the certificate
  fields = take_element(fields).inside;                        // what is signed of it
  int before = 4;
  std::string_view rest = fields;
  if (take_element(rest).tag == 0) ++before;
  while (before-- > 0) take_element(fields);
  return take_element(fields).whole;
}

std::optional<unsigned long> hash_of(OSSL_LIB_CTX* lib, const X509_NAME* name) {
  int good = 0;
  const unsigned long hash = X509_NAME_hash_ex(name, lib, nullptr, &good);
  if (good != 1) return std::nullopt;
  return hash;
}

std::optional<unsigned long> subject_hash(OSSL_LIB_CTX* lib, std::string_view certificate) {
  const std::string_view subject = subject_of(certificate);
  const auto* data = reinterpret_cast<const unsigned char*>(subject.data());
  const ca::X509NamePtr name(d2i_X509_NAME(nullptr, &data, static_cast<long>(subject.size())));
  if (!name) return std::nullopt;
  return hash_of(lib, name.get());
}

// What goes with one store.
struct StoreRoots {
  OSSL_LIB_CTX* lib;
  std::shared_ptr<const RootList> list;
  std::shared_ptr<WebRoots> web;
  std::vector<bool> in_store;

  // Puts those with this subject into the store, if they are not there yet. Two subjects may have one hash: then there
  // is one more root in the store, which is trusted as well.
  void bring(X509_STORE* store, const X509_NAME* subject) {
    const auto hash = hash_of(lib, subject);
    if (!hash) return;  // fails closed: no root is found
    for (std::size_t i = 0; i < list->roots().size(); ++i) {
      const RootList::Root& root = list->roots()[i];
      if (root.subject != *hash || in_store[i]) continue;
      in_store[i] = true;
      const ca::X509Ptr certificate = decode_certificate(lib, list->der(root));
      if (!certificate || X509_STORE_add_cert(store, certificate.get()) != 1) continue;
      if (root.kind == RootKind::web) web->insert(certificate.get());
    }
  }
};

int store_roots_index() {
  static const int index = X509_STORE_get_ex_new_index(
      0, nullptr, nullptr, nullptr, [](void*, void* roots, CRYPTO_EX_DATA*, int, long, void*) {
        const std::unique_ptr<StoreRoots> last_owner(static_cast<StoreRoots*>(roots));
      });
  return index;
}

void bring(X509_STORE_CTX* verification, const X509_NAME* subject) {
  X509_STORE* store = X509_STORE_CTX_get0_store(verification);
  static_cast<StoreRoots*>(X509_STORE_get_ex_data(store, store_roots_index()))->bring(store, subject);
}

int get_issuer(X509** issuer, X509_STORE_CTX* verification, X509* certificate) {
  bring(verification, X509_get_issuer_name(certificate));
  return X509_STORE_CTX_get1_issuer(issuer, verification, certificate);
}

STACK_OF(X509) * lookup_certificates(X509_STORE_CTX* verification, const X509_NAME* subject) {
  bring(verification, subject);
  return X509_STORE_CTX_get1_certs(verification, subject);
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

void each_certificate(std::string_view pem, const std::atomic<bool>& stop,
                      const std::function<void(std::string_view der)>& take) {
  each_pem_block(pem, [&](const PemBlock& block) {
    if (block.kind == PemBlock::Kind::certificate) take(certificate_alone(block.der));
    return !stop.load(std::memory_order_relaxed);
  });
}

using Certificates = std::unordered_set<std::string>;

Certificates certificates_in(std::string_view pem, const std::atomic<bool>& stop) {
  Certificates all;
  each_certificate(pem, stop, [&](std::string_view der) { all.emplace(der); });
  return all;
}

// Files that people have put where the system takes its own additions from. What can't be read is passed over: the
// roots of such a file are held to the rules of the web then.
Certificates local_roots(const std::atomic<bool>& stop) {
  Certificates all;
  for (const char* place : ca::kLocalRootPlaces) {
    std::error_code none;
    std::filesystem::recursive_directory_iterator at(place, none), end;
    for (int files = 0; !none && at != end && files < limits::kLocalRootFilesMax; at.increment(none), ++files) {
      if (const auto pem = read_trust_file(at->path().string())) all.merge(certificates_in(*pem, stop));
    }
  }
  return all;
}

}  // namespace

bool RootList::has(std::string_view wanted) const {
  return std::ranges::any_of(roots_, [&](const Root& root) { return der(root) == wanted; });
}

void RootList::add(OSSL_LIB_CTX* lib, std::string_view der, RootKind kind) {
  const auto subject = subject_hash(lib, der);
  if (!subject || has(der)) return;
  roots_.push_back({bytes_.size(), der.size(), *subject, kind});
  bytes_ += der;
}

std::vector<ca::X509Ptr> RootList::certificates(OSSL_LIB_CTX* lib, RootKind kind) const {
  std::vector<ca::X509Ptr> all;
  for (const Root& root : roots_) {
    if (root.kind != kind) continue;
    if (ca::X509Ptr certificate = decode_certificate(lib, der(root))) all.push_back(std::move(certificate));
  }
  return all;
}

bool use_roots(X509_STORE* store, OSSL_LIB_CTX* lib, std::shared_ptr<const RootList> roots,
               std::shared_ptr<WebRoots> web_roots) {
  const std::size_t count = roots->roots().size();
  auto mine = std::make_unique<StoreRoots>(lib, std::move(roots), std::move(web_roots), std::vector<bool>(count));
  if (X509_STORE_set_ex_data(store, store_roots_index(), mine.get()) != 1) return false;
  ca::disown(mine);  // it goes with the store
  X509_STORE_set_get_issuer(store, get_issuer);
  X509_STORE_set_lookup_certs(store, lookup_certificates);
  return true;
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
  auto loaded = std::make_shared<RootList>();
  each_certificate(more_roots_pem, stop, [&](std::string_view der) { loaded->add(lib, der, RootKind::given); });
  const std::string named = named_file();
  std::string usual;
  std::string pem = first_readable(distributors_files(), usual);
  const Certificates local = local_roots(stop);
  // A file that somebody named holds whatever they wanted: of the web is what the distributor has, too.
  const bool another = !named.empty() && named != usual;
  const Certificates distributed = another ? certificates_in(pem, stop) : Certificates();
  loaded->source = usual;
  if (another) pem = first_readable({named}, loaded->source);
  each_certificate(pem, stop, [&](std::string_view der) {
    const std::string key(der);
    const bool web = !local.contains(key) && (!another || distributed.contains(key));
    loaded->add(lib, der, web ? RootKind::web : RootKind::given);
  });
  OPENSSL_thread_stop_ex(lib);  // what OpenSSL keeps of this thread goes before its context can
  return loaded;
}

const std::shared_ptr<const RootList>& SystemRoots::get() {
  if (!loaded_) loaded_ = loading_.get();
  return loaded_;
}

}  // namespace sallyport::net
