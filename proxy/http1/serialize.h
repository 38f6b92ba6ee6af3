#pragma once
// Heads of HTTP/1 messages to bytes, always as HTTP/1.1. What is written comes from parsed and checked parts; still, as
// the last line of defence, nothing is written that would end a line early or frame the message a second time: the
// functions then return false and leave `out` as it was. That is an error of this program, and the exchange must end
// with it.

#include <string>
#include <string_view>

#include "policy-engine/request/head.h"
#include "proxy/http1/framing.h"

namespace sallyport::http1 {

// Appends a request head. `target` goes out as it is; Host comes first.
bool serialize_request(std::string& out, std::string_view method, std::string_view target, std::string_view authority,
                       const request::HeaderList& headers, const Framing& framing);

// Appends a response head. For 1xx and 204 use BodyKind::none. For HEAD and 304 the body kind may be length, to pass on
// what Content-Length said; no body follows all the same.
bool serialize_response(std::string& out, int status, std::string_view reason, const request::HeaderList& headers,
                        const Framing& framing);

// Appends the last chunk, the trailers and the empty line.
bool serialize_trailers(std::string& out, const request::HeaderList& trailers);

}  // namespace sallyport::http1
