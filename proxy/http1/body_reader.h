#pragma once
// The body of one message in a read buffer: by length, chunked, or until the connection closes (RFC 9112 section 6.3).

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "policy-engine/request/head.h"
#include "proxy/http/exchange.h"
#include "proxy/http1/chunked.h"
#include "proxy/http1/framing.h"
#include "proxy/net/read_buffer.h"
#include "proxy/net/stream.h"

namespace sallyport::http1 {

class BodyReader {
 public:
  // `length` with BodyKind::length. A body without bytes has ended at once.
  void start(BodyKind kind, std::uint64_t length);
  bool ended() const { return ended_; }

  // What `in` holds of the body, consumed from it: possibly nothing. The view is valid until the buffer is filled
  // again.
  Result<http::Chunk> take(net::ReadBuffer& in, ErrorSource source);
  // Waits for more bytes of the stream if `in` holds none of the body. For a body until close, an orderly end of the
  // stream is its end; for the others it is Error{closed}.
  net::Task<Result<http::Chunk>> read(net::Stream& stream, net::ReadBuffer& in, net::Deadline deadline);
  request::HeaderList& trailers() { return decoder_.trailers(); }
  const request::HeaderList& trailers() const { return const_cast<ChunkDecoder&>(decoder_).trailers(); }

 private:
  Result<http::Chunk> take_chunked(net::ReadBuffer& in, ErrorSource source);

  BodyKind kind_ = BodyKind::none;
  std::uint64_t left_ = 0;
  std::size_t last_fill_ = 0;
  bool ended_ = true;
  std::string_view queued_;  // payload of a second chunk, found while looking for the end behind a first
  ChunkDecoder decoder_;
};

// Reads into the free space of `in`, growing it up to `bytes_max` when it is full: the number of bytes, 0 at the end of
// the stream. Error{limit} when the buffer can't grow.
net::Task<Result<std::size_t>> fill(net::Stream& stream, net::ReadBuffer& in, std::size_t bytes_max,
                                    net::Deadline deadline);

}  // namespace sallyport::http1
