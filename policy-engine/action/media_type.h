#pragma once
// What the Content-Type of a request says (RFC 9110 section 8.3.1), where it says one thing to every reader.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace sallyport::action {

struct MediaType {
  std::string type;                                             // "application/json", in lower case
  std::vector<std::pair<std::string, std::string>> parameters;  // names in lower case

  // Null where it is absent.
  const std::string* parameter(std::string_view name) const;
};

// ErrorKind::malformed: no media type, or a parameter that is there twice.
Result<MediaType> parse_media_type(std::string_view text);

}  // namespace sallyport::action
