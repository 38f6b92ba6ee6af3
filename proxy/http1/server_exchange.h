#pragma once
// HTTP/1 towards the function: reads one request after the other from a stream and answers it. One object serves one
// exchange at a time; an idle connection keeps none (they are recycled per worker).

#include <cstdint>
#include <string>

#include "proxy/http/exchange.h"
#include "proxy/http1/body_reader.h"
#include "proxy/http1/parser.h"
#include "proxy/net/read_buffer.h"
#include "proxy/net/stream.h"

namespace sallyport::http1 {

using http::RequestFailure;

class ServerExchange final : public http::Exchange {
 public:
  // Takes the stream for one or more exchanges; `first_bytes` (kBufferBytes at most) were read from it already.
  void attach(net::Stream& stream, std::string_view first_bytes);
  // Forgets the stream, wipes heads, gives the buffer back.
  void detach();

  enum class Read : std::uint8_t { request, end };
  // The next request head, or the end of the stream between requests.
  net::Task<std::expected<Read, RequestFailure>> read_request(net::Deadline deadline);
  // True when bytes of a next (pipelined) request are here already.
  bool has_buffered() const { return !in_.empty(); }
  // True if the connection can carry another exchange: request read to its end, response complete, nobody wants to
  // close.
  bool can_continue() const;
  // Before the stream is closed: lets a client that is still sending read the answer (RFC 9112 section 9.6).
  net::Task<void> linger();

  http::Version version() const override { return http::Version::http1; }
  request::RequestHead& head() override { return head_; }
  http::BodyInfo body() const override;
  bool expects_continue() const override { return info_.expect_continue; }
  bool accepts_trailers() const override { return info_.accepts_trailers; }
  // Not where the key is missing that the answer has to be made from: then it is a request like others.
  bool wants_websocket() const override { return !websocket_accept_.empty(); }
  net::Task<Result<http::Chunk>> read_body(net::Deadline deadline) override;
  Result<http::Chunk> buffered_body() override { return body_.take(in_, ErrorSource::downstream); }
  const request::HeaderList& trailers() const override { return body_.trailers(); }

  net::Task<Result<void>> inform(const request::ResponseHead& head) override;
  net::Task<Result<void>> respond(const request::ResponseHead& head, http::BodyInfo body, http::Chunk first) override;
  net::Task<Result<void>> write_body(http::Chunk chunk) override;
  net::Task<Result<void>> finish(const request::HeaderList* trailers) override;
  net::Task<Result<net::ByteStream*>> switch_protocols(const request::ResponseHead& head,
                                                       std::string_view& leftover) override;
  void abort() override;
  void close_after() override { close_ = true; }
  void end_response() override;
  void cancel() override { stream_->cancel(); }
  void watch_peer(std::function<void()> gone) override;

 private:
  enum class Response : std::uint8_t { none, bodyless, sized, chunked, until_close, complete, broken };
  void begin();
  void note_websocket();
  RequestFailure failure_of(const Error& error, bool begun) const;
  Response body_form(const request::ResponseHead& head, http::BodyInfo body, Framing& framing) const;
  net::Task<Result<void>> write(std::string_view first, std::string_view second);

  net::Stream* stream_ = nullptr;
  net::ReadBuffer in_;
  request::RequestHead head_;
  RequestInfo info_;
  BodyReader body_;
  std::string out_;                  // what is being sent beside body bytes
  std::uint64_t response_left_ = 0;  // bytes that a sized response still owes
  Response response_ = Response::none;
  std::string websocket_accept_;  // that the request's key is answered with; empty: no WebSocket is asked for
  bool head_request_ = false;     // head_ is gone once the body is read
  bool close_ = false;
  std::function<void()> gone_;
};

}  // namespace sallyport::http1
