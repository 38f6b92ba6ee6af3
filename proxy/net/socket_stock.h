#pragma once
// Sockets of a network namespace that this process is not in: somebody who is in it makes them and sends them here.

#include "base/error.h"
#include "base/unique_fd.h"
#include "proxy/net/loop.h"
#include "proxy/net/task.h"

namespace sallyport::net {

class SocketStock {
 public:
  // `channel`: out of which the sockets come, one a packet.
  SocketStock(Loop& loop, UniqueFd channel) : channel_(loop, std::move(channel)) {}

  // A new TCP socket that is not connected, non-blocking and close-on-exec. Errors: timeout; closed when nobody makes
  // them any more.
  Task<Result<UniqueFd>> take(Deadline deadline);

 private:
  Socket channel_;
};

}  // namespace sallyport::net
