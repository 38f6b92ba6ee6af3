#pragma once
// One request of a connection of HTTP/2 and its response: a stream.

#include <functional>
#include <memory>
#include <optional>

#include "proxy/http/exchange.h"
#include "proxy/http2/heads.h"
#include "proxy/http2/stream.h"
#include "proxy/http2/tunnel.h"

namespace sallyport::http2 {

class ServerConnection;

class ServerExchange final : public http::Exchange, private Stream {
 public:
  ServerExchange(ServerConnection& connection, request::Scheme scheme, std::int32_t id);

  // Why the request can't be served, if it can't: it is answered with an error where the stream is still open.
  const std::optional<http::RequestFailure>& failure() const { return failure_; }

  http::Version version() const override { return http::Version::http2; }
  request::RequestHead& head() override { return head_; }
  http::BodyInfo body() const override;
  bool expects_continue() const override { return info_.expect_continue; }
  bool accepts_trailers() const override { return info_.accepts_trailers; }
  bool wants_websocket() const override { return info_.websocket; }
  net::Task<Result<http::Chunk>> read_body(net::Deadline deadline) override { return receive(deadline); }
  Result<http::Chunk> buffered_body() override;
  const request::HeaderList& trailers() const override { return Stream::trailers(); }

  net::Task<Result<void>> inform(const request::ResponseHead& head) override;
  net::Task<Result<void>> respond(const request::ResponseHead& head, http::BodyInfo body, http::Chunk first) override;
  net::Task<Result<void>> write_body(http::Chunk chunk) override;
  net::Task<Result<void>> finish(const request::HeaderList* trailers) override;
  net::Task<Result<net::ByteStream*>> switch_protocols(const request::ResponseHead& head,
                                                       std::string_view& leftover) override;
  void abort() override;
  void close_after() override {}  // other streams go on
  void end_response() override;
  void cancel() override;
  void watch_peer(std::function<void()> gone) override;

 private:
  friend class ServerConnection;
  bool on_headers(std::unique_ptr<HeaderBlock> block, bool end) override;
  void on_lost() override;
  void refuse(Reason reason, std::string_view text);
  bool has_head() const { return head_block_ != nullptr; }
  void leave();
  std::uint32_t broken_off_code() const;

  ServerConnection& server_;
  request::Scheme scheme_;
  std::unique_ptr<HeaderBlock> head_block_;  // what the head's views point into
  request::RequestHead head_;
  RequestInfo info_;
  std::optional<http::RequestFailure> failure_;
  std::function<void()> gone_;
  std::optional<Tunnel> tunnel_;                // once a WebSocket was answered
  std::optional<std::uint64_t> response_left_;  // bytes that a sized response still owes
  bool ended_with_head_ = false;
  bool head_request_ = false;
  bool responded_ = false;
};

}  // namespace sallyport::http2
