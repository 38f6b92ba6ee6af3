#pragma once
// The roots that servers' certificates lead to unless an endpoint names its own. A system has some 140 of them, and a
// function's servers need a few: they are kept as bytes, and one is decoded when a chain asks for its subject.

#include <openssl/types.h>

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ca/openssl_ptr.h"
#include "proxy/net/certificate_rules.h"
#include "proxy/net/server_rules.h"

namespace sallyport::net {

// Every root, by the subject that it has.
class RootList {
 public:
  // One certificate, or nothing if its subject can't be read, or the list has it already: the first one counts.
  void add(OSSL_LIB_CTX* lib, std::string_view der, RootKind kind);
  bool has(std::string_view der) const;

  struct Root {
    std::size_t offset, size;  // in the bytes of all
    unsigned long subject;     // X509_NAME_hash_ex()
    RootKind kind;
  };
  const std::vector<Root>& roots() const { return roots_; }
  std::string_view der(const Root& root) const { return std::string_view(bytes_).substr(root.offset, root.size); }
  // Decodes all of one kind.
  std::vector<ca::X509Ptr> certificates(OSSL_LIB_CTX* lib, RootKind kind) const;

  // For errors: which file the system's are from, or why there are none.
  std::string source;

 private:
  std::string bytes_;
  std::vector<Root> roots_;
};

// Lets the store find these roots. `web_roots` gets those of the web that it has found.
bool use_roots(X509_STORE* store, OSSL_LIB_CTX* lib, std::shared_ptr<const RootList> roots,
               std::shared_ptr<WebRoots> web_roots);

// The system's roots and those given besides. Read on a thread of their own from the start, so that nothing waits for
// them that does not need them.
class SystemRoots {
 public:
  // `lib` must outlive this object.
  SystemRoots(OSSL_LIB_CTX* lib, std::string more_roots_pem);
  SystemRoots(const SystemRoots&) = delete;
  SystemRoots& operator=(const SystemRoots&) = delete;
  ~SystemRoots();

  // Waits until they are there. RootKind::given is what people have added: those given besides, and those of the
  // system's that a person put there. An empty list verifies nothing: every server is refused.
  const std::shared_ptr<const RootList>& get();

 private:
  using Loaded = std::shared_ptr<const RootList>;
  static Loaded load(OSSL_LIB_CTX* lib, std::string more_roots_pem, const std::atomic<bool>& stop);
  std::atomic<bool> stop_ = false;
  std::future<Loaded> loading_;
  Loaded loaded_;
};

}  // namespace sallyport::net
