#include "ca/leaf_cache.h"

#include <algorithm>

#include "ca/certificate_form.h"

namespace sallyport::ca {

Result<LeafCache> LeafCache::create(Authority authority, std::size_t capacity) {
  auto key = make_p256_key(authority.lib());
  if (!key) return std::unexpected(key.error());
  auto form = authority.leaf_form(key->get());
  if (!form) return std::unexpected(form.error());
  return LeafCache(std::move(authority), std::move(*key), std::move(*form), std::max<std::size_t>(capacity, 1));
}

LeafCache::LeafCache(Authority authority, EvpPkeyPtr key, X509Ptr form, std::size_t capacity)
    : authority_(std::move(authority)), key_(std::move(key)), form_(std::move(form)), capacity_(capacity) {}

Result<const Leaf*> LeafCache::get(std::string_view host, TimePoint now) {
  const auto found = index_.find(host);
  if (found == index_.end()) return mint(host, now);
  const Entries::iterator entry = found->second;
  // A clock that was set back, or a machine resumed from a snapshot, can stand before the leaf's first moment.
  if (now < entry->not_before || now >= entry->renew_at) {
    drop(entry);
    return mint(host, now);
  }
  entries_.splice(entries_.begin(), entries_, entry);
  return &entry->leaf;
}

Result<const Leaf*> LeafCache::mint(std::string_view host, TimePoint now) {
  auto certificate = authority_.complete_leaf(form_.get(), std::span(&host, 1), limits::kLeafLifetime, now);
  if (!certificate) return std::unexpected(certificate.error());
  ++mints_;
  if (entries_.size() >= capacity_) drop(std::prev(entries_.end()));

  Entry& entry = entries_.emplace_front();
  entry.host = host;
  entry.certificate = std::move(*certificate);
  entry.not_before = authority_.backdated(now);
  const TimePoint not_after = std::min(authority_.not_after(), now + limits::kLeafLifetime);
  entry.leaf = {entry.certificate.get(), key_.get(), authority_.chain(), not_after};
  // Near the CA's own end every leaf is short: it is still used for three quarters of what it has, not minted on every
  // call.
  entry.renew_at = not_after - std::min<TimePoint::duration>(limits::kLeafRenewal, (not_after - now) / 4);
  index_.emplace(entry.host, entries_.begin());
  return &entry.leaf;
}

void LeafCache::drop(Entries::iterator entry) {
  index_.erase(entry->host);
  entries_.erase(entry);
}

}  // namespace sallyport::ca
