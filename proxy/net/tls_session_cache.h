#pragma once
// Sessions of upstream servers, so that a new connection to a known server costs no new verification for a while. A
// session is used only for what it was verified for: the same host, port, endpoint and policy.

#include <chrono>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "ca/openssl_ptr.h"
#include "policy-engine/document/snapshot.h"

namespace sallyport::net {

using SteadyTime = std::chrono::steady_clock::time_point;

struct TlsSession {
  ca::SslSessionPtr session;  // null until the server has sent a ticket
  SteadyTime verified_at{};   // when a full handshake last verified the certificate
};

// At most limits::kTlsSessionsPerWorkerMax, the least recently used going first. One thread.
class TlsSessionCache {
 public:
  // The place of this destination's session, made empty if there is none. It may outlive the cache: a connection keeps
  // its place, as tickets arrive after the handshake.
  std::shared_ptr<TlsSession> at(const std::string& destination,
                                 const std::shared_ptr<const document::Snapshot>& policy);
  // What is in the place and may still be resumed, or null.
  static SSL_SESSION* usable(TlsSession& place, SteadyTime now);

  // Forgets the sessions of every other policy.
  void keep_only(const std::shared_ptr<const document::Snapshot>& policy);
  void clear();
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string destination;
    std::weak_ptr<const document::Snapshot> policy;
    std::shared_ptr<TlsSession> place;
  };
  using Entries = std::list<Entry>;  // the most recently used first
  Entries entries_;
  std::unordered_map<std::string_view, Entries::iterator> index_;  // keys point into the entries
};

}  // namespace sallyport::net
