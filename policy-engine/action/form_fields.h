#pragma once
// One field of a URL's query or of a body in application/x-www-form-urlencoded, from somebody hostile.

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport::action {

// What was found of one field; several texts may be looked into one after the other.
struct FormField {
  std::size_t count = 0;
  std::string value;  // decoded, of the last
};

// Adds what `encoded` has of the field. Fields are separated by '&', and by ';' too, as some servers do. Error: a name
// that some server takes for this one (case, brackets, spaces or a NUL around it, '.' for '_', escaped twice), or an
// escape that is none in it.
Result<void> find_field(std::string_view encoded, std::string_view name, FormField& field);

}  // namespace sallyport::action
