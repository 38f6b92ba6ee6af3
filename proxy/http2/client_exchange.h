#pragma once
// One request to a server that speaks HTTP/2, and its response: a stream of a connection that others share.

#include <deque>
#include <memory>

#include "proxy/http/exchange.h"
#include "proxy/http2/heads.h"
#include "proxy/http2/stream.h"
#include "proxy/http2/tunnel.h"

namespace sallyport::http2 {

class ClientConnection;

class ClientExchange final : public http::UpstreamExchange, private Stream {
 public:
  // The connection stays at least as long as this.
  explicit ClientExchange(std::shared_ptr<ClientConnection> connection);
  ~ClientExchange() override;

  net::Task<Result<void>> send(const Request& request, http::Chunk first) override;
  net::Task<Result<void>> write_body(http::Chunk chunk) override;
  net::Task<Result<void>> finish(const request::HeaderList* trailers) override;
  net::Task<Result<http::UpstreamHead>> read_head(request::ResponseHead& head, net::Deadline deadline) override;
  net::Task<Result<http::Chunk>> read_body(net::Deadline deadline) override { return receive(deadline); }
  Result<http::Chunk> buffered_body() override { return take(); }
  const request::HeaderList& trailers() const override { return Stream::trailers(); }
  net::ByteStream* switched(std::string_view&) override { return &tunnel_; }
  bool response_started() const override { return response_started_; }
  bool reusable() const override { return true; }  // the connection looks after itself
  bool unprocessed() const override { return refused(); }
  void cancel() override;

 private:
  bool on_headers(std::unique_ptr<HeaderBlock> block, bool end) override;
  void on_lost() override {}
  http::BodyInfo body_of(const ResponseInfo& info, int status) const;

  std::shared_ptr<ClientConnection> client_;
  std::string held_;  // the beginning of the body, while the server's window has no room for it
  std::deque<std::unique_ptr<HeaderBlock>> heads_;  // received and not read
  std::unique_ptr<HeaderBlock> head_block_;         // what the last head's views point into
  Tunnel tunnel_{*this};
  bool head_request_ = false;
  bool websocket_ = false;
  bool response_started_ = false;
  bool final_came_ = false;
  bool ended_with_head_ = false;
};

}  // namespace sallyport::http2
