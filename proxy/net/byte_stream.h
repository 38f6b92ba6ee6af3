#pragma once
// Bytes in both directions between the guard and one peer, with an end of each: a connection, or one stream of HTTP/2
// that has become a tunnel (RFC 9113 section 8.5, RFC 8441). What relays bytes need not know which.

#include <cstddef>
#include <span>
#include <string_view>

#include "base/error.h"
#include "proxy/net/task.h"
#include "proxy/net/waiter.h"

namespace sallyport::net {

class Loop;

// At most one coroutine reads and one writes at a time.
class ByteStream {
 public:
  ByteStream() = default;
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;
  virtual ~ByteStream() = default;

  virtual Loop& loop() = 0;
  virtual ErrorSource source() const = 0;

  // Resumes when a read would return something: bytes, the end, or a failure. The peer may send more from now on: who
  // waits has passed on what was read before.
  virtual Task<Wait> wait_readable(Deadline deadline) = 0;
  // Reads at least one byte into a buffer that is not empty; 0 is an orderly end (FIN, close_notify, END_STREAM).
  virtual Task<Result<std::size_t>> read_some(std::span<char> buffer, Deadline deadline) = 0;
  // Returns when all of it is on its way, which the peer may delay. The bytes must stay until then. ErrorKind::closed
  // if the peer has ended in order, and takes nothing any more.
  virtual Task<Result<void>> write_all(std::string_view bytes, Deadline deadline) = 0;
  // An orderly end of what this side sends; reading goes on.
  virtual void shutdown_write() = 0;
  // The peer is to see that it was broken off: a reset of TCP, RST_STREAM with CANCEL. Every wait ends.
  virtual void abort() = 0;
  // Every present and later wait ends: cancelled.
  virtual void cancel() = 0;
};

}  // namespace sallyport::net
