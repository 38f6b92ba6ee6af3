#include "proxy/guard/shared_upstreams.h"

#include <algorithm>

namespace sallyport::guard {
namespace {

bool same_destination(const net::UpstreamRequest& a, const net::UpstreamRequest& b) {
  return a.host == b.host && a.port == b.port && a.scheme == b.scheme && a.endpoint == b.endpoint &&
         a.policy == b.policy && a.enforce_addresses == b.enforce_addresses &&
         a.client_certificate == b.client_certificate;
}

}  // namespace

SharedUpstream::SharedUpstream(std::unique_ptr<net::UpstreamConnection> agreed, net::UpstreamRequest lease)
    : connection(std::move(agreed)), made_for(std::move(lease)), http2(connection->stream()) {}

std::shared_ptr<SharedUpstream> SharedUpstreams::find(const net::UpstreamRequest& request) const {
  for (const auto& shared : open_) {
    if (same_destination(shared->made_for, request) && shared->http2.usable()) return shared;
  }
  return nullptr;
}

std::shared_ptr<SharedUpstream> SharedUpstreams::add(std::unique_ptr<net::UpstreamConnection> connection,
                                                     const net::UpstreamRequest& request) {
  auto shared = std::make_shared<SharedUpstream>(std::move(connection), request);
  open_.push_back(shared);
  loop_.spawn(keep(shared));
  return shared;
}

net::Task<void> SharedUpstreams::keep(std::shared_ptr<SharedUpstream> shared) {
  co_await shared->http2.run();
  std::erase(open_, shared);
}

void SharedUpstreams::policy_changed(const std::shared_ptr<const document::Snapshot>& policy) {
  for (const auto& shared : open_) {
    if (shared->made_for.policy != policy) shared->http2.retire();
  }
}

}  // namespace sallyport::guard
