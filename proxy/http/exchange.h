#pragma once
// The two sides of one HTTP exchange as the chain sees them. A codec (proxy/http1, proxy/http2) implements them;
// nothing above this header knows which. The guard's forward stage pulls from one side and pushes into the other, one
// bounded chunk in flight each way, so that back-pressure is the waiting itself.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/reason.h"
#include "policy-engine/request/head.h"
#include "proxy/net/byte_stream.h"
#include "proxy/net/loop.h"
#include "proxy/net/task.h"

namespace sallyport::http {

// What a head says about the body that follows.
struct BodyInfo {
  enum class Kind : std::uint8_t {
    empty,     // no body
    sized,     // `length` bytes
    streamed,  // unknown length: chunked, until close, or HTTP/2 without content-length
  };
  Kind kind = Kind::empty;
  std::uint64_t length = 0;
  // A response without body whose head nevertheless had a Content-Length (HEAD, 304): it is passed on in `length`.
  bool length_without_body = false;
};

// A piece of a body. `data` is valid until the next read on the same side. `end`: nothing follows but trailers.
struct Chunk {
  std::string_view data;
  bool end = false;
};

enum class Version : std::uint8_t { http1, http2 };

// Why no request could be read. `answer`: the client should get an HTTP error where it can.
struct RequestFailure {
  Reason reason = Reason::malformed_http;
  std::string text;
  bool answer = false;
};

// The function's side: it has sent a request and waits for the response.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual Version version() const = 0;
  virtual request::RequestHead& head() = 0;
  virtual BodyInfo body() const = 0;
  virtual bool expects_continue() const = 0;  // RFC 9110 section 10.1.1
  virtual bool accepts_trailers() const = 0;  // RFC 9110 section 10.1.4
  virtual bool wants_websocket() const = 0;   // RFC 6455 over HTTP/1, RFC 8441 over HTTP/2

  // The next piece of the request body. Once it has returned an end, `trailers` is filled and it must not be called
  // again.
  virtual net::Task<Result<Chunk>> read_body(net::Deadline deadline) = 0;
  // What has already arrived: may be empty, never waits. Views of head() stay valid; after read_body() they are gone.
  virtual Result<Chunk> buffered_body() = 0;
  virtual const request::HeaderList& trailers() const = 0;

  // A 1xx response other than 101. Any number, before respond().
  virtual net::Task<Result<void>> inform(const request::ResponseHead& head) = 0;
  // The final response, with what is there of its body, in one write.
  virtual net::Task<Result<void>> respond(const request::ResponseHead& head, BodyInfo body, Chunk first) = 0;
  virtual net::Task<Result<void>> write_body(Chunk chunk) = 0;
  // Ends a body whose respond() or write_body() did not carry the end. `trailers` may be null.
  virtual net::Task<Result<void>> finish(const request::HeaderList* trailers) = 0;
  // Answers 101, or over HTTP/2 200, and hands out the stream; `leftover` gets the bytes that came after the request's
  // head. What only one connection's handshake has in it is not in the head: the key's answer.
  virtual net::Task<Result<net::ByteStream*>> switch_protocols(const request::ResponseHead& head,
                                                               std::string_view& leftover) = 0;
  // The response can't be completed: the client must be able to tell (no final chunk, connection closed, stream reset).
  virtual void abort() = 0;
  // After this exchange the connection is not used again (HTTP/1).
  virtual void close_after() = 0;
  // The response is complete, none follows, and the request is still being sent: tells the client so (HTTP/1: FIN).
  // What it sends can still be read.
  virtual void end_response() = 0;
  // Ends every wait of this side, at once: policy change, shutdown.
  virtual void cancel() = 0;
  // Calls back, once at most, when the client goes away while nobody reads from it: a response that nobody waits for
  // need not be fetched. An empty function ends the watch.
  virtual void watch_peer(std::function<void()> gone) = 0;
};

// What came back from the upstream's head.
struct UpstreamHead {
  int status = 0;
  BodyInfo body;
};

// The upstream's side: one request sent over a pooled connection.
class UpstreamExchange {
 public:
  virtual ~UpstreamExchange() = default;

  struct Request {
    const request::RequestHead* head = nullptr;
    std::string_view target;     // canonical
    std::string_view authority;  // canonical
    BodyInfo body;
    bool websocket = false;  // HTTP/1: an upgrade; HTTP/2: extended CONNECT. The method is GET either way
    bool te_trailers = false;
    const request::HeaderList* trailers = nullptr;  // sent if the first chunk is the end; may be null
  };
  virtual net::Task<Result<void>> send(const Request& request, Chunk first) = 0;
  virtual net::Task<Result<void>> write_body(Chunk chunk) = 0;
  virtual net::Task<Result<void>> finish(const request::HeaderList* trailers) = 0;

  // The next response head: 1xx any number of times, then the final one. Views in `head` stay valid until read_body().
  virtual net::Task<Result<UpstreamHead>> read_head(request::ResponseHead& head, net::Deadline deadline) = 0;
  virtual net::Task<Result<Chunk>> read_body(net::Deadline deadline) = 0;
  virtual Result<Chunk> buffered_body() = 0;
  virtual const request::HeaderList& trailers() const = 0;
  // After a 101, which over HTTP/2 a 200 is given out as: the stream, and the bytes that followed the head.
  virtual net::ByteStream* switched(std::string_view& leftover) = 0;

  // True once any byte of a response has come: a failure is not retried any more.
  virtual bool response_started() const = 0;
  // True when the server has said that it did nothing with the request: it may be sent again, whatever its method.
  virtual bool unprocessed() const { return false; }
  // True when request and response are complete and the connection may carry another exchange.
  virtual bool reusable() const = 0;
  virtual void cancel() = 0;
};

}  // namespace sallyport::http
