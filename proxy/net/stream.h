#pragma once
// A byte stream over a socket, plain or TLS. OpenSSL does the handshake; once the first data has come the records are
// ours (tls_records.h), if they are of TLS 1.3. No buffers of our own per connection.
// At most one coroutine reads and one writes at a time. Everything fails with Error of the source given at construction
// (downstream or upstream).

#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "base/error.h"
#include "proxy/net/byte_stream.h"
#include "proxy/net/loop.h"
#include "proxy/net/socket_bio.h"
#include "proxy/net/tls_records.h"

namespace sallyport::net {

struct SslDeleter {
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
};
using SslPtr = std::unique_ptr<SSL, SslDeleter>;

class Stream final : public ByteStream {
 public:
  Stream(Loop& loop, UniqueFd fd, ErrorSource source);
  ~Stream() override;  // marks a TLS session that was not shut down as reusable (SSL_set_shutdown), then closes

  Socket& socket() { return socket_; }
  Loop& loop() override { return socket_.loop(); }
  // Null without TLS, and when the connection has been taken over from OpenSSL: for the time of the handshake.
  SSL* ssl() { return ssl_.get(); }
  // True once a handshake has been completed.
  bool tls() const { return secured_; }
  ErrorSource source() const override { return source_; }
  // The protocol that ALPN agreed on; empty without TLS or ALPN.
  std::string_view alpn() const;
  // On the wire: TLS counts with its records.
  std::uint64_t bytes_received() const { return transport_.received; }
  std::uint64_t bytes_sent() const { return transport_.sent; }

  // Takes the SSL (modes PARTIAL_WRITE, ACCEPT_MOVING_WRITE_BUFFER, RELEASE_BUFFERS are set here, read_ahead on) and
  // does the handshake in the role that the SSL was set to (SSL_set_accept_state or SSL_set_connect_state).
  // `already_read` are bytes taken from the socket before TLS (the sniffed ClientHello); they are fed to OpenSSL first,
  // and must stay until this has returned. After a failure ssl() is still there to be asked why.
  Task<Result<void>> handshake(SslPtr ssl, std::string_view already_read, Deadline deadline);

  // Reads at least one byte into a buffer that is not empty. 0 means an orderly end: FIN on a plain stream,
  // close_notify on TLS. A TLS stream that ends without close_notify is Error{closed}: truncation is the caller's to
  // judge.
  Task<Result<std::size_t>> read_some(std::span<char> buffer, Deadline deadline) override;
  // What is there now, without waiting: nullopt when nothing is known to be. After a read that came up short only
  // wait_readable() finds out that more has come.
  std::optional<Result<std::size_t>> try_read(std::span<char> buffer);
  // Resumes when there is something to read: bytes inside the TLS layer count. For idle keep-alive waits, so that no
  // read buffer is held meanwhile. What is there may turn out to be TLS's own (a ticket): then try_read gives nullopt;
  // wait again.
  Task<Wait> wait_readable(Deadline deadline) override;
  // True if the TLS layer holds bytes that a read can turn into something.
  bool has_pending() const {
    return records_ ? records_->has_pending() : ssl_ && !starved_ && SSL_has_pending(ssl_.get()) == 1;
  }
  // For a pooled connection: true if nothing but TLS's own messages has come, so that it is as good as before; false if
  // the peer went away or spoke out of turn. Without `ask` only what TLS has read already is looked at, and not what
  // may wait in the kernel: for who knows that the loop would have called Socket::on_idle_event.
  bool still_idle(bool ask);
  // True if nothing has ended, failed, been cancelled, or been left unread: a new exchange may follow on it.
  bool reusable() const;

  // Writes everything. After a failure the stream can't be written to again; if it was the peer that took nothing, it
  // ends with a reset.
  Task<Result<void>> write_all(std::string_view bytes, Deadline deadline) override {
    return write_all(bytes, {}, deadline);
  }
  // Gathers: one record and one system call where it fits (head and first body bytes). The bytes must stay until this
  // has returned.
  Task<Result<void>> write_all(std::string_view first, std::string_view second, Deadline deadline);

  // Takes the connection over from OpenSSL, which then goes, if data has come and nothing is on its way through it. For
  // one that is going to be idle; one that goes on being used does it by itself. One that ends after its first exchange
  // does not pay for it.
  void take_over();

  // Sends the acknowledgement that the kernel holds back (40 ms) in the hope of data to ride on. For waits in which the
  // peer may hold back its next bytes for exactly that: it has not set TCP_NODELAY (many libraries don't), and writes
  // in small pieces.
  void acknowledge_now();

  // Sends FIN, and close_notify before it on TLS. Never blocks; errors are ignored: there is nobody to tell.
  void shutdown_write() override;
  // What was sent must not look complete: shutdown_write() does nothing from now on, so that TLS ends without
  // close_notify. With `reset` closing sends a reset: the only sign for a peer that takes a FIN for the end of a body.
  void break_off(bool reset);
  void abort() override {
    break_off(true);
    cancel();
  }
  // Every present and later wait ends: cancelled.
  void cancel() override { socket_.cancel(); }

 private:
  // What one non-blocking call came to.
  enum class Want : std::uint8_t { nothing, read, write, failed };
  struct Step {
    Want want = Want::nothing;
    std::size_t count = 0;
  };
  Step step_read(std::span<char> buffer);
  Step tls_read(std::span<char> buffer);
  Step records_read(std::span<char> buffer);
  Step records_write(std::string_view first, std::string_view second);
  void take_over_if_used();
  void let_go_of_ssl();
  Step step_write(std::string_view first, std::string_view second);
  Want handshake_step();
  Want after_tls_call(int result);
  bool may_read() const;
  Task<Result<void>> handshake_steps(Deadline deadline);
  Task<Result<void>> wait_for(Want want, std::string_view doing, Deadline deadline);
  Task<Result<void>> wait_to_write(Want want, Deadline deadline);
  Error failure(std::string_view doing);
  std::string sentence(std::string_view doing, std::string_view what) const;

  Socket socket_;
  Transport transport_;
  ErrorSource source_;
  bool secured_ = false;
  bool write_broken_ = false;      // a write failed or was given up halfway: nothing sensible can follow it
  bool broken_off_ = false;        // the peer is to notice that something is missing
  bool write_blocked_ = false;     // a writer waits with half a record in the TLS layer
  bool read_wants_write_ = false;  // the last read can't go on before the socket is writable
  bool starved_ = false;           // what the TLS layer holds is part of a record: it needs more bytes
  std::string alpn_;
  std::unique_ptr<HandshakeWatch> watch_;  // while OpenSSL has a connection that can be taken over
  std::unique_ptr<TlsRecords> records_;    // and once it has been
  SslPtr ssl_;
};

}  // namespace sallyport::net
