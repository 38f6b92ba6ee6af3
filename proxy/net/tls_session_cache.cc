#include "proxy/net/tls_session_cache.h"

#include "base/limits.h"

namespace sallyport::net {

namespace {

// Compared by owner: the address of a policy that is gone may be another one's by now.
bool same_policy(const std::weak_ptr<const document::Snapshot>& a, const std::shared_ptr<const document::Snapshot>& b) {
  return !a.owner_before(b) && !b.owner_before(a);
}

}  // namespace

std::shared_ptr<TlsSession> TlsSessionCache::at(const std::string& destination,
                                                const std::shared_ptr<const document::Snapshot>& policy) {
  const auto found = index_.find(destination);
  if (found != index_.end()) {
    const Entries::iterator entry = found->second;
    entries_.splice(entries_.begin(), entries_, entry);
    if (!same_policy(entry->policy, policy)) {
      entry->policy = policy;
      entry->place = std::make_shared<TlsSession>();
    }
    return entry->place;
  }
  if (entries_.size() >= limits::kTlsSessionsPerWorkerMax) {
    index_.erase(entries_.back().destination);
    entries_.pop_back();
  }
  entries_.push_front({destination, policy, std::make_shared<TlsSession>()});
  index_.emplace(entries_.front().destination, entries_.begin());
  return entries_.front().place;
}

SSL_SESSION* TlsSessionCache::usable(TlsSession& place, SteadyTime now) {
  if (!place.session) return nullptr;
  X509* certificate = SSL_SESSION_get0_peer(place.session.get());
  // A resumed handshake verifies nothing, so what the last full one has seen must still hold.
  const bool expired = certificate == nullptr || X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0;
  if (expired || now - place.verified_at > limits::kTlsSessionAgeMax ||
      SSL_SESSION_is_resumable(place.session.get()) != 1) {
    place.session.reset();
  }
  return place.session.get();
}

void TlsSessionCache::keep_only(const std::shared_ptr<const document::Snapshot>& policy) {
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    if (same_policy(entry->policy, policy)) {
      ++entry;
      continue;
    }
    index_.erase(entry->destination);
    entry = entries_.erase(entry);
  }
}

void TlsSessionCache::clear() {
  index_.clear();
  entries_.clear();
}

}  // namespace sallyport::net
