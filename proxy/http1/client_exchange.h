#pragma once
// HTTP/1 towards the upstream: sends one request over a stream and reads its responses.

#include <cstdint>
#include <string>

#include "proxy/http/exchange.h"
#include "proxy/http1/body_reader.h"
#include "proxy/http1/parser.h"
#include "proxy/net/read_buffer.h"
#include "proxy/net/stream.h"

namespace sallyport::http1 {

class ClientExchange final : public http::UpstreamExchange {
 public:
  void attach(net::Stream& stream);
  void detach();

  net::Task<Result<void>> send(const Request& request, http::Chunk first) override;
  net::Task<Result<void>> write_body(http::Chunk chunk) override;
  net::Task<Result<void>> finish(const request::HeaderList* trailers) override;
  net::Task<Result<http::UpstreamHead>> read_head(request::ResponseHead& head, net::Deadline deadline) override;
  net::Task<Result<http::Chunk>> read_body(net::Deadline deadline) override;
  Result<http::Chunk> buffered_body() override { return body_.take(in_, ErrorSource::upstream); }
  const request::HeaderList& trailers() const override { return body_.trailers(); }
  net::ByteStream* switched(std::string_view& leftover) override;
  bool response_started() const override { return response_started_; }
  bool reusable() const override;
  void cancel() override { stream_->cancel(); }

 private:
  net::Task<Result<void>> write(std::string_view first, std::string_view second);
  bool accepts_websocket(const request::HeaderList& headers) const;

  net::Stream* stream_ = nullptr;
  net::ReadBuffer in_;
  std::string out_;
  ResponseInfo info_;
  BodyReader body_;
  std::uint64_t request_left_ = 0;
  bool head_request_ = false;
  bool websocket_ = false;
  std::string websocket_accept_;  // what the server has to answer
  bool chunked_ = false;
  bool request_complete_ = false;
  bool response_started_ = false;
  bool final_head_ = false;
  bool content_taken_ = true;  // false: a 100 was asked for and has not come
  bool keep_alive_ = true;     // what every response head so far has said, the informational ones with it
};

}  // namespace sallyport::http1
