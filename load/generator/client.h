#pragma once
// A small HTTPS client for measuring proxies: blocking sockets, one request at a time on a connection, and no more of
// HTTP/1.1 than the benchmark's own origin speaks (status 200 and a Content-Length). Every failure ends the
// measurement.

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/unique_fd.h"

namespace sallyport::load {

struct Target {
  std::string address;  // IPv4, what is dialled
  std::uint16_t port = 443;
  std::string name;  // SNI, Host, and what the certificate must say
};

struct ContextFree {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using Context = std::unique_ptr<SSL_CTX, ContextFree>;

struct SessionFree {
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};
using Session = std::unique_ptr<SSL_SESSION, SessionFree>;

// TLS 1.3 with OpenSSL's defaults, trusting only the roots in `ca_file`. Sessions that servers offer can be kept.
Result<Context> make_context(const std::string& ca_file);

// From now on connections of this context offer HTTP/2 and nothing else.
Result<void> offer_http2(SSL_CTX* context);

// One TLS connection. Reads and writes give up after 30 seconds. TCP_NODELAY is set only when asked for, as in many
// client libraries: a proxy that keeps silent after the handshake is found out by it, with 40 ms a connection.
class Client {
 public:
  // `session` (may be null) is offered for resumption and stays the caller's.
  static Result<Client> connect(SSL_CTX* context, const Target& target, SSL_SESSION* session);

  // A GET; `send` returns when it is written, `receive` when the answer has been read: the bytes of its body.
  Result<void> send(std::string_view path);
  Result<std::uint64_t> receive();
  // A POST of `bytes` zeros, and its answer.
  Result<void> upload(std::string_view path, std::uint64_t bytes);

  // What a protocol of the caller's own needs instead of these: all of `bytes` is written; up to `bytes` are read, at
  // least one.
  Result<void> write(std::string_view bytes);
  Result<std::size_t> read(char* to, std::size_t bytes);
  // Sets TCP_NODELAY, as every library for HTTP/2 does.
  void send_at_once();
  bool agreed_on_http2() const;

  // Ends the connection in order, and returns the newest session that the server offered on it; null if none.
  Session close();

  bool resumed() const { return SSL_session_reused(ssl_.get()) == 1; }
  int descriptor() const { return socket_.get(); }

 private:
  struct SslFree {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  Client(UniqueFd socket, std::unique_ptr<SSL, SslFree> ssl, std::string host)
      : socket_(std::move(socket)), ssl_(std::move(ssl)), host_(std::move(host)) {}

  UniqueFd socket_;
  std::unique_ptr<SSL, SslFree> ssl_;
  std::string host_;
};

}  // namespace sallyport::load
