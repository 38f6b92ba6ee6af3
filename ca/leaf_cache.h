#pragma once
// The leaves of one worker: one P-256 key made in memory and never written down, and the latest certificates minted for
// it.

#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "base/limits.h"
#include "ca/authority.h"

namespace sallyport::ca {

// What SSL_use_cert_and_key(ssl, certificate, key, chain, 1) takes; it adds its own references.
struct Leaf {
  X509* certificate = nullptr;
  EVP_PKEY* key = nullptr;
  STACK_OF(X509) * chain = nullptr;  // null: nothing but the leaf is sent
  TimePoint not_after{};
};

// For one thread, so a mint is single-flight by itself: nobody else can ask for the same host while it runs (about 0.2
// ms).
class LeafCache {
 public:
  // Takes the worker's own Authority (clone_into) and makes the leaf key.
  static Result<LeafCache> create(Authority authority, std::size_t capacity = limits::kLeafCacheMax);
  LeafCache(LeafCache&&) noexcept = default;
  LeafCache& operator=(LeafCache&&) noexcept = default;

  // The leaf for a canonical host (request/host.h), minted if need be, and again in good time before it expires. Valid
  // until the next call. Fails when the host is none or the CA has expired: the caller denies the connection.
  Result<const Leaf*> get(std::string_view host, TimePoint now);

  const Authority& authority() const { return authority_; }
  std::size_t size() const { return entries_.size(); }
  std::uint64_t mints() const { return mints_; }

 private:
  struct Entry {
    std::string host;
    X509Ptr certificate;
    Leaf leaf;
    TimePoint not_before{};
    TimePoint renew_at{};
  };
  using Entries = std::list<Entry>;  // most recently used first

  LeafCache(Authority authority, EvpPkeyPtr key, X509Ptr form, std::size_t capacity);
  Result<const Leaf*> mint(std::string_view host, TimePoint now);
  void drop(Entries::iterator entry);

  Authority authority_;
  EvpPkeyPtr key_;
  X509Ptr form_;  // Authority::leaf_form
  std::size_t capacity_;
  Entries entries_;
  std::unordered_map<std::string_view, Entries::iterator> index_;  // keys point into the entries
  std::uint64_t mints_ = 0;
};

}  // namespace sallyport::ca
