#pragma once
// The fields that the codec owns: they frame a message, route it, or belong to one connection (RFC 9110 section 7.6.1).

#include <cstdint>
#include <string_view>

namespace sallyport::http1 {

enum class Field : std::uint8_t {
  other,
  host,
  content_length,
  transfer_encoding,
  connection,
  upgrade,
  te,
  expect,
  hop_by_hop,  // Keep-Alive, Proxy-Connection, Proxy-Authorization, Proxy-Authenticate: understood by us, or by nobody
  disguised,   // a framing field with "_" or another byte for its "-": servers in the manner of CGI take it for the
               // field itself
};

Field classify(std::string_view name);

// Whether a Connection field that names this field is a trick: the field is meant for every recipient (RFC 9110 section
// 7.6.1), and removing it would change what the message means.
bool is_end_to_end(std::string_view name);

enum class TrailerUse : std::uint8_t {
  keep,
  drop,    // means nothing after the body, or must be seen before it: credentials, conditions, Content-*
  refuse,  // frames or routes a message: only an attack sends it here
};
TrailerUse trailer_use(std::string_view name);  // RFC 9110 section 6.5.1

}  // namespace sallyport::http1
