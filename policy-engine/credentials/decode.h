#pragma once
// The spellings in which a placeholder may travel. Lenient on purpose: they are only searched, never forwarded.

#include <optional>
#include <string>
#include <string_view>

namespace sallyport::credentials {

// "%41" becomes "A"; a percent sign without two hex digits after it stays.
std::string percent_decoded(std::string_view text);

// The decoded credentials of "Basic …" (RFC 7617), in either base64 alphabet, with or without padding, up to the first
// byte that is neither; nothing if the value has another scheme.
std::optional<std::string> basic_credentials(std::string_view value);

}  // namespace sallyport::credentials
