#pragma once
// The bottom of a TLS connection: an OpenSSL BIO over a non-blocking socket that knows more than the stock one. It
// feeds bytes that were sniffed before TLS began, spares the system call that would only say EAGAIN, sends without
// SIGPIPE, and remembers how the socket ended. Plain streams use the same two functions without the BIO.

#include <openssl/bio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sallyport::net {

struct Transport {
  int fd = -1;
  std::string_view sniffed;  // read before the socket is; belongs to whoever set it
  // Nothing can be there to read until the loop says so: a read came up short, or the socket is new.
  bool drained = true;
  bool ended = false;       // the peer's FIN has been read
  bool spoke_last = false;  // we have sent since we last received
  // errno of a failed call: that direction is of no use any more. The other may be: a server that refuses a body early
  // has often sent its answer before the write fails.
  int receive_error = 0;
  int send_error = 0;
  std::uint64_t received = 0;  // bytes on the wire, the sniffed ones included
  std::uint64_t sent = 0;

  // As recv() and send(): bytes moved; 0 at the end of the stream (receive only); -1 with an error set, or
  // without one if the call would have blocked.
  std::ptrdiff_t receive(std::span<char> buffer);
  std::ptrdiff_t send(std::string_view first, std::string_view second = {});

  // Takes all of it: what the socket has no room for is kept here, and goes before anything else. For bytes that can't
  // be made a second time.
  void push(std::string_view bytes);
  // Whether something is kept that flush() has yet to send.
  bool holds() const { return !unsent_.empty(); }

  // TLS records that follow each other at once go into one system call: from gather() to flush() what is sent is only
  // collected, in memory that all transports of a thread share. So nothing may wait in between.
  void gather() { gathering_ = true; }
  // Sends what was collected. False if some of it is left, which is kept here and goes before anything else: the socket
  // is full, or has failed (send_error).
  bool flush();

 private:
  std::ptrdiff_t collect(std::string_view bytes);
  std::ptrdiff_t send_now(std::string_view first, std::string_view second);
  bool gathering_ = false;
  std::string unsent_;
};

// A BIO over `transport`, which must outlive it. nullptr when out of memory.
BIO* new_socket_bio(Transport& transport);

}  // namespace sallyport::net
