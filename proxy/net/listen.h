#pragma once
// Listening sockets by textual address, for the guard outside of `run`.

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace sallyport::net {

// "127.0.0.1:18001" or "[::1]:18001" (IPv6 only). Non-blocking, close-on-exec, TCP_NODELAY for what is accepted.
// `shared`: other sockets may listen on the same port (SO_REUSEPORT), one per worker. Errors name the address and the
// remedy.
Result<UniqueFd> listen_on(const std::string& address, bool shared);

}  // namespace sallyport::net
