#pragma once
// The connections of one worker to servers that speak HTTP/2. Many exchanges share one, on the conditions on which the
// pool hands a connection of HTTP/1 from one to the next: the same destination and endpoint of the same policy, and the
// same client certificate.

#include <memory>
#include <vector>

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

class SharedUpstreams {
 public:
  explicit SharedUpstreams(net::Loop& loop) : loop_(loop) {}

  // One that takes another exchange now, or null.
  std::shared_ptr<SharedUpstream> find(const net::UpstreamRequest& request) const;
  // Shares a connection on which h2 was agreed.
  std::shared_ptr<SharedUpstream> add(std::unique_ptr<net::UpstreamConnection> connection,
                                      const net::UpstreamRequest& request);
  // Those of other policies end with what is under way on them.
  void policy_changed(const std::shared_ptr<const document::Snapshot>& policy);

 private:
  net::Task<void> keep(std::shared_ptr<SharedUpstream> shared);

  net::Loop& loop_;
  std::vector<std::shared_ptr<SharedUpstream>> open_;
};

}  // namespace sallyport::guard
