#pragma once
// A link to a controller over the network: wss://HOST:PORT/v1/link, verified as every server is.

#include <memory>
#include <string>

#include "ca/openssl_ptr.h"
#include "policy-engine/document/snapshot.h"
#include "proxy/http1/websocket_endpoint.h"
#include "proxy/link/guard_end.h"
#include "proxy/net/resolver.h"
#include "proxy/net/upstream_tls.h"

namespace sallyport::link {

struct RemoteOptions {
  std::string host;  // a name, or an address without brackets
  std::uint16_t port = 0;
  std::string ca_file;  // PEM; empty: the system's roots
  net::ResolverOptions resolver = {};
};

// "wss://controller.example:7443": nothing but a host and a port. The error names what is wrong.
Result<RemoteOptions> parse_controller_url(const std::string& url);

class RemoteLink final : public GuardEnd {
 public:
  // Connects in the background, and again whenever the connection is lost. Fails only where options are wrong.
  static Result<std::unique_ptr<RemoteLink>> start(RemoteOptions options, Registration registration,
                                                   LinkHandlers handlers);
  // Ends the link in order: 0.5 s at most. What was not taken is gone: flush() first. On the thread that started it, as
  // OpenSSL keeps for each thread what it needs of a context.
  ~RemoteLink() override;

 protected:
  net::Task<void> run() override;
  void transmit(std::string_view envelope) override;
  std::size_t backlog() const override;
  void probe() override;
  void hang_up() override;

 private:
  RemoteLink(RemoteOptions options, Registration registration, LinkHandlers handlers);
  bool follow();
  net::Task<Result<void>> connect();
  net::Task<Result<void>> serve(net::Stream& stream, std::string hello, net::Deadline deadline);
  net::Task<Result<void>> talk(http1::WebSocketEndpoint& socket, net::Deadline registered_by);

  const RemoteOptions options_;
  std::string host_;  // of the controller that is tried now
  std::uint16_t port_ = 0;
  int hops_ = 0;                 // since it was the one of the options
  document::Endpoint endpoint_;  // what the verification of servers takes its CA file from
  ca::LibCtxPtr lib_;
  std::unique_ptr<net::Resolver> resolver_;
  std::unique_ptr<net::UpstreamTls> tls_;
  http1::WebSocketEndpoint* socket_ = nullptr;
};

}  // namespace sallyport::link
