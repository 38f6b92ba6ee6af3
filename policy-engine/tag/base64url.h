#pragma once
// RFC 4648 section 5, without padding, and with one text for each sequence of bytes.

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sallyport::tag {

std::string to_base64url(std::string_view bytes);

// Nothing for other bytes than the alphabet's, a length that no text has, and bits behind the last byte that are not 0.
std::optional<std::string> from_base64url(std::string_view text);

}  // namespace sallyport::tag
