#pragma once
// Percent escapes (RFC 3986, section 2.1) where each has one meaning: segments of a path, and names and values of a
// query.

#include <optional>
#include <string>
#include <string_view>

namespace sallyport::request {

// Everything but unreserved characters is escaped.
std::string percent_encoded(std::string_view text);

// Nothing: a '%' begins no escape.
std::optional<std::string> percent_decoded(std::string_view text);

}  // namespace sallyport::request
