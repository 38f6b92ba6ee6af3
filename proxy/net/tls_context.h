#pragma once
// TLS towards the function: one server SSL_CTX per worker; the leaf is set on each SSL.

#include <openssl/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "ca/leaf_cache.h"
#include "proxy/net/stream.h"

namespace sallyport::net {

class ServerTls {
 public:
  // `protocols`: what ALPN may choose, best first ("http/1.1"). A client that offers ALPN without any of them is
  // refused.
  static Result<std::unique_ptr<ServerTls>> create(OSSL_LIB_CTX* lib, std::vector<std::string> protocols);
  ~ServerTls();
  ServerTls(const ServerTls&) = delete;
  ServerTls& operator=(const ServerTls&) = delete;

  // An SSL in accept state that shows this leaf. Tickets are bound to `host`: one that was given out under another name
  // is not accepted. `reversed`: of the protocols the last is the best.
  Result<SslPtr> accept_for(const ca::Leaf& leaf, std::string_view host, bool reversed = false);
  // A handshake of this one has been completed: what it tells of the worth of tickets. A ticket is a tenth of what a
  // connection costs, and many clients never come back with one: while nobody does, few are given out.
  void completed(const SSL* ssl);

 private:
  struct Impl;
  explicit ServerTls(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::net
