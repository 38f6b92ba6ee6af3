#pragma once
// Which protocol a new connection speaks, told from its first bytes, before any of them is acted on.

#include <span>
#include <string_view>

#include "base/error.h"
#include "proxy/net/client_hello.h"
#include "proxy/net/loop.h"

namespace sallyport::net {

enum class Protocol : std::uint8_t {
  need_more,   // undecided
  tls,         // a TLS or SSLv2 record that may hold a ClientHello
  http1,       // a method token and a space (RFC 9112 section 3), whatever the method
  h2_preface,  // HTTP/2 with prior knowledge (RFC 9113 section 3.4), the whole preface
  opaque,      // anything else
};

// Pure. Never changes its mind when more bytes follow, except from need_more.
Protocol classify(std::string_view bytes);

struct Sniffed {
  Protocol protocol = Protocol::opaque;  // never need_more
  std::size_t bytes = 0;                 // read into the buffer; what follows must be given them first
  bool server_first = false;  // opaque, because the client sent nothing until the deadline: it waits for the server
  ClientHello hello = {};     // for tls
};

// Reads from the socket into the buffer until the protocol is decided; for TLS until the ClientHello is complete. The
// buffer should hold limits::kSniffBytesMax: a hello that does not fit is malformed. Fails with source downstream and
// kind closed or reset (nothing to answer to), timeout (a ClientHello that was begun and not finished), malformed,
// cancelled. The deadline is the caller's: loop.in(limits::kSniffTimeout).
Task<Result<Sniffed>> sniff(Socket& socket, std::span<char> buffer, Deadline deadline);

}  // namespace sallyport::net
