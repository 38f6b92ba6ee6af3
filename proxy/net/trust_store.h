#pragma once
// Which roots and revocation lists a server's certificate is verified against: files in PEM, read into OpenSSL's
// stores.

#include <openssl/types.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <ctime>
#include <future>
#include <memory>
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

// Every certificate and CRL of a text; other blocks are passed over. Ends early when `stop` becomes true.
PemObjects read_pem_objects(OSSL_LIB_CTX* lib, std::string_view pem, const std::atomic<bool>* stop = nullptr);

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

// The system's roots and those given besides, loaded on a thread of their own from the start (about 50 ms, most of it
// decoding), so that nothing waits for them that does not need them.
class SystemRoots {
 public:
  // `lib` must outlive this object.
  SystemRoots(OSSL_LIB_CTX* lib, std::string more_roots_pem);
  SystemRoots(const SystemRoots&) = delete;
  SystemRoots& operator=(const SystemRoots&) = delete;
  ~SystemRoots();

  struct Loaded {
    // What people have added: those given besides, and those of the system's that a person put there.
    std::vector<ca::X509Ptr> given;
    std::vector<ca::X509Ptr> web;  // the rest of the system's
    std::string source;            // for errors: the file, or why there is none
  };
  // Waits until they are there. Empty lists verify nothing: every server is refused.
  const Loaded& get();

 private:
  static Loaded load(OSSL_LIB_CTX* lib, std::string more_roots_pem, const std::atomic<bool>& stop);
  std::atomic<bool> stop_ = false;
  std::future<Loaded> loading_;
  std::optional<Loaded> loaded_;
};

}  // namespace sallyport::net
