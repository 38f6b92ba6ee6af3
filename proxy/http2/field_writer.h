#pragma once
// Heads to the name and value pairs that nghttp2 takes. Like http1/serialize.h it is the last line of defence: nothing
// is written that would frame a message or that a peer of HTTP/2 must refuse.

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/request/head.h"

namespace sallyport::http2 {

class FieldWriter {
 public:
  // False when something must not be written.
  bool response(int status, const request::HeaderList& headers, std::optional<std::uint64_t> content_length);
  // What a request says besides its fields.
  struct Target {
    std::string_view method, authority, path;
    std::string_view protocol = {};  // of an extended CONNECT (RFC 8441), whose method then is not sent
  };
  bool request(const Target& target, const request::HeaderList& headers, std::optional<std::uint64_t> content_length,
               bool te_trailers);
  bool trailers(const request::HeaderList& headers);

  // Good until the next call.
  std::span<const nghttp2_nv> fields() const { return fields_; }
  // Overwrites what was kept: it may hold a credential.
  void wipe();

 private:
  void begin(const request::HeaderList& headers, std::size_t more);
  std::string_view keep(std::string_view text, bool lower);
  void put(std::string_view name, std::string_view value);
  bool put_all(const request::HeaderList& headers, std::string_view but = {});

  std::string text_;
  std::vector<nghttp2_nv> fields_;
};

}  // namespace sallyport::http2
