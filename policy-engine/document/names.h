#pragma once
// The forms of names in a policy.

#include <string_view>

namespace sallyport::document {

// Names of endpoints and credentials, and of a function: up to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit at
// both ends. They become labels of metrics and fields of records as they are.
bool is_label(std::string_view text);

// A DNS subdomain (RFC 1123): up to 253 of a-z, 0-9, '.' and '-', a letter or digit at both ends of each part.
bool is_subdomain(std::string_view text);

// The name of an environment variable: a letter or '_', then letters, digits and '_'.
bool is_variable(std::string_view text);

// RFC 9110 section 5.6.2.
bool is_token(std::string_view text);

// A method as a rule may name it: a token in upper case, but not CONNECT, which the guard never relays, and none of the
// words that people write for "any".
bool is_policy_method(std::string_view text);

}  // namespace sallyport::document
