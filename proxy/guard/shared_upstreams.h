#pragma once
// The upstream connections of one worker, as exchanges get them. Those of HTTP/2 are shared by many exchanges, on the
// conditions on which the pool hands a connection of HTTP/1 from one to the next: the same destination and endpoint of
// the same policy, and the same client certificate.

#include <expected>
#include <memory>
#include <vector>

#include "proxy/guard/server_protocols.h"
#include "proxy/http2/client_connection.h"
#include "proxy/net/upstream.h"

namespace sallyport::guard {

// Held by the coroutine that runs it and by every exchange on it.
struct SharedUpstream {
  SharedUpstream(std::unique_ptr<net::UpstreamConnection> agreed, net::UpstreamRequest lease);
  std::unique_ptr<net::UpstreamConnection> connection;
  net::UpstreamRequest made_for;
  http2::ClientConnection http2;
};

// What an exchange goes over: one of the two.
struct UpstreamLease {
  std::unique_ptr<net::UpstreamConnection> own;  // of HTTP/1
  std::shared_ptr<SharedUpstream> shared;        // of HTTP/2
  bool reused = false;
  const net::UpstreamConnection& connection() const { return shared ? *shared->connection : *own; }
};

class SharedUpstreams {
 public:
  SharedUpstreams(net::Loop& loop, net::UpstreamPool& pool) : loop_(loop), pool_(pool) {}
  ~SharedUpstreams();

  // A shared connection that takes another exchange now, an idle one, or a new one. While it is not known what a server
  // speaks only one connection to it is attempted: who comes meanwhile shares what comes of it, also its failure.
  // `websocket`: HTTP/2 only where the server takes extended CONNECT. `failed`: not this one again; may be null.
  net::Task<std::expected<UpstreamLease, net::UpstreamFailure>> acquire(net::UpstreamRequest request, bool websocket,
                                                                        std::shared_ptr<SharedUpstream> failed,
                                                                        net::Deadline deadline);
  // Those of other policies end with what is under way on them.
  void policy_changed(const std::shared_ptr<const document::Snapshot>& policy);
  const ServerProtocols& protocols() const { return protocols_; }

 private:
  using Acquired = std::expected<UpstreamLease, net::UpstreamFailure>;
  struct Attempt;
  class Attempting;

  std::shared_ptr<SharedUpstream> find(const net::UpstreamRequest& request, const SharedUpstream* but) const;
  std::shared_ptr<SharedUpstream> share(std::unique_ptr<net::UpstreamConnection> connection,
                                        const net::UpstreamRequest& request);
  std::shared_ptr<Attempt> attempt_for(const net::UpstreamRequest& request) const;
  net::Task<Acquired> dial(net::UpstreamRequest request, net::Deadline deadline);
  net::Task<Acquired> dial_http1(net::UpstreamRequest request, net::Deadline deadline);
  net::Task<Acquired> dial_first(net::UpstreamRequest request, net::Deadline deadline);
  net::Task<bool> takes_websocket(std::shared_ptr<SharedUpstream> shared, net::Deadline deadline);
  void learn_from(const SharedUpstream& shared);
  net::Task<void> keep(std::shared_ptr<SharedUpstream> shared);

  net::Loop& loop_;
  net::UpstreamPool& pool_;
  ServerProtocols protocols_;
  std::vector<std::shared_ptr<SharedUpstream>> open_;
  std::vector<std::shared_ptr<Attempt>> attempts_;
};

}  // namespace sallyport::guard
